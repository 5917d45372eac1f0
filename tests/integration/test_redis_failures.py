"""What a Redis server can do wrong, and what the store says to it."""

import itertools
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import redis

from kafka_once.core.claims import Completion, Grant, Release
from kafka_once.errors import ConfigurationError, StoreRefused, StoreUnavailable
from kafka_once.ports import ClaimAsk, CompleteAsk, Exchange, FrontierMark, Namespace, OwnershipAsk, ReleaseAsk
from kafka_once.stores.redis import RedisStore, open_shards
from kafka_once.stores.redis_wire import key_prefix
from kafka_once.testing.services import RedisServer, start_redis
from kafka_once.testing.store_workers import Worker, digest, until
from tests.conftest import or_skip
from tests.integration.proxies import Proxy

pytestmark = pytest.mark.integration

KEY = digest("key")
RIGHTS = "+@read +@write +@scripting +@connection +time -@dangerous +info +config|get"  # as docs/operations.md has them
SECRET = "s3cret/word"
OpenStore = Callable[..., RedisStore]


@pytest.fixture(scope="module", params=["embedded", "local"])
def server(request) -> Iterator[RedisServer]:
    with or_skip(lambda: start_redis(request.param)) as started:
        yield started


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    with or_skip(lambda: start_redis("embedded", password=SECRET)) as started:
        yield started


@pytest.fixture
def client(server) -> Iterator[redis.Redis]:
    with server.client() as made:
        yield made


@pytest.fixture
def namespace() -> Namespace:
    return Namespace("cluster", secrets.token_hex(8))


@pytest.fixture
def open_store(server, namespace) -> Iterator[OpenStore]:
    opened = []

    def make(url: str = server.url, **settings) -> RedisStore:
        opened.append(RedisStore(url, namespace, **{"lease_ms": 30_000, "timeout_ms": 5_000, **settings}))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    made = Proxy(server.url)
    yield made
    made.close()


def keys(client: redis.Redis, namespace: Namespace, kind: str) -> list[bytes]:
    return list(client.scan_iter(match=key_prefix(namespace).replace("{", "[{]") + kind, count=10_000))


class TestNoAnswer:
    """The call was executed and its answer is lost: StoreUnavailable, and repeating the call makes it definite."""

    def test_a_repeated_exchange_gets_the_same_answers(self, open_store, proxy):
        one, other = Worker(open_store()), Worker(open_store(proxy.url, timeout_ms=100))
        own, others = one.own("topic", 1), other.own()
        one.claim(digest("vanished"), own)
        one.claim(digest("held"), one.own("topic", 2))
        one.end(own)
        other.claim(digest("finished"), others)
        other.claim(digest("failed"), others)
        names = ["free", "vanished", "held", "finished", "failed"]
        exchange = other.prepare(
            completes=[CompleteAsk(digest("finished"), other.session.number)],
            releases=[ReleaseAsk(digest("failed"), other.session.number, other.call, failed=True)],
            frontiers=[FrontierMark(others.number, 4)],
            claims=[ClaimAsk(digest(name), others.number, at) for at, name in enumerate(names)],
        )
        with proxy.holding_answers(), pytest.raises(StoreUnavailable, match="did not answer in time"):
            other.store.exchange(exchange)
        assert one.store.survey().frontiers, "it was executed"
        repeated = other.store.exchange(exchange)
        assert repeated == other.store.exchange(exchange)
        grants = [answer.grant for answer in repeated.claims]
        assert grants == [Grant.ACQUIRED, Grant.ACQUIRED, Grant.BUSY, Grant.DUPLICATE, Grant.ACQUIRED]
        assert [answer.doubt for answer in repeated.claims] == [False, True, False, False, False]
        assert [answer.attempts for answer in repeated.claims] == [0, 0, 0, 0, 1]
        assert repeated.completes == [Completion.APPLIED]
        assert repeated.releases == [Release.FENCED]  # given back already
        assert len(other.store.doubts()) == 1

    def test_a_repeated_opening_and_taking_get_the_same_answers(self, open_store, proxy):
        store = open_store(proxy.url, timeout_ms=100)
        with proxy.holding_answers(), pytest.raises(StoreUnavailable):
            store.open_session(5)
        session = store.open_session(5)
        ask = [OwnershipAsk("topic", 0)]
        with proxy.holding_answers(), pytest.raises(StoreUnavailable):
            store.take_ownerships(session, 1, ask)
        assert store.take_ownerships(session, 1, ask)[0].epoch == 1
        assert store.survey().sessions == 1

    def test_a_late_answer_is_never_read_as_that_of_another_call(self, open_store, proxy):
        one = Worker(open_store(proxy.url, timeout_ms=100))
        own = one.own()
        for at in range(5):
            with proxy.holding_answers(), pytest.raises(StoreUnavailable):
                one.store.exchange(one.prepare(claims=[ClaimAsk(digest(f"{at}"), own.number, at)]))
            # the late answer is on its way now: one claim, granted
            assert one.exchange().claims == []
            assert one.store.survey().sessions == 1

    def test_a_server_that_hangs_is_given_up_before_the_lease_ends(self):
        with or_skip(lambda: start_redis("embedded")) as server:
            one = Worker(RedisStore(server.url, Namespace("c", "g"), lease_ms=1200))
            own = one.own()
            server.pause()
            try:
                begin = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    one.store.exchange(one.prepare(claims=[ClaimAsk(KEY, own.number, 0)]))
                assert time.monotonic() - begin < 1.2
            finally:
                server.resume()
            assert one.exchange().session_lives in (True, False)  # an answer, whichever
            one.store.close()

    def test_a_server_that_is_gone_and_back(self):
        with or_skip(lambda: start_redis("embedded", config={"appendfsync": "always"})) as server:
            one = Worker(RedisStore(server.url, Namespace("c", "g"), lease_ms=60_000))
            own = one.own()
            one.claim(KEY, own)
            server.kill()
            exchange = one.prepare(completes=[CompleteAsk(KEY, one.session.number)])
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    one.store.exchange(exchange)
            server.restart()  # it kept the claim, and forgot the scripts
            assert one.exchange(exchange).completes == [Completion.APPLIED]
            one.store.close()

    def test_forgotten_scripts_are_sent_again(self, open_store, client):
        one = Worker(open_store())
        own = one.own()
        client.script_flush()
        assert one.store.exchange(one.prepare(claims=[ClaimAsk(KEY, own.number, 0)])).claims[0].grant is Grant.ACQUIRED


