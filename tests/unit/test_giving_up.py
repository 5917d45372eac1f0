"""A handler raised: what is told of it, what the dead letter carries, and when it is tried again. On the bench."""

import pytest

from kafka_once.core.calls import Exchange, ReleaseAsk
from kafka_once.core.delivery import Defect
from kafka_once.core.events import Kind, Note
from kafka_once.core.semantics import Semantics
from kafka_once.errors import InDoubt, MissingKey, NeverCompleted, UndecodablePayload
from kafka_once.message import Message
from tests.unit.bench import ROW, Worker, World

AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}
AT_MOST = {"semantics": Semantics.AT_MOST_ONCE}


def told(worker: Worker, *kinds: Kind) -> list[Note]:
    return [note for note in worker.notes if note.kind in kinds]


def released(worker: Worker) -> list[ReleaseAsk]:
    return [ask for call in worker.calls if isinstance(call, Exchange) for ask in call.releases]


def with_defect(worker: Worker, error: BaseException, *, fatal: bool) -> Worker:
    worker.tick()
    defect = Defect("no key", error, fatal=fatal)
    worker.engine.on_delivered(ROW[0], [Message("t", 0, 0)], [(b"coordinates 0000", defect)])
    return worker.turn()


# --------------------------------------------------------------------------------------------------------- what is told


@pytest.mark.parametrize("rules", [{}, AT_LEAST])
def test_each_failure_is_told_with_its_attempt_and_its_error(rules: dict[str, object]) -> None:
    errors = [ValueError("1"), OSError("2"), ValueError("3")]
    worker = Worker(attempts=3, dead_letter_failures=True, **rules).own().deliver("a")
    for error in errors:
        worker.run(error).pass_time(1_000)

    notes = told(worker, Kind.RAISED, Kind.GAVE_UP)
    assert [(note.kind, note.attempt) for note in notes] == [(Kind.RAISED, 1), (Kind.RAISED, 2), (Kind.GAVE_UP, 3)]
    assert [note.error for note in notes] == errors
    assert {(note.topic_partition, note.offset, note.text) for note in notes} == {(ROW[0], 0, "")}


def test_a_dead_letter_is_told_with_its_reason_and_until_then_that_it_is_not_confirmed() -> None:
    worker = Worker(attempts=1, dead_letter_failures=True).own().deliver("a").run(ValueError())
    unconfirmed = RuntimeError("topic is away")
    worker.publish(unconfirmed).pass_time(500).publish()

    notes = told(worker, Kind.UNPUBLISHED, Kind.DEAD_LETTERED)
    assert [(note.kind, note.error, note.text) for note in notes] == [
        (Kind.UNPUBLISHED, unconfirmed, ""),
        (Kind.DEAD_LETTERED, None, "attempts exhausted (1)"),
    ]


def test_what_is_not_run_once_more_is_told_with_the_attempts_that_were_made() -> None:
    world = World()
    generous = Worker(world, attempts=3).own().deliver("a").run(ValueError()).pass_time(1_000).run(ValueError())
    generous.die()
    worker = Worker(world, attempts=2, dead_letter_failures=True).own().deliver("a").publish()

    assert [note.attempt for note in told(worker, Kind.DEAD_LETTERED)] == [2]


@pytest.mark.parametrize(
    ("error", "kind", "described"),
    [
        (UndecodablePayload("amount: not a number"), Kind.UNUSABLE, "amount: not a number"),
        (ValueError("card 4711"), Kind.GAVE_UP, "ValueError"),  # it might quote the payload
    ],
)
def test_a_stop_by_policy_says_which_message_and_why(error: Exception, kind: Kind, described: str) -> None:
    worker = Worker(attempts=1).own().deliver("a").run(error)

    assert f"): {described}. It is not committed" in str(worker.engine.error)
    assert str(worker.engine.error).startswith("t[0]@0 cannot be settled (")
    assert worker.engine.error is not None
    assert worker.engine.error.__cause__ is error
    assert [(note.kind, note.offset, note.attempt, note.error) for note in told(worker, kind)] == [(kind, 0, 1, error)]


@pytest.mark.parametrize("fatal", [True, False])
@pytest.mark.parametrize(("error", "kind"), [(MissingKey("empty"), Kind.UNUSABLE), (OSError(), Kind.GAVE_UP)])
def test_what_cannot_be_processed_is_told_with_what_is_wrong(fatal: bool, error: Exception, kind: Kind) -> None:
    worker = with_defect(Worker().own(), error, fatal=fatal)

    assert [(note.kind, note.offset, note.error) for note in told(worker, Kind.UNUSABLE, Kind.GAVE_UP)] == [
        (kind, 0, error)
    ]
    assert [delivery.error for delivery in worker.publishing] == ([] if fatal else [error])


def test_a_dead_letter_carries_the_last_error_of_its_handler() -> None:
    last = ValueError("2")
    worker = Worker(attempts=2, dead_letter_failures=True).own().deliver("a")
    worker.run(OSError("1")).pass_time(1_000).run(last)

    assert [(delivery.error, delivery.tried) for delivery in worker.publishing] == [(last, 2)]


def test_without_a_claim_a_message_has_no_fence() -> None:
    worker = Worker().own().deliver("a").deliver("", start=1)
    (claimed,) = worker.running[0].deliveries
    assert claimed.fence > 0

    worker.run()

    assert [delivery.fence for delivery in worker.running[0].deliveries] == [0]


# -------------------------------------------------------------------------------------------------- when, and if, again


