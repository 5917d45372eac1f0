"""The wall clock jumps under a member, ahead and back, by hours (E14).

librdkafka waits for a time of the wall clock (`cnd_timedwait`), so a step back makes the waits of its threads longer by
as much, unless something wakes them. A member at work is woken all the time; one without work falls silent.
"""

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.clock.wall_clock import WallClock
from tests.conftest import or_skip
from tests.groups.members import PROTOCOLS, names, once, scene, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.groups]

HOUR_S = 3600


@pytest.fixture
def step_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets by how many seconds the wall clock of processes started from here is ahead."""
    clock = or_skip(lambda: WallClock(tmp_path))
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    return clock.step_to


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_wall_clock_that_jumps_loses_doubles_and_fences_nothing(
    kafka: KafkaServer, redis_server: RedisServer, step_to: Callable[[int], None], tmp_path: Path, protocol: str
) -> None:
    with scene(kafka, tmp_path) as group:
        member = group.member(protocol, store=redis_server.url)
        for number, ahead_s in enumerate((0, HOUR_S, -HOUR_S, 0)):
            step_to(ahead_s)
            keys = names(number * 100, number * 100 + 100)
            group.produce(keys)
            group.wait_for(keys)
            group.wait_for_lag_0()
        member.signal(signal.SIGTERM)
        code, counters = member.end()

    assert code == 0
    assert group.runs() == once(names(0, 400))
    assert (counters["self_fenced"], counters["in_doubt"], counters["sessions"]) == (0, 0, 1)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_an_idle_member_that_falls_silent_when_the_clock_goes_back_is_replaced_and_comes_back(
    kafka: KafkaServer,
    redis_server: RedisServer,
    step_to: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    """A client that waits by another clock fails here, at the first `wait_until`: then say so in docs/faults.md."""
    with scene(kafka, tmp_path) as group:
        jumped = group.member(protocol, store=redis_server.url)
        group.produce(names(0, 40))
        group.wait_for(names(0, 40))
        monkeypatch.delenv("LD_PRELOAD")
        other = group.member(protocol, store=redis_server.url)
        wait_until(lambda: len(assigned(other.log)) == 2, "the other has its half")
        group.wait_for_lag_0()

        backwards = itertools.count(-HOUR_S, -HOUR_S)
        # A step falls between two waits now and then, and does nothing. So there is more than one.
        wait_until(lambda: step_to(next(backwards)) or len(assigned(other.log)) == 4, "the other has all")
        group.produce(names(40, 80))
        group.wait_for(names(40, 80))

        at_work: set[int] = set()
        for attempt in range(200):
            keys = [f"again-{attempt}-{number}" for number in range(4)]
            group.produce(keys)
            group.wait_for(keys)
            at_work = {run.pid for run in group.ledger() if run.key in keys}
            if at_work == {jumped.pid, other.pid}:
                break
        assert at_work == {jumped.pid, other.pid}, "it does not come back"
        group.wait_for_lag_0()
        codes = []
        for member in (jumped, other):
            member.signal(signal.SIGTERM)
            codes.append(member.end()[0])

    assert codes == [0, 0]
    assert set(names(0, 80)) <= group.runs().keys()
    assert group.runs() == once(group.runs())


def assigned(log: list[str]) -> set[str]:
    """The partitions that a member was given, whether it still has them or not."""
    return {line.rsplit(" ", 1)[1] for line in log if "partition assigned" in line}