class TestPassingStates:
    """The server says why it will not: nothing was done, and the same call works later."""

    def test_out_of_memory_refuses_claims_and_lets_work_end(self):
        with or_skip(lambda: start_redis("embedded")) as server, server.client() as client:
            one = Worker(RedisStore(server.url, Namespace("c", "g")))
            own = one.own()
            one.claim(KEY, own)
            client.config_set("maxmemory", 1)
            claim = one.prepare(claims=[ClaimAsk(digest("next"), own.number, 1)])
            with pytest.raises(StoreUnavailable, match="out of memory"):
                one.store.exchange(claim)
            assert one.store.exchange(one.prepare(completes=[CompleteAsk(KEY, one.session.number)])).completes == [
                Completion.APPLIED
            ]
            client.config_set("maxmemory", 0)
            assert one.store.exchange(claim).claims[0].grant is Grant.ACQUIRED
            one.store.close()

    def test_a_replica_is_no_answer(self):
        with or_skip(lambda: start_redis("embedded")) as server, server.client() as client:
            one = Worker(RedisStore(server.url, Namespace("c", "g")))
            client.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreUnavailable, match="replica"):
                one.store.exchange(one.prepare())
            client.replicaof("NO", "ONE")
            assert one.store.exchange(one.prepare()).session_lives
            one.store.close()

    def test_a_slow_script_of_somebody_else_is_no_answer(self):
        with or_skip(lambda: start_redis("embedded", config={"lua-time-limit": "1"})) as server:
            one = Worker(RedisStore(server.url, Namespace("c", "g"), lease_ms=60_000))
            slow = threading.Thread(target=lambda: self._ignoring(server.client().eval, "while true do end", 0))
            slow.start()

            def is_busy() -> bool:
                try:
                    one.store.exchange(one.prepare())
                except StoreUnavailable as error:
                    return "slow script" in str(error)
                return False

            until(is_busy, "the script runs")
            with server.client() as client:
                client.script_kill()
            slow.join()
            assert one.lives()
            one.store.close()

    @staticmethod
    def _ignoring(call, *args) -> None:
        with suppress(redis.RedisError):
            call(*args)