def test_the_wait_is_shorter_by_the_random_bits_of_the_turn() -> None:
    worker = Worker(backoff_ms=200).own().deliver("a")
    (group,) = worker.running
    worker.running.clear()
    group.results.append(ValueError())
    worker.engine.tick(worker.world.now_ms, 1 << 52)  # half of what they can be, so a quarter of the wait
    worker.engine.on_ran(group)
    worker.turn()

    assert worker.pass_time(149).keys == []
    assert worker.pass_time(1).keys == ["a"]


def test_a_key_that_another_has_is_asked_for_again_after_a_wait_that_doubles() -> None:
    world = World()
    Worker(world, lease_ms=60_000).own(ROW[1]).deliver("a", partition=ROW[1])
    worker = Worker(world, lease_ms=60_000).own().deliver("a")
    asked = []
    for ms in range(1, 150):
        before = worker.count("busy")
        worker.pass_time(1)
        asked += [ms] * (worker.count("busy") - before)

    assert asked == [20, 60, 140]


@pytest.mark.parametrize("dead_letter", [True, False])
def test_in_doubt_before_the_last_attempt_it_is_tried_again_after_the_usual_wait(dead_letter: bool) -> None:
    worker = Worker(attempts=2, backoff_ms=200, dead_letter_failures=dead_letter).own().deliver("a")

    worker.run(InDoubt()).pass_time(199)
    assert worker.keys == []
    assert worker.count("retries") == 1
    worker.pass_time(1)

    assert worker.keys == ["a"]
    assert worker.engine.error is None


@pytest.mark.parametrize(("error", "doubt"), [(ValueError(), False), (UndecodablePayload(), False), (InDoubt(), True)])
def test_a_stop_by_policy_counts_no_attempt(error: Exception, doubt: bool) -> None:
    """With a handler that was mended the next start tries it once more."""
    world = World()
    worker = Worker(world, attempts=1).own().deliver("a").run(error)
    assert [(ask.failed, ask.doubt) for ask in released(worker)] == [(False, doubt)]
    worker.die()

    (again,) = Worker(world, attempts=1).own().deliver("a").running[0].deliveries
    assert (again.attempts, again.doubt) == (0, doubt)


def test_without_a_store_a_stop_by_policy_counts_no_attempt_either() -> None:
    worker = Worker(attempts=1, **AT_LEAST).own().deliver("a").run(ValueError())

    assert [note.attempt for note in told(worker, Kind.GAVE_UP)] == [1]


def test_without_a_store_what_was_never_completed_counts_no_attempt() -> None:
    worker = Worker(attempts=2, **AT_LEAST).own().deliver("a")
    for _ in range(5):
        worker.run(NeverCompleted())

    assert worker.running[0].deliveries[0].attempts == 0


def test_what_its_group_never_began_is_given_back_untouched() -> None:
    worker = Worker(group_ms=1e6).own().deliver("x").run(took_ms=0.001).deliver("a", "b", start=1)
    worker.run(ValueError())

    assert [(ask.digest[:1], ask.failed, ask.doubt) for ask in released(worker)] == [
        (b"a", True, False),
        (b"b", False, False),
    ]


def test_while_a_suspect_waits_for_its_next_attempt_the_next_suspect_runs() -> None:
    world = World()
    Worker(world).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1]).die()
    worker = Worker(world, backoff_ms=10_000).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    assert worker.keys == ["a"]

    assert worker.run(ValueError()).keys == ["b"]


# ----------------------------------------------------------------------------------------------------- groups that end


def test_a_group_that_ends_behind_what_was_seen_of_it_does_not_stand_still_for_ever() -> None:
    """The hand-out took back what it had not begun."""
    worker = Worker(stalled_after_ms=1_000, group_ms=1e6, **AT_LEAST).own().deliver("x").run(took_ms=0.001)
    worker.deliver("a", "b", start=1)
    (group,) = worker.running
    group.results.append(None)
    worker.engine.on_results(group)
    worker.engine.on_revoked(ROW[:1])

    worker.engine.on_ran(group)
    worker.pass_time(1_100)

    assert worker.outcomes() == {"completed": 2, "handed_back": 1}
    assert worker.engine.stalls == ()


@pytest.mark.parametrize("rules", [AT_LEAST, AT_MOST, {}])
def test_a_group_that_ends_while_it_is_looked_at_ends_once(rules: dict[str, object]) -> None:
    """The runner has seen that it runs; then its thread ends it, and the look finds all that there will ever be."""
    worker = Worker(group_ms=1e6, backoff_ms=10, **rules).own().deliver("x").run(took_ms=0.001)
    worker.deliver("a", "b", "c", start=1)
    (group,) = worker.running
    worker.running.remove(group)
    group.results.extend((None, ValueError()))
    worker.tick()

    worker.engine.on_results(group)
    worker.engine.on_ran(group)
    worker.turn().pass_time(100)
    while worker.running:
        worker.run().pass_time(100)

    skipped = {"skipped": 1} if rules is AT_MOST else {}
    assert worker.outcomes() == {"completed": 4 - len(skipped), **skipped}
    assert worker.count("processings") == 4 - len(skipped)


@pytest.mark.parametrize("rules", [AT_LEAST, {}])
def test_what_came_back_while_its_group_runs_is_left_once_when_its_partition_goes(rules: dict[str, object]) -> None:
    worker = Worker(group_ms=1e6, **rules).own().deliver("x").run(took_ms=0.001).deliver("a", "b", start=1)
    (group,) = worker.running
    group.results.append(ValueError())
    worker.engine.on_results(group)
    worker.turn()
    worker.engine.on_revoked(ROW[:1])

    worker.engine.on_ran(group)
    worker.turn()
    worker.engine.on_gone(ROW[:1])

    assert worker.outcomes() == {"completed": 1, "handed_back": 2}
    assert worker.engine.drained()
