"""A member that cannot reach the coordinator of its group, while it fetches as before (C15)."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_once.testing.services import KafkaServer, RedisServer, start_kafka
from tests.conftest import or_skip
from tests.groups.members import PROTOCOLS, names, once, scene, wait_until
from tests.integration.proxies import CoordinatorProxy

pytestmark = [pytest.mark.integration, pytest.mark.groups]


@pytest.fixture(scope="module")
def proxy() -> Iterator[CoordinatorProxy]:
    made = CoordinatorProxy()
    yield made
    made.close()


@pytest.fixture(scope="module")
def kafka(proxy: CoordinatorProxy) -> Iterator[KafkaServer]:
    config = {"advertised.listeners": f"PLAINTEXT://{proxy.address}"}
    with or_skip(lambda: start_kafka("apache", config=config)) as server:
        proxy.server_url = f"kafka://{server.bootstrap}"
        yield server


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_member_cut_off_from_its_coordinator_works_on_and_nothing_is_lost_or_run_twice(
    kafka: KafkaServer, redis_server: RedisServer, proxy: CoordinatorProxy, tmp_path: Path, protocol: str
) -> None:
    """Its session ends without its knowledge, and the other takes over. What it asked meanwhile, commits too, arrives
    when the other is long at work."""
    with scene(kafka, tmp_path) as group:
        alone = group.member(protocol, store=redis_server.url, kafka={"client.id": "alone"})
        group.produce(names(0, 40))
        group.wait_for(names(0, 40))
        group.wait_for_lag_0()
        before = group.committed()

        with proxy.cutting_off("alone"):
            group.produce(names(40, 80))
            group.wait_for(names(40, 80))
            assert {run.pid for run in group.ledger()} == {alone.pid}
            wait_until(lambda: proxy.held > 0, "a request that does not arrive")
            assert group.committed() == before, "its commits arrive: it is not cut off"

            other = group.member(protocol, store=redis_server.url, kafka={"client.id": "other"})
            other.wait_for_log("partition assigned", timeout_s=60)
            group.produce(names(80, 240))
            group.wait_for(names(80, 240))
            group.wait_for_lag_0()
            assert other.pid in {run.pid for run in group.ledger()}
            committed = group.committed()

        both_at_work: set[int] = set()
        for attempt in range(200):
            keys = [f"healed-{attempt}-{number}" for number in range(4)]
            group.produce(keys)
            group.wait_for(keys)
            now = group.committed()
            assert all(new >= old for new, old in zip(now, committed, strict=True)), "a late commit was taken"
            committed = now
            both_at_work = {run.pid for run in group.ledger() if run.key in keys}
            if len(both_at_work) == 2:
                break
        assert both_at_work == {alone.pid, other.pid}, "it does not come back"
        group.wait_for_lag_0()
        ends = []
        for member in (alone, other):
            member.signal(signal.SIGTERM)
            ends.append(member.end())

    assert [code for code, _ in ends] == [0, 0]
    assert set(names(0, 240)) <= group.runs().keys()
    assert group.runs() == once(group.runs())