class TestRefused:
    """Repeating will not help; the text says what will."""

    @pytest.mark.parametrize("user", ["", ":wr0ng%2Fpass@", "somebody:wr0ng%2Fpass@"])
    def test_a_wrong_password(self, guarded, user):
        address = guarded.url.rpartition("@")[2]
        store = RedisStore(f"redis://{user}{address}", Namespace("c", "g"))
        for call in (store.check, lambda: store.open_session(1)):
            with pytest.raises(StoreRefused, match="password") as refused:
                call()
            for text in (str(refused.value), repr(refused.value), repr(store)):
                assert "wr0ng" not in text
                assert address.partition("/")[0] in text or text == repr(store)

    def test_the_right_password(self, guarded):
        store = RedisStore(guarded.url, Namespace("c", "g"))
        store.check()
        assert "s3cret" not in repr(store)
        store.close()

    @pytest.mark.parametrize(
        ("rules", "allowed"),
        [
            (["~kafka-once:*", "+@all", "-config", "-info"], "warned"),
            (["~kafka-once:*", "+@read", "+@write", "+@scripting", "+@connection", "+time"], "warned"),
            (["~kafka-once:*", "+@read", "+@write", "+@scripting", "+@connection", "+time", "-@dangerous"], "warned"),
            ([*RIGHTS.split(), "~kafka-once:*"], "quiet"),
            (["~kafka-once:*", "+@all"], "quiet"),
            (["~elsewhere:*", "+@all"], "refused"),
            (["~kafka-once:*", "+@all", "-zadd"], "refused"),
            (["~kafka-once:*", "+@all", "-evalsha"], "refused"),
        ],
    )
    def test_what_a_user_may_do(self, server, client, namespace, rules, allowed):
        client.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">word", *rules)
        store = RedisStore(server.url.replace("redis://", "redis://worker:word@"), namespace)
        if allowed == "refused":
            with pytest.raises(StoreRefused, match="may not run a command or touch a key"):
                store.check()
        else:
            assert any("maxmemory-policy" in warning for warning in store.check()) == (allowed == "warned")
            worker = Worker(store)
            assert worker.claim(KEY, worker.own()).grant is Grant.ACQUIRED
        store.close()

    def test_a_server_that_evicts(self):
        evicting = {"maxmemory-policy": "volatile-ttl", "appendonly": "no"}
        with or_skip(lambda: start_redis("embedded", config=evicting)) as server:
            with pytest.raises(StoreRefused, match="set maxmemory-policy to noeviction"):
                RedisStore(server.url, Namespace("c", "g")).check()
            warnings = RedisStore(server.url, Namespace("c", "g"), allow_eviction=True).check()
        assert any("volatile-ttl" in warning for warning in warnings)
        assert any("keeps nothing on disk" in warning for warning in warnings)

    def test_a_well_set_server_gets_no_warning(self, open_store):
        assert open_store().check() == []

    @pytest.mark.parametrize("foreign", [b"locked", b"", b"\x21newer version"])
    def test_a_foreign_value_under_a_claim(self, open_store, client, namespace, foreign):
        one = Worker(open_store())
        own = one.own()
        name = f"{key_prefix(namespace)}c"
        client.hset(name, KEY, foreign)
        for asks in (
            {"claims": [ClaimAsk(digest("fine"), own.number, 0), ClaimAsk(KEY, own.number, 1)]},
            {"completes": [CompleteAsk(KEY, one.session.number)]},
            {"releases": [ReleaseAsk(KEY, one.session.number, one.call)]},
        ):
            with pytest.raises(StoreRefused, match="unknown kind"):
                one.exchange(**asks)
        assert client.hgetall(name) == {KEY: foreign}

    def test_a_value_of_another_type_under_a_claim(self, open_store, client, namespace):
        one = Worker(open_store())
        own = one.own()
        client.set(f"{key_prefix(namespace)}c", "value")
        with pytest.raises(StoreRefused, match="another type"):
            one.claim(KEY, own)

    def test_an_unknown_done_value(self, open_store, client, namespace):
        one = Worker(open_store())
        own = one.own()
        one.complete(KEY)
        (part,) = keys(client, namespace, "d:*")
        client.hset(part, KEY[:2], KEY[2:] + struct.pack("<H", 2 * 8192))
        with pytest.raises(StoreRefused, match="unknown kind"):
            one.claim(KEY, own)

    @pytest.mark.parametrize(("field", "value"), [("format", "99"), ("cluster", "other"), ("group", "other")])
    def test_a_foreign_namespace(self, open_store, client, namespace, field, value):
        store = open_store()
        store.check()
        client.hset(f"{key_prefix(namespace)}meta", field, value)
        for call in (store.check, lambda: store.open_session(1), store.survey):
            with pytest.raises(StoreRefused, match="another database"):
                call()

    def test_another_number_of_shards(self, server, namespace):
        looked_at = open_shards(server.url, namespace, 1)
        looked_at.check()  # nobody has worked with it
        two = open_shards(server.url, namespace, 2)
        two.open_session(1)
        for shards in (1, 3):
            other = open_shards(server.url, namespace, shards)
            with pytest.raises(StoreRefused, match="set shards to 2"):
                other.check()
            other.close()
        assert two.survey().sessions == 1
        for store in (looked_at, two):
            store.close()

    def test_an_address_that_is_none(self):
        for url in (
            "http://user:hunter2@host",
            "redis://:hunter2@host:port/0",
            "redis://:hunter2@host/0?db=x",
            "redis://:hunter2@host/0?no_such=setting",
            "redis+sentinel://:hunter2@host:26379",
            "redis+cluster://:hunter2@host/1",
            "redis+cloud://:hunter2@host",
        ):
            with pytest.raises(ConfigurationError) as refused:
                RedisStore(url, Namespace("c", "g"))
            assert "hunter2" not in str(refused.value)

    def test_a_timeout_that_is_not_shorter_than_the_lease(self):
        with pytest.raises(ConfigurationError, match="shorter than the lease"):
            RedisStore("redis://localhost", Namespace("c", "g"), lease_ms=500, timeout_ms=500)

    def test_settings_in_the_url_do_not_undo_the_timeout(self, server):
        store = RedisStore(f"{server.url}?socket_timeout=60&retry_on_timeout=yes", Namespace("c", "g"), lease_ms=900)
        connection = store._find(store._timeout_s).connection()
        assert connection.socket_timeout == pytest.approx(0.3)
        assert connection.retry_on_timeout is False


