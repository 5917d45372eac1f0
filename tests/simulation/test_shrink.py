"""A failure is told in one line, small, with the command that shows it again."""

from tests.simulation import variants
from tests.simulation.campaign import failure, play
from tests.simulation.plan import plan_of
from tests.simulation.shrink import Shrunk, shrink


def test_what_is_left_still_fails_and_is_less() -> None:
    seed = 1
    with variants.commit_what_was_delivered():
        small = shrink(seed, lambda plan: bool(play(plan).violations), within_s=5)
        assert play(small.plan()).violations

    assert len(small.messages) < len(plan_of(seed).messages)
    assert play(small.plan()).violations == []


def test_it_is_read_as_it_is_told() -> None:
    plan = plan_of(3)
    small = Shrunk(3, 1, (0, 2), frozenset({"wire.reply lost, copy later", "faults.cut off", "ambush"}))

    assert Shrunk.read(3, str(small)) == small
    assert small.plan().messages == [plan.messages[0], plan.messages[2]]
    assert small.plan().odds.wire["reply lost, copy later"] == 0


def test_nothing_is_left_out_of_what_would_pass_then() -> None:
    plan = plan_of(5)

    assert shrink(5, lambda _plan: False) == Shrunk(5, plan.workers, tuple(range(len(plan.messages))))


def test_the_line() -> None:
    with variants.silence_is_a_duplicate():
        line = failure(1, within_s=3)

    assert line.startswith("seed 1: ")
    assert "python -m tests.simulation --seed 1 --shrunk '" in line
    assert "\n" not in line
