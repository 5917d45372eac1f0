"""Where a store's URL leads, without a server."""

from typing import Any

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError

from kafka_once.errors import ConfigurationError
from kafka_once.stores import redis_places
from kafka_once.stores.redis_places import Place, place_of, without_password

KEY = "kafka-once:{g}:meta"
SLOT = key_slot(KEY.encode())


def place(url: str, **options: object) -> Place:
    return place_of(url, KEY, 1.0, options=options)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", {"host": "h", "port": 1, "db": 2, "username": None, "password": None}),
        ("redis://u:p%40@h", {"host": "h", "port": 6379, "db": 0, "username": "u", "password": "p@"}),
        ("unix:///run/r.sock?db=3", {"path": "/run/r.sock", "db": 3}),
    ],
)
def test_one_address(url: str, expected: dict[str, object]) -> None:
    connection = place(url).connection()
    for name, value in expected.items():
        assert getattr(connection, name) == value


def test_time_outs_and_retries_are_ours_whatever_the_url_says() -> None:
    url = "redis://h?socket_timeout=60&retry_on_timeout=yes&health_check_interval=5&max_connections=3&protocol=3"
    connection = place(url, socket_keepalive=True).connection()
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (1.0, 1.0)
    assert connection.retry_on_timeout is False
    assert connection.health_check_interval == 0
    assert connection.socket_keepalive is True


def found_by(sentinels: Any, address: tuple[str, int]) -> None:
    sentinels._sentinel.discover_master = lambda service: address if service == "claims" else ("wrong", 1)


def test_a_primary_that_was_replaced_before_it_answered_is_not_taken() -> None:
    sentinels: Any = place("redis+sentinel://a/claims")
    found_by(sentinels, ("primary", 7))
    sentinels.connection()
    sentinels.confirm()

    found_by(sentinels, ("replica", 7))

    with pytest.raises(redis.ConnectionError, match="another primary"):
        sentinels.confirm()


@pytest.mark.parametrize(("scheme", "kind"), [("redis", redis.Connection), ("rediss", redis.SSLConnection)])
def test_sentinels_tell_the_primary_and_the_url_tells_the_rest(scheme: str, kind: type) -> None:
    url = f"{scheme}+sentinel://u:p%2F@a:1,[::1],b/claims/4?sentinel_username=su&sentinel_password=sp&client_name=c"
    sentinels: Any = place(url)
    found_by(sentinels, ("primary", 7))

    connection = sentinels.connection()

    assert type(connection) is kind
    assert (connection.host, connection.port, connection.db) == ("primary", 7, 4)
    assert (connection.username, connection.password, connection.client_name) == ("u", "p/", "c")
    pools = [client.connection_pool for client in sentinels._sentinel.sentinels]
    told = [(pool.connection_kwargs["host"], pool.connection_kwargs["port"]) for pool in pools]
    assert told == [("a", 1), ("::1", 26379), ("b", 26379)]
    assert all(issubclass(pool.connection_class, kind) for pool in pools)
    assert {pool.connection_kwargs["username"] for pool in pools} == {"su"}
    assert {pool.connection_kwargs["password"] for pool in pools} == {"sp"}
    assert sum(pool.connection_kwargs["socket_timeout"] for pool in pools) == pytest.approx(1.0)


class FakeNode:
    """What a node of a cluster answers."""

    answers: dict[tuple[str, int], Any]

    def __init__(self, address: tuple[str, int]) -> None:
        self._answer = self.answers[address]

    def slots(self) -> list[Any]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer  # type: ignore[no-any-return]

    def close(self) -> None: ...


def in_cluster(monkeypatch: pytest.MonkeyPatch, url: str, answers: dict[tuple[str, int], Any]) -> Any:
    FakeNode.answers = answers
    monkeypatch.setattr(redis_places, "_Asked", lambda connection: FakeNode((connection.host, connection.port)))
    return place(url)


def node(host: str | bytes | None, port: int) -> list[Any]:
    return [host, port, b"id", []]


def test_any_node_that_answers_tells_who_owns_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = [[0, SLOT - 1, node(b"x", 1)], [SLOT, 16383, node(b"y", 2), node(b"z", 3)]]
    silent = redis.ConnectionError("refused")
    cluster = in_cluster(
        monkeypatch, "redis+cluster://u:p@a:1,b", {("a", 1): silent, ("b", 6379): slots, ("z", 3): slots}
    )

    connection = cluster.connection()
    assert (connection.host, connection.port, connection.username, connection.db) == ("y", 2, "u", 0)

    cluster.failed(redis.ConnectionError("died"))
    FakeNode.answers = {("b", 6379): silent, ("x", 1): silent, ("y", 2): silent, ("z", 3): [[0, 16383, node("z", 3)]]}
    connection = cluster.connection()
    assert (connection.host, connection.port) == ("z", 3)  # a replica, known from before


@pytest.mark.parametrize("unknown", [None, b"", "?"])
def test_a_node_that_does_not_know_its_name_is_where_it_was_asked(
    monkeypatch: pytest.MonkeyPatch, unknown: str | None
) -> None:
    cluster = in_cluster(monkeypatch, "redis+cluster://a:1", {("a", 1): [[0, 16383, node(unknown, 9)]]})
    connection = cluster.connection()
    assert (connection.host, connection.port) == ("a", 9)


def test_moved_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = in_cluster(monkeypatch, "redis+cluster://a:1", {("a", 1): [[0, 16383, node(b"a", 1)]]})
    cluster.connection()
    cluster.failed(MovedError(f"{SLOT} c:5"))
    connection = cluster.connection()
    assert (connection.host, connection.port) == ("c", 5)


def test_a_slot_that_nobody_serves_and_nodes_that_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = in_cluster(monkeypatch, "redis+cluster://a:1", {("a", 1): [[SLOT + 1, 16383, node(b"a", 1)]]})
    with pytest.raises(ClusterDownError):
        cluster.connection()
    FakeNode.answers = {("a", 1): redis.TimeoutError()}
    with pytest.raises(redis.ConnectionError, match="no node of the cluster answered"):
        cluster.connection()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:hunter2@h",
        "redis+sentinel://:hunter2@/claims",
        "redis+sentinel://:hunter2@h:x/claims",
        "redis+sentinel://:hunter2@h/claims/zero",
        "redis+cluster://:hunter2@h,",
        "redis+cluster://:hunter2@h/3",
        "redis+nothing://:hunter2@h",
        "redis://:hunter2@h?no_such=thing",
        "nothing",
    ],
)
def test_what_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redis\+sentinel://") as refused:
        place(url)
    assert "hunter2" not in f"{refused.value!r} {refused.value} {refused.value.__context__!r}"


def test_it_is_shown_without_a_password() -> None:
    url = "redis+sentinel://u:hunter2@a:1,b:2/claims/0?sentinel_password=hunter2"
    assert without_password(url) == place(url).shown == "redis+sentinel://a:1,b:2/claims/0"