class TestMemoryLost:
    def test_a_flushed_server_is_noticed_and_work_ends(self, open_store, client, namespace):
        one = Worker(open_store())
        own = one.own()
        one.claim(KEY, own)
        other = open_store()
        assert not other.is_new()
        client.delete(*keys(client, namespace, "*"))
        reply = one.exchange(
            completes=[CompleteAsk(KEY, one.session.number)], claims=[ClaimAsk(digest("next"), own.number, 1)]
        )
        assert not reply.session_lives
        assert reply.completes == [Completion.FORGOTTEN]
        assert reply.claims[0].grant is Grant.GONE
        assert one.store.is_new()


class TestDoneKeys:
    """Windows and buckets: `done_keys.lua`."""

    WINDOW = struct.Struct("<3I3Q")  # number, width, count, opened, ended, remember

    def windows(self, client, namespace) -> list[tuple[int, ...]]:
        return list(self.WINDOW.iter_unpack(client.hget(f"{key_prefix(namespace)}meta", "windows")))

    def test_buckets_hold_nothing_but_records_and_all_parts_expire(self, open_store, client, namespace):
        one = Worker(open_store())
        own = one.own()
        made = [secrets.token_bytes(16) for _ in range(5000)]
        one.exchange(completes=[CompleteAsk(key, one.session.number) for key in made])
        grants = one.exchange(claims=[ClaimAsk(key, own.number, 0) for key in made]).claims
        assert {answer.grant for answer in grants} == {Grant.DUPLICATE}
        ((number, width, done, *_),) = self.windows(client, namespace)
        assert (number, width, done) == (1, 1, 5000)
        parts = keys(client, namespace, "d:*")
        assert len(parts) == 3
        held = [
            field + bucket[at : at + 14]
            for part in parts
            for field, bucket in client.hgetall(part).items()
            for at in range(0, len(bucket) if field else 0, 16)
        ]
        assert sorted(held) == sorted(made)
        assert {client.object("encoding", part) for part in parts} == {b"hashtable"}
        assert all(client.pttl(part) > 86_400_000 for part in parts)

    def test_a_record_is_found_where_records_are_and_nowhere_between(self, open_store, client, namespace):
        one = Worker(open_store())
        own = one.own()
        first, second = b"ab" + bytes(range(14)), b"ab" + bytes(range(14, 28))
        one.exchange(completes=[CompleteAsk(first, one.session.number), CompleteAsk(second, one.session.number)])
        (part,) = keys(client, namespace, "d:*")
        bucket = client.hget(part, b"ab")
        across = bytes(bucket[8:22])
        assert one.claim(b"ab" + across, own).grant is Grant.ACQUIRED
        one.complete(b"ab" + across)
        for key in (first, second, b"ab" + across):
            assert one.claim(key, own).grant is Grant.DUPLICATE

    def test_a_full_window_is_followed_by_a_wider_one_and_stays_in_sight(self, open_store, client, namespace):
        one = Worker(open_store())
        own = one.own()
        one.complete(digest("before"))
        ((number, width, _, *times),) = self.windows(client, namespace)
        full = self.WINDOW.pack(number, width, 24 * 65_536, *times)
        client.hset(f"{key_prefix(namespace)}meta", "windows", full)
        after = [secrets.token_bytes(16) for _ in range(100)]
        one.exchange(completes=[CompleteAsk(key, one.session.number) for key in after])
        one.complete(digest("before"))
        newest, earlier = self.windows(client, namespace)
        assert newest[:3] == (2, 4, 100)
        assert earlier[4] > 0, "it is closed"
        assert len(keys(client, namespace, "d:2:*")) > 3, "the wider one has more parts"
        for key in (digest("before"), *after):
            assert one.claim(key, own).grant is Grant.DUPLICATE

    def test_keys_are_remembered_over_turns_of_the_window(self, open_store, client, namespace):
        remember_ms = 400
        one = Worker(open_store(remember_ms=remember_ms))
        own = one.own()
        begin = time.monotonic()
        for at in itertools.count():
            key, completed = digest(str(at)), time.monotonic()
            one.complete(key)
            last = self.windows(client, namespace)[0][0]
            while time.monotonic() < completed + remember_ms / 1000 * 0.6:
                answer = one.claim(key, own)
                if time.monotonic() < completed + remember_ms / 1000:  # else this machine stalled
                    assert answer.grant is Grant.DUPLICATE
            if last >= 3 and time.monotonic() > begin + 1.5:
                break
        assert len(self.windows(client, namespace)) <= 3

    def test_a_longer_memory_is_promised_by_a_window_of_its_own(self, open_store, client, namespace):
        short, long = Worker(open_store(remember_ms=1000)), Worker(open_store(remember_ms=100_000))
        short.complete(digest("short"))
        long.complete(digest("long"))
        short.complete(digest("also long"))
        assert [window[5] for window in self.windows(client, namespace)] == [100_000, 1000]
        assert [window[2] for window in self.windows(client, namespace)] == [2, 1]


