"""A process that stood still gives up everything before it does anything else (R2, R18; C05, C06, C13, C14, A11)."""

import signal
from pathlib import Path

import pytest

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.groups.members import PROTOCOLS, names, once, scene, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.groups]


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_member_whose_loop_stood_still_processes_nothing_that_others_have(
    kafka: KafkaServer, tmp_path: Path, protocol: str
) -> None:
    """R2 and, with the consumer protocol, R18. No store, so no lease that helps. The loop stands still while a second
    member joins; heartbeats go on, and the client fetches on: what it hands out afterwards is the other's by then."""
    with scene(kafka, tmp_path) as group:
        zombie = group.member(protocol, semantics="at_least_once")
        group.produce(names(0, 40))
        group.wait_for(names(0, 40))
        group.wait_for_lag_0()

        zombie.signal(signal.SIGUSR1)
        zombie.wait_for_log("blocked")
        other = group.member(protocol, semantics="at_least_once")
        group.produce(names(40, 240))
        group.wait_for(names(40, 240))
        assert {run.pid for run in group.ledger() if run.key in names(40, 240)} == {other.pid}

        group.unblock()
        zombie.wait_for_log("the process stood still", timeout_s=60)
        group.produce(names(240, 340))
        group.wait_for(names(240, 340))
        group.wait_for_lag_0()
        zombie.signal(signal.SIGTERM)
        code, counters = zombie.end()

    assert (code, counters["self_fenced"]) == (0, 1)
    assert group.runs() == once(names(0, 340))


@pytest.mark.parametrize("kafka_settings", [{}, {"max.poll.interval.ms": 300_000}], ids=["", "late poll"])
@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_frozen_member_wakes_completes_what_ran_and_joins_anew(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str, kafka_settings: dict[str, int]
) -> None:
    """SIGSTOP past the session, in the middle of a handler. Only what ran then runs twice, and that is told. With the
    consumer protocol the session is the broker's: it is asked for."""
    with scene(kafka, tmp_path) as group:
        settings = {"store": redis_server.url, "handler_s": 0.01, "slow": {"held": 2}, "kafka": kafka_settings}
        frozen, other, theirs, _ = group.share(protocol, **settings)
        group.produce(["held"], partition=min(theirs))
        wait_until(lambda: any(run.key == "held" for run in group.ledger("began")), "it runs")
        frozen.signal(signal.SIGSTOP)
        group.produce(names(0, 200))
        group.wait_for([*names(0, 200), "held"])
        assert group.ledger()[-1].pid == other.pid
        frozen.signal(signal.SIGCONT)
        frozen.wait_for_log("the process stood still", timeout_s=60)

        group.produce(names(200, 300))
        group.wait_for(names(200, 300))
        group.wait_for_lag_0()
        frozen.signal(signal.SIGTERM)
        code, counters = frozen.end()

    runs = group.runs()
    told = {run.key for run in group.ledger("began") if run.in_doubt}
    assert (code, counters["self_fenced"], counters["in_doubt"]) == (0, 1, 0)
    assert told == {"held"}
    assert runs.pop("held") == 2, "it ended here after all, and had been taken over meanwhile"
    assert set(runs.values()) == {1}
    assert names(0, 300) == [key for key in names(0, 300) if key in runs]
