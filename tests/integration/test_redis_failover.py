"""The primary dies, freezes, or hands its slot over, while work goes on: behind sentinels, and in a cluster."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
import redis

from kafka_once import App, header
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.core.claims import Completion, Grant
from kafka_once.errors import ConfigurationError, StoreRefused, StoreUnavailable
from kafka_once.member import Adapters
from kafka_once.ports import ClaimAsk, CompleteAsk, Namespace
from kafka_once.stores.redis import RedisStore, open_shards
from kafka_once.stores.redis_wire import key_prefix
from kafka_once.testing.services import GuardedRedis, RedisCluster
from kafka_once.testing.services.redis import LocalRedis
from kafka_once.testing.store_workers import Worker, digest, until
from tests.conftest import or_skip

pytestmark = pytest.mark.integration

LEASE_MS = 2_000
PATIENCE_S = 60.0
SECRET = "s3cret"


@pytest.fixture
def guarded() -> Iterator[GuardedRedis]:
    """As in production: a primary that is cut off from its replicas acknowledges nothing."""
    careful = {"min-replicas-to-write": "1", "min-replicas-max-lag": "2"}
    with or_skip(lambda: GuardedRedis(replicas=2, sentinels=3, password=SECRET, config=careful)) as started:
        yield started


@pytest.fixture
def pair() -> Iterator[GuardedRedis]:
    """One replica, and one sentinel with a password of its own, which needs no election."""
    with or_skip(
        lambda: GuardedRedis(replicas=1, sentinels=1, password=SECRET, sentinel_password="another")
    ) as started:
        yield started


@pytest.fixture(scope="module")
def quiet() -> Iterator[GuardedRedis]:
    """Nothing happens to it."""
    with or_skip(lambda: GuardedRedis(replicas=0, sentinels=1, password=SECRET)) as started:
        yield started


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with or_skip(lambda: RedisCluster(primaries=3, replicas=1)) as started:
        yield started


@pytest.fixture
def namespace() -> Namespace:
    return Namespace("cluster", f"group-{uuid.uuid4().hex}")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_store(url: str, namespace: Namespace, stack: ExitStack) -> RedisStore:
    store = RedisStore(url, namespace, lease_ms=LEASE_MS)
    stack.callback(store.close)
    return store


# ---------------------------------------------------------------------------------------------------- a group at work


@dataclass
class Books:
    """What ran, in books of their own, and a signal when it is enough."""

    runs: Counter[str] = field(default_factory=Counter)
    begun: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def begin(self, key: str) -> None:
        with self.changed:
            self.begun.add(key)
            self.changed.notify_all()

    def write(self, key: str) -> None:
        with self.changed:
            self.runs[key] += 1
            self.changed.notify_all()

    def wait_for_begun(self, key: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.begun, PATIENCE_S), f"{key} never began"

    def wait_for(self, keys: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.runs) >= keys, PATIENCE_S), f"{len(self.runs)} of {keys}"


class Group:
    """Two members of a consumer group on a log in memory; their claims are at `url`."""

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        messages: int,
        gates: Mapping[str, threading.Event] | None = None,
        shards: int = 1,
    ) -> None:
        """`gates`: these keys end when their gate is open."""
        self._shards = shards
        self._gates = gates or {}
        self.books, self.log, self.messages = Books(), MemoryCluster(), messages
        self.log.create_topic("payments", 4)
        self.apps = [self._app(url, namespace) for _ in range(2)]
        for app in self.apps:
            app.start()

    def _app(self, url: str, namespace: Namespace) -> App:
        adapters = Adapters(
            lambda made: MemoryBroker(self.log, made.group, made.instance_id),
            lambda _settings, _namespace: open_shards(url, namespace, self._shards, lease_ms=LEASE_MS),
        )
        app = App("memory:9092", group="g", store=url, lease="2s", commit_every="50ms", adapters=adapters)
        pause = threading.Event()

        @app.handler("payments", key=header("id"))
        def charge(payment: bytes) -> None:
            key = payment.decode()
            self.books.begin(key)
            pause.wait(0.002)  # the work
            if key in self._gates:
                self._gates[key].wait(PATIENCE_S)
            self.books.write(key)

        return app

    def produce(self, begin: int, end: int, repeats: int) -> None:
        """Each once, and the first ones a second time, in another partition."""
        for number in range(begin, end):
            self.send(number, number % 4)
        for number in range(begin, begin + repeats):
            self.send(number, (number + 1) % 4)

    def send(self, number: int, partition: int) -> None:
        key = str(number).encode()
        self.log.produce("payments", None, key, [("id", key)], partition)

    def settled(self) -> bool:
        committed = sum(known.offset for name, known in self.log.committed("g").items() if name.topic == "payments")
        return committed == len(self.log.records("payments"))

    def end(self) -> Counter[str]:
        """Wait until everything is settled, stop, and add up what both counted."""
        waiting = threading.Event()
        for _ in range(int(PATIENCE_S * 20)):
            if self.settled():
                break
            waiting.wait(0.05)  # what is committed can only be asked for
        assert self.settled(), "stuck"
        counted: Counter[str] = Counter()
        for app in self.apps:
            app.stop()
            assert app.join(PATIENCE_S)
            counted.update(app.stats())
        return counted


def check_nothing_is_lost_and_what_ran_twice_is_counted(group: Group, counted: Counter[str]) -> None:
    runs = group.books.runs
    assert set(runs) == {str(number) for number in range(group.messages)}
    again = sum(count - 1 for count in runs.values())
    assert again <= counted["doubled"] + counted["in_doubt"], (again, counted)
    assert counted["store_changes"] == 2  # each of them saw it
    names = ("completed", "redelivery", "repeat", "dead_lettered", "skipped", "handed_back", "dropped")
    assert sum(counted[name] for name in names) == counted["deliveries"]


def freeze(server: LocalRedis) -> None:
    server.pause()


@pytest.mark.parametrize("end", [LocalRedis.kill, freeze], ids=["killed", "frozen"])
def test_work_goes_on_with_the_replica_when_the_primary_is_gone(
    guarded: GuardedRedis, namespace: Namespace, end: Callable[[LocalRedis], None]
) -> None:
    group = Group(guarded.url, namespace, 900)
    group.produce(0, 600, repeats=200)
    group.books.wait_for(200)

    ended = guarded.fail_over(end)
    group.produce(600, 900, repeats=100)
    if ended.pid is not None:
        ended.resume()  # it holds itself for the primary until a sentinel tells it better
    counted = group.end()

    check_nothing_is_lost_and_what_ran_twice_is_counted(group, counted)
    assert counted["repeat"] + counted["redelivery"] >= 300


@pytest.mark.parametrize("shards", [1, 5])
def test_work_goes_on_in_a_cluster_through_a_moved_slot_and_a_dead_node(
    cluster: RedisCluster, namespace: Namespace, shards: int
) -> None:
    key = f"{key_prefix(namespace, shards - 1)}meta"
    group = Group(cluster.url, namespace, 900, shards=shards)
    group.produce(0, 300, repeats=100)
    group.books.wait_for(100)
    cluster.move(key)
    group.produce(300, 600, repeats=100)
    group.books.wait_for(400)
    ended = cluster.fail_over(key)
    group.produce(600, 900, repeats=100)
    try:
        counted = group.end()
    finally:
        ended.restart()

    assert counted.pop("store_changes") >= 4  # both saw both
    check_nothing_is_lost_and_what_ran_twice_is_counted(group, counted | Counter(store_changes=2))


def test_what_the_new_primary_forgot_is_told_again(pair: GuardedRedis, namespace: Namespace) -> None:
    """The replica stands still while keys are completed and one begins; then it is the primary."""
    gate = threading.Event()
    group = Group(pair.url, namespace, 301, {"300": gate})
    group.produce(0, 200, repeats=0)
    group.books.wait_for(200)
    pair.wait_for_replicas()
    primary = pair.primary
    pair.cut_off_replicas()
    for number in range(200, 300):
        group.send(number, 1 + number % 3)
    group.send(300, 0)
    group.books.wait_for(300)
    group.books.wait_for_begun("300")
    with primary.client() as client:
        until(lambda: namespace_done(client, namespace) == 300, "all are completed")
    primary.kill()
    pair.wait_for_another(primary)

    for number in range(200, 300):
        group.send(number, 1 + (number + 1) % 3)
    group.send(300, 3)  # behind all the others
    until(lambda: sum(app.stats()["repeat"] for app in group.apps) >= 100, "the repeats are settled")
    assert group.books.runs["300"] == 0  # it runs still, and nobody else began it
    gate.set()
    counted = group.end()

    assert group.books.runs == Counter({str(number): 1 for number in range(301)})
    assert counted["forgotten"] == 100
    assert (counted["doubled"], counted["in_doubt"]) == (0, 0)


def namespace_done(client: redis.Redis, namespace: Namespace) -> int:
    """Done keys in the buckets, counted from outside."""
    pattern = key_prefix(namespace).replace("{", "[{]") + "d:*"
    parts = client.scan_iter(match=pattern, count=10_000)
    return sum(len(bucket) // 16 for part in parts for field, bucket in client.hgetall(part).items() if field)


# ------------------------------------------------------------------------------------------------------ the store alone


def test_a_store_finds_the_new_primary_and_a_sentinel_that_still_answers(
    guarded: GuardedRedis, namespace: Namespace, opened: ExitStack
) -> None:
    one = Worker(open_store(guarded.url, namespace, opened))
    own = one.own()
    one.claim(digest("held"), own)
    first = one.exchange().server
    guarded.wait_for_replicas()
    guarded.fail_over()
    guarded.end_sentinel()

    reply = one.exchange(completes=[CompleteAsk(digest("held"), one.session.number)])

    assert reply.server not in ("", first)
    assert reply.completes == [Completion.APPLIED]


def test_after_a_failover_nothing_is_granted_anew_for_a_lease_but_to_who_holds_it(
    pair: GuardedRedis, namespace: Namespace, opened: ExitStack
) -> None:
    one, other = (Worker(open_store(pair.url, namespace, opened)) for _ in range(2))
    own, others = one.own(), other.own("topic", 1)
    done = digest("done")
    one.claim(done, own)
    one.complete(done)
    pair.wait_for_replicas()
    pair.fail_over()

    asks = [ClaimAsk(digest("new"), own.number, 0), ClaimAsk(digest("running"), own.number, 1, held=True)]
    answers = one.exchange(claims=[*asks, ClaimAsk(done, own.number, 2)])
    if answers.session_lives:
        assert [answer.grant for answer in answers.claims] == [Grant.BUSY, Grant.ACQUIRED, Grant.DUPLICATE]
    else:  # the failover took longer than the lease
        one = Worker(open_store(pair.url, namespace, opened))
        own = one.own()
    until(lambda: one.claim(digest("other"), own).grant is Grant.ACQUIRED, "the grace period ends")
    del others


def test_the_pipe_finds_the_new_primary(pair: GuardedRedis, namespace: Namespace, opened: ExitStack) -> None:
    one = Worker(open_store(pair.url, namespace, opened))
    pipe = open_store(pair.url, namespace, opened).pipe()
    opened.callback(pipe.drop)

    def asked() -> str:
        call = one.prepare()
        pipe.send(one.session, call)
        until(pipe.readable, "an answer")
        return pipe.receive(one.session, call).server  # type: ignore[attr-defined,no-any-return]

    def asked_again() -> str:
        try:
            return asked()
        except StoreUnavailable:
            pipe.drop()
            return ""

    first = asked()
    pair.fail_over()
    servers: list[str] = []
    until(lambda: servers.append(asked_again()) or servers[-1] not in ("", first), "another server answers")


def test_sentinels_that_know_no_such_service_are_silence(quiet: GuardedRedis, namespace: Namespace) -> None:
    store = RedisStore(quiet.url.replace("/claims/", "/other/"), namespace)
    with pytest.raises(StoreUnavailable, match="no sentinel answered with a primary of that name") as silence:
        store.check()
    assert SECRET not in str(silence.value)


def test_a_sentinel_is_no_store_and_a_server_is_no_sentinel(quiet: GuardedRedis, namespace: Namespace) -> None:
    sentinel = quiet.url.partition("@")[2].partition(",")[0]
    with pytest.raises(StoreRefused):
        RedisStore(f"redis://{sentinel}", namespace).check()
    with pytest.raises((StoreRefused, StoreUnavailable)):
        RedisStore(f"redis+sentinel://127.0.0.1:{quiet.primary.port}/claims", namespace).check()


def test_a_store_follows_its_slot_and_while_it_moves_nothing_is_executed(
    cluster: RedisCluster, namespace: Namespace, opened: ExitStack
) -> None:
    store = open_store(cluster.url, namespace, opened)
    one = Worker(store)
    own = one.own()
    names = [digest(f"{at}") for at in range(40)]
    one.exchange(claims=[ClaimAsk(name, own.number, at) for at, name in enumerate(names)])
    key = f"{key_prefix(namespace)}meta"
    held, fresh = one.session.number, digest("fresh")
    finishing = one.prepare(completes=[CompleteAsk(name, held) for name in names])
    claiming = one.prepare(claims=[ClaimAsk(fresh, own.number, 99)])
    silences = []

    def between() -> None:
        for exchange in (finishing, claiming, one.prepare()):
            with pytest.raises(StoreUnavailable) as silence:
                store.exchange(exchange)
            silences.append(str(silence.value))

    before = cluster.owner_of(key)
    cluster.move(key, between)
    assert len(silences) == 3

    assert cluster.owner_of(key) is not before
    reply = one.exchange(finishing)
    assert set(reply.completes) == {Completion.APPLIED}  # each claim was there
    assert store.survey().claims == 0


def test_one_node_of_a_cluster_says_how_to_name_it(cluster: RedisCluster, namespace: Namespace) -> None:
    owner = cluster.owner_of(f"{key_prefix(namespace)}meta")
    other = next(node for node in cluster.primaries() if node is not owner)
    with pytest.raises(StoreRefused, match=r"redis\+cluster://"):
        RedisStore(other.url, namespace).check()
    RedisStore(owner.url, namespace).check()


def test_a_server_that_is_no_cluster_says_how_to_name_it(quiet: GuardedRedis, namespace: Namespace) -> None:
    url = f"redis+cluster://:{SECRET}@127.0.0.1:{quiet.primary.port}"
    with pytest.raises(StoreRefused, match="no Redis Cluster"):
        RedisStore(url, namespace).check()


def test_a_cluster_has_one_database(namespace: Namespace) -> None:
    with pytest.raises(ConfigurationError):
        RedisStore("redis+cluster://localhost/3", namespace)
