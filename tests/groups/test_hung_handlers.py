"""Handlers that take long, and handlers that never end (C13, A20; R18 where it is the handler that hangs)."""

import signal
from pathlib import Path

import pytest

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.groups.members import PROTOCOLS, Run, Scene, names, once, scene, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.groups]


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_handler_may_run_longer_than_max_poll_interval(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """Polling goes on: 6 s where `max.poll.interval.ms` and the session are 4 s. Nothing is lost or runs twice."""
    with scene(kafka, tmp_path) as group:
        member = group.member(protocol, store=redis_server.url, slow={"k0": 6}, stalled_after="2s")
        group.produce(names(0, 20))
        group.wait_for(names(0, 20))
        group.wait_for_lag_0()
        member.signal(signal.SIGTERM)
        code, counters = member.end()

    assert code == 0
    assert group.runs() == once(names(0, 20))
    assert (counters["self_fenced"], counters["dropped"], counters["commits_refused"]) == (0, 0, 0)
    assert counters["stalled"] == 1
    (line,) = [line for line in member.log if "a handler does not end" in line]
    assert f"{group.topic}[0]@0" in line


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_process_whose_handler_hangs_stops_by_policy_and_the_next_one_has_it_in_doubt(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """The other partitions go on meanwhile. The process ends with a non-zero exit, and with it the handler."""
    with scene(kafka, tmp_path) as group:
        policy = {"handler": {"deadline": "2s"}, "on_hung": "stop", "drain": "1s"}
        hung = group.member(protocol, store=redis_server.url, slow={"k0": 3600}, **policy)
        group.produce(names(0, 20))
        group.wait_for({key for key in names(0, 20) if int(key[1:]) % 4})
        code, _ = hung.end()
        assert code == 1
        assert "passed its deadline" in hung.log[-1]

        group.member(protocol, store=redis_server.url)
        group.wait_for(names(0, 20))
        group.wait_for_lag_0()

    assert group.runs() == once(names(0, 20))
    in_doubt = {run.key: run.partition for run in group.ledger() if run.in_doubt}
    assert "k0" in in_doubt
    assert set(in_doubt.values()) == {0}, "at most what was claimed together with it"


def test_past_its_deadline_an_async_handler_is_cancelled_and_in_doubt(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """It comes again, told that it may have run; its partition goes on without the process being stopped."""
    with scene(kafka, tmp_path) as group:
        member = group.member(
            "cooperative", store=redis_server.url, is_async=True, slow={"k0": 3600}, handler_deadline="1s"
        )
        group.produce(names(0, 20))
        group.wait_for(names(0, 20))
        group.wait_for_lag_0()
        member.signal(signal.SIGTERM)
        code, counters = member.end()

    assert code == 0
    assert group.runs() == once(names(0, 20))
    assert [run.key for run in group.ledger() if run.in_doubt] == ["k0"]
    assert (counters["overdue"], counters["failures"], counters["in_doubt"]) == (1, 1, 1)


def test_a_repeat_of_a_key_whose_handler_hangs_runs_elsewhere_in_doubt(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Its process lives and renews its lease; only past the deadline is the key free for others (hole 11)."""
    with scene(kafka, tmp_path, partitions=2) as group:
        hung = group.member("cooperative", store=redis_server.url, slow={"k0": 3600}, handler_deadline="3s")
        hung.wait_for_log("partition assigned")
        other = group.member("cooperative", store=redis_server.url)
        other.wait_for_log("partition assigned")
        both = {hung.pid, other.pid}
        wait_until(lambda: {run.pid for run in _settle(group)[-2:]} == both, "each has one partition")
        places = {run.pid: run.partition for run in group.ledger()[-2:]}
        group.produce(["k0"], partition=places[hung.pid])
        wait_until(lambda: group.ledger("began")[-1].key == "k0", "it hangs")
        group.produce(["k0"], partition=places[other.pid])
        group.wait_for(["k0"])
        repeat = next(run for run in group.ledger() if run.key == "k0")

    assert repeat.pid == other.pid
    assert repeat.in_doubt
    assert any("a handler passed its deadline" in line for line in hung.log)


def _settle(group: Scene) -> list[Run]:
    """One more message in each partition, processed."""
    count = len(group.ledger())
    keys = names(count + 1, count + 3)
    group.produce(keys)
    group.wait_for(keys)
    return group.ledger()
