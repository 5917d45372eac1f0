"""The stores, through the public suite: in memory, and on every server that is supported: each version, behind
sentinels, and in a cluster."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from kafka_once.core.claims import Grant, Release
from kafka_once.ports import ClaimAsk, Namespace, Store
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.stores.redis import RedisStore, open_shards
from kafka_once.stores.sharded import ShardedStore, shard_of
from kafka_once.testing.services import GuardedRedis, RedisCluster, RedisServer, start_redis
from kafka_once.testing.services.redis_programs import VERSIONS
from kafka_once.testing.store_conformance import KEY, StoreConformance
from kafka_once.testing.store_lockstep import check_lockstep
from kafka_once.testing.store_workers import StoreOpener, Worker, digest
from tests.conftest import or_skip


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def open_store(self) -> StoreOpener:
        state = MemoryState()

        def opener(namespace: Namespace, *, lease_ms: int, remember_ms: int) -> Store:
            return MemoryStore(namespace, lease_ms, remember_ms, state=state)

        return opener


class ShardsConformance(StoreConformance):
    """Three shards as one store."""

    def test_in_a_lane_only_a_prefix_is_claimed(self, worker: Callable[..., Worker]) -> None:
        """Shards do not see each other's refusals: what they grant behind one, the caller gives back."""
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        keys = [digest(f"{at}") for at in range(24)]
        for key in keys[8::8]:
            other.claim(key, others)
        asks = [ClaimAsk(key, own.number, at, follows=at > 0) for at, key in enumerate(keys)]
        answers = [answer.grant for answer in one.exchange(claims=asks).claims]
        assert set(answers[:8]) == {Grant.ACQUIRED}
        assert answers[8] is Grant.BUSY
        assert answers[16] in (Grant.BUSY, Grant.SKIPPED)
        behind = [answers[at] for at in range(9, 24) if shard_of(keys[at], 3) == shard_of(keys[8], 3)]
        assert set(behind) == {Grant.SKIPPED}
        assert {Grant.ACQUIRED, Grant.SKIPPED, Grant.BUSY} == set(answers[8:])

    # Ownerships stand in the list of doubts by the numbers that the key's shard gave them.

    def test_a_claim_whose_session_is_closed_is_reclaimed_in_doubt(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        one.claim(KEY, one.own())
        others = other.own("topic", 1)
        one.leave()
        assert other.claim(KEY, others, 7).grant is Grant.RECLAIMED
        (doubt,) = other.store.doubts()
        assert doubt[:5] == (KEY, "topic", 1, 7, 0)
        assert doubt.earlier != doubt.newer

    def test_a_repeated_release_in_doubt_is_listed_once(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        one.claim(KEY, own, 3)
        for expected in (Release.APPLIED, Release.FENCED):
            assert one.release(KEY, 2, own, doubt=True, failed=True, offset=3) is expected
        (doubt,) = one.store.doubts()
        assert doubt[:5] == (KEY, "topic", 0, 3, 1)
        assert doubt.earlier == doubt.newer


class TestMemoryShards(ShardsConformance):
    @pytest.fixture
    def open_store(self) -> StoreOpener:
        states = [MemoryState() for _ in range(3)]

        def opener(namespace: Namespace, *, lease_ms: int, remember_ms: int) -> Store:
            return ShardedStore([MemoryStore(namespace, lease_ms, remember_ms, state=state) for state in states])

        return opener


Server = RedisServer | GuardedRedis | RedisCluster
PLACES: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    **{version: lambda version=version: start_redis(version) for version in VERSIONS},
    "sentinel": lambda: GuardedRedis(replicas=1, sentinels=1),
    "cluster": lambda: RedisCluster(primaries=3),
}


@pytest.fixture(scope="module", params=list(PLACES))
def place(request: pytest.FixtureRequest) -> Iterator[Server]:
    with or_skip(PLACES[request.param]) as started:
        yield started


@pytest.fixture(scope="module", params=["embedded", "local"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with or_skip(lambda: start_redis(request.param)) as started:
        yield started


@pytest.mark.integration
class TestRedisStore(StoreConformance):
    @pytest.fixture
    def open_store(self, place: Server) -> StoreOpener:
        def opener(namespace: Namespace, *, lease_ms: int, remember_ms: int) -> Store:
            return RedisStore(place.url, namespace, lease_ms=lease_ms, remember_ms=remember_ms)

        return opener


@pytest.fixture(scope="module", params=["embedded", "cluster"])
def sharded(request: pytest.FixtureRequest) -> Iterator[Server]:
    start = PLACES["cluster"] if request.param == "cluster" else lambda: start_redis("embedded")
    with or_skip(start) as started:
        yield started


@pytest.mark.integration
class TestRedisShards(ShardsConformance):
    @pytest.fixture
    def open_store(self, sharded: Server) -> StoreOpener:
        def opener(namespace: Namespace, *, lease_ms: int, remember_ms: int) -> Store:
            return open_shards(sharded.url, namespace, 3, lease_ms=lease_ms, remember_ms=remember_ms)

        return opener


@pytest.mark.integration
def test_memory_and_redis_give_the_same_answers(server: RedisServer) -> None:
    check_lockstep(
        lambda namespace: MemoryStore(namespace, 10**9),
        lambda namespace: RedisStore(server.url, namespace, lease_ms=10**9),
        max_examples=60,
    )