class TestBounds:
    def test_what_was_given_back_is_forgotten_in_time_and_swept_out_when_the_next_one_comes(
        self, open_store, client, namespace
    ):
        one = Worker(open_store(remember_ms=50))
        own, held = one.own(), f"{key_prefix(namespace)}c"

        def fail(name: str) -> None:
            one.claim(digest(name), own)
            one.exchange(releases=[ReleaseAsk(digest(name), one.session.number, one.call, failed=True)])

        for name in ("first", "second"):
            fail(name)
        assert one.store.survey().claims == 0
        until(lambda: client.zcount(f"{key_prefix(namespace)}y", 0, time.time() * 1000 - 5) == 2, "their time is over")
        assert one.claim(digest("first"), own).attempts == 0
        fail("third")
        assert client.hexists(held, digest("first"))
        assert not client.hexists(held, digest("second"))
        assert client.zrange(f"{key_prefix(namespace)}y", 0, -1) == [digest("third")]
        assert one.store.survey().claims == 1

    def test_counters_of_old_sessions_are_added_up(self, open_store, client, namespace):
        store = open_store()
        for token in range(1005):
            session = store.open_session(token)
            store.report(session, {"deliveries": 1})
            store.close_session(session)
        assert store.survey().counters == {"deliveries": 1005}
        assert client.hlen(f"{key_prefix(namespace)}n") == 1001

    def test_old_doubts_are_trimmed_when_new_ones_are_listed(self, open_store):
        one, other = Worker(open_store()), Worker(open_store(remember_ms=1))
        own, others = one.own(), other.own("topic", 1)
        for at in range(3):
            one.claim(digest(str(at)), own)
        one.end(own)
        for at in range(3):
            begin = time.time_ns() // 1_000_000
            until(lambda begin=begin: time.time_ns() // 1_000_000 > begin + 2, "some milliseconds pass")
            other.claim(digest(str(at)), others, at)
        assert [doubt.offset for doubt in other.store.doubts()] == [2]


def test_a_group_name_cannot_move_the_slot():
    tags = set()
    for group in ("a", "{a}b", "}{", "a b", "ä" * 100):
        prefix = key_prefix(Namespace("c", group))
        tag = prefix[prefix.index("{") + 1 : prefix.index("}")]
        assert tag.isascii()
        assert not set("{}") & set(tag)
        tags.add(tag)
    assert len(tags) == 5
    assert key_prefix(Namespace("ab", "c")) != key_prefix(Namespace("a", "bc"))


def test_an_exchange_without_a_session_answers_all(open_store):
    store = open_store()
    worker = Worker(store)
    nobody = worker.session._replace(number=worker.session.number + 5)
    reply = store.exchange(Exchange(nobody, 1, claims=[ClaimAsk(KEY, 1, 0)], ends=[1]))
    assert not reply.session_lives
    assert reply.claims[0].grant is Grant.GONE
