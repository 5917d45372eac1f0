"""The stores, through the public suite: in memory, and on every server that is supported: each version, behind
sentinels, and in a cluster."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from kafka_once.ports import Namespace, Store
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.stores.redis import RedisStore
from kafka_once.testing.services import GuardedRedis, RedisCluster, RedisServer, start_redis
from kafka_once.testing.services.redis_programs import VERSIONS
from kafka_once.testing.store_conformance import StoreConformance
from kafka_once.testing.store_lockstep import check_lockstep
from kafka_once.testing.store_workers import StoreOpener
from tests.conftest import or_skip


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def open_store(self) -> StoreOpener:
        state = MemoryState()

        def opener(namespace: Namespace, *, lease_ms: int, remember_ms: int) -> Store:
            return MemoryStore(namespace, lease_ms, remember_ms, state=state)

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


@pytest.mark.integration
def test_memory_and_redis_give_the_same_answers(server: RedisServer) -> None:
    check_lockstep(
        lambda namespace: MemoryStore(namespace, 10**9),
        lambda namespace: RedisStore(server.url, namespace, lease_ms=10**9),
        max_examples=60,
    )
