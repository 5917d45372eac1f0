"""A process that stood still gives up everything before it does anything else (R2, R18; C05, C06, C13, C14, A11)."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.groups.members import PROTOCOLS, names, once, scene

pytestmark = [pytest.mark.integration, pytest.mark.groups]


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_member_whose_loop_stood_still_processes_nothing_that_others_have(
    kafka: KafkaServer, tmp_path: Path, protocol: str
) -> None:
    """R2 and, with the consumer protocol, R18. No store, so no lease that helps. The loop stands still while a second
    member joins; heartbeats go on, and the client fetches on: what it hands out afterwards is the other's by then."""
    with scene(kafka, tmp_path) as group:
        settings = {"semantics": "at_least_once", "block_s": 7}
        zombie = group.member(protocol, **settings)
        group.produce(names(0, 40))
        group.wait_for(names(0, 40))
        group.wait_for_lag_0()

        zombie.signal(signal.SIGUSR1)
        zombie.wait_for_log("blocked")
        other = group.member(protocol, **settings)
        group.produce(names(40, 240))
        group.wait_for(names(40, 240))
        assert {run.pid for run in group.ledger() if run.key in names(40, 240)} == {other.pid}

        zombie.wait_for_log("the process stood still", timeout_s=60)
        group.produce(names(240, 340))
        group.wait_for(names(240, 340))
        group.wait_for_lag_0()
        zombie.signal(signal.SIGTERM)
        code, counters = zombie.end()

    assert (code, counters["self_fenced"]) == (0, 1)
    assert group.runs() == once(names(0, 340))


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_frozen_member_wakes_completes_what_ran_and_joins_anew(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """SIGSTOP past the session, in the middle of the work. Only what ran then may run twice, and it is told."""
    keys = names(0, 150)
    with scene(kafka, tmp_path) as group:
        settings = {"store": redis_server.url, "handler_s": 0.02}
        frozen, other = (group.member(protocol, **settings) for _ in range(2))
        group.produce(keys)
        frozen.wait_for_log("partition assigned")
        other.wait_for_log("partition assigned")
        group.produce([key + "-more" for key in keys])
        wait = {run.pid for run in group.ledger()}
        while not {frozen.pid, other.pid} <= wait:
            group.wait_for(keys[: len(group.runs()) % 100 + 1])
            wait = {run.pid for run in group.ledger()}
        frozen.signal(signal.SIGSTOP)
        keys += [key + "-more" for key in keys]
        group.wait_for([key for key in keys if key not in running(group)])
        frozen.signal(signal.SIGCONT)
        frozen.wait_for_log("the process stood still", timeout_s=60)

        group.produce(names(1000, 1100))
        group.wait_for(names(1000, 1100))
        group.wait_for_lag_0()
        frozen.signal(signal.SIGTERM)
        code, counters = frozen.end()

    began = Counter(run.key for run in group.ledger("began"))
    doubled = {key for key, count in began.items() if count > 1}
    told = {run.key for run in group.ledger("began") if run.in_doubt}
    assert (code, counters["self_fenced"]) == (0, 1)
    assert len(doubled) <= 4
    assert doubled <= told
    assert set(began) == {*keys, *names(1000, 1100)}


def running(group) -> set[str]:
    return {run.key for run in group.ledger("began")} - set(group.runs())
