"""A partition from its assignment to its end: when it is asked for, where it starts, what it keeps. On the bench."""

import pytest

from kafka_once.core.calls import Committed, Exchange, FrontierMark, LogBounds, Seek
from kafka_once.core.delivery import Delivery
from kafka_once.core.events import Kind
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition
from kafka_once.core.rules import TakeOwnerships
from kafka_once.core.semantics import ConflictPolicy, Semantics
from kafka_once.message import Message
from tests.unit.bench import ROW, WHOLE, Worker, World

LEASE_MS = 5_000
AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}


def taken(worker: Worker) -> int:
    """How often ownerships were asked for."""
    return len([call for call in worker.calls if isinstance(call, TakeOwnerships)])


def marked(worker: Worker) -> list[FrontierMark]:
    """What the store was told to keep as frontiers."""
    return [mark for call in worker.calls if isinstance(call, Exchange) for mark in call.frontiers]


# ----------------------------------------------------------------------------------------------------------- the start


@pytest.mark.parametrize("log", [LogBounds(0, 3), LogBounds(0, 9)])
def test_a_log_that_was_read_to_its_end_is_looked_up_once(log: LogBounds) -> None:
    world = World()
    Worker(world).own().deliver("a", "b", "c").run_all().pass_time(200).die()

    worker = Worker(world).own(log=log, committed=Committed(3, None, ""))

    assert worker.sought == [Seek(ROW[0], 3)]
    assert taken(worker) == 1


def test_the_first_answer_to_a_look_up_counts_also_while_the_ownership_is_on_its_way() -> None:
    worker = Worker()
    worker.store_answers = False
    worker.own()
    worker.answer(worker.calls[-1])  # the session
    worker.turn()
    worker.engine.on_looked_up(ROW[0], LogBounds(5, 9), Committed(7, None, ""))
    worker.store_answers = True
    worker.answer(worker.calls[-1])
    worker.turn()

    assert worker.sought == [Seek(ROW[0], 0)]


def test_an_ordinary_start_leaves_the_stored_frontier_where_it_is() -> None:
    worker = Worker(mark="m").own(committed=Committed(5, None, "m::0:5")).deliver("a", start=5).run().pass_time(200)

    assert [(mark.offset, mark.back) for mark in marked(worker)] == [(6, False)]


def test_without_a_store_a_truncated_log_is_read_from_its_start_by_policy() -> None:
    worker = Worker(**AT_LEAST, on_position_conflict=ConflictPolicy.GO_ON)
    worker.own(log=LogBounds(2, 5), committed=Committed(9, None, ""))

    assert worker.sought == [Seek(ROW[0], 2)]
    assert worker.committed == {ROW[0]: 2}


def test_without_a_store_no_epoch_is_written_beside_an_offset() -> None:
    worker = Worker(**AT_LEAST, mark="m")
    worker.commits_answered = False
    worker.tick()
    worker.engine.on_assigned(ROW[:1])
    worker.engine.on_looked_up(ROW[0], LogBounds(0, 9, "id"), None)

    assert [mark.metadata for mark in worker.engine.decide().commit] == ["m:id:0:0"]


def test_what_somebody_committed_ahead_is_counted_and_told() -> None:
    world = World()
    Worker(world).own().deliver("a", "b").run_all().pass_time(200).die()

    worker = Worker(world, mark="m").own(committed=Committed(5, None, "by hand"))

    assert worker.sought == [Seek(ROW[0], 5)]
    assert worker.count("resets_ahead") == 1
    assert Kind.RESET_AHEAD in [note.kind for note in worker.notes]


# ---------------------------------------------------------------------------------------------------- its ownerships


def test_a_superseded_partition_is_taken_again_when_kafka_had_the_time_to_tell_of_it() -> None:
    world = World()
    worker = Worker(world).own()
    Worker(world).own()
    worker.deliver("a")
    asked = taken(worker)

    worker.pass_time(249)
    assert taken(worker) == asked
    worker.pass_time(1)
    assert taken(worker) == asked + 1


def test_ownerships_of_a_session_that_is_over_are_over_with_it() -> None:
    worker = Worker(lease_ms=LEASE_MS).own()
    worker.die()
    worker.turn()
    number = worker.engine._partitions.get(ROW[0]).ownership.number

    worker.engine.on_lost(ROW[:1])
    worker.turn()

    assert worker.last_exchange.ends == [number]


# -------------------------------------------------------------------------------------------------------- its messages


def test_what_comes_of_a_partition_that_is_being_revoked_is_not_taken() -> None:
    worker = Worker().own()
    worker.engine.on_revoked(ROW[:1])

    assert worker.deliver("a").outcomes() == {"handed_back": 1}
    assert worker.running == []


def test_a_message_of_which_nothing_was_read_is_a_mistake() -> None:
    worker = Worker().own()
    with pytest.raises(ValueError, match="zip"):
        worker.engine.on_delivered(ROW[0], [Message("t", 0, 0)], [])


def test_lanes_that_have_nothing_to_do_any_more_are_dropped_with_what_waited() -> None:
    partition = Partition(ROW[0], Pace(1, 1), Order.KEY)
    messages = [Message("t", 0, offset, key=key) for offset, key in enumerate((b"x", b"y", b"x"))]
    for message in messages:
        lane = partition.lane_of(message)
        lane.waiting.append(Delivery(message, lane, None))
    open_one = partition.lane_of(messages[1])
    open_one.open = 1

    assert [delivery.offset for delivery in partition.take_waiting()] == [0, 2, 1]
    assert list(partition.lanes.values()) == [open_one]


@pytest.mark.parametrize("rules", [{}, AT_LEAST])
def test_markers_are_not_passed_before_it_is_known_where_reading_starts(rules: dict[str, object]) -> None:
    worker = Worker(**rules)
    worker.tick()
    worker.engine.on_assigned(ROW[:1])
    worker.engine.on_passed(ROW[0], 7)
    worker.engine.on_looked_up(ROW[0], WHOLE, None)
    worker.turn()

    assert worker.sought == [Seek(ROW[0], 0)]
    assert worker.committed == {ROW[0]: 0}
