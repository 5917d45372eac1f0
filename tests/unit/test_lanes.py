"""Which lane goes on next, and what a group is made of. On the bench, beside test_orders.py."""

import pytest

from kafka_once.core.calls import Exchange
from kafka_once.core.delivery import Defect
from kafka_once.core.events import Kind
from kafka_once.core.order import Order
from kafka_once.core.semantics import Semantics
from kafka_once.message import Message
from tests.unit.bench import ROW, Worker, World

AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}


def fast(**rules: object) -> Worker:
    """Its handler has shown that it takes no time: the next group is of two, then of four."""
    return Worker(**{"group_ms": 1e6, **rules}).own().deliver("first").run(took_ms=0.001)


def offsets(worker: Worker) -> list[list[int]]:
    """What runs now, by groups."""
    return [[delivery.offset for delivery in group.deliveries] for group in worker.running]


def deliver_defect(worker: Worker, offset: int) -> None:
    defect = Defect("no key", OSError(), fatal=False)
    worker.engine.on_delivered(ROW[0], [Message("t", 0, offset)], [(b"coordinates %4d" % offset, defect)])


# ----------------------------------------------------------------------------------------------- one place at a time


def test_a_lane_that_waits_for_a_key_goes_on_once_however_much_is_delivered_meanwhile() -> None:
    worker = Worker().own(*ROW[:2]).deliver("a").deliver("a", partition=ROW[1])
    for start, key in enumerate("bcd", 1):
        worker.deliver(key, partition=ROW[1], start=start)
    assert worker.keys == ["a"]

    worker.run()

    assert worker.keys == ["b"]  # and not c beside it
    worker.run_all()
    assert worker.outcomes() == {"completed": 4, "repeat": 1}


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_lane_stands_in_line_once_however_much_is_delivered(concurrency: int) -> None:
    worker = Worker(concurrency=concurrency, **AT_LEAST).own(*ROW[:2]).deliver("x", partition=ROW[1])
    for start, key in enumerate("abc"):
        worker.deliver(key, start=start)
    worker.run()

    assert offsets(worker) == [[0]]


def test_what_waits_for_a_place_is_not_asked_for_while_somebody_else_may_have_its_partition() -> None:
    """And what stands in line behind it goes on."""
    world = World()
    worker = Worker(world, order=Order.KEY, concurrency=2).own(*ROW[:2])
    Worker(world).own(ROW[0])
    worker.deliver("x:a", partition=ROW[1])
    two = [Message("t", 0, offset, key=b"%d" % offset) for offset in range(2)]
    worker.engine.on_delivered(ROW[0], two, [(b"c" * 16, None), (b"d" * 16, None)])
    worker.deliver("y:b", partition=ROW[1], start=1)

    assert Kind.SUPERSEDED in [note.kind for note in worker.notes]
    asked = [ask.digest[:1] for call in worker.calls if isinstance(call, Exchange) for ask in call.claims]
    assert asked == [b"a", b"c", b"b"]  # not d, which had no place beside c
    worker.run_all().pass_time(300)
    assert [delivery.offset for group in worker.running for delivery in group.deliveries] == [0, 1]


# ------------------------------------------------------------------------------------------------- a loop of the user's


def loop(**rules: object) -> Worker:
    return Worker(**{"exclusive": False, **rules}).own()


def test_a_loop_is_handed_nothing_before_it_asks() -> None:
    assert loop().deliver("a").running == []


def test_a_loop_is_handed_as_many_of_a_lane_as_it_asks_for() -> None:
    worker = loop()
    worker.engine.offer(3)
    worker.deliver(*"abcd")
    for _ in range(5):
        worker.turn()

    assert worker.keys == ["a", "b", "c"]


def test_a_group_for_a_loop_is_no_larger_than_its_room_nor_than_the_handler_is_fast() -> None:
    worker = loop(group_ms=1e6)
    worker.engine.offer(3)
    worker.store_answers = False
    worker.deliver(*"abcdef")
    assert len(worker.last_exchange.claims) == 1  # nothing is known of the handler

    worker.store_answers = True
    worker.answer(worker.last_exchange)
    worker.turn()
    while worker.running:
        worker.run(took_ms=0.001)
    worker.engine.offer(1)
    worker.turn().turn()
    assert len(worker.running) == 1


def test_what_failed_is_handed_out_again_although_its_lane_has_more_out() -> None:
    worker = loop(backoff_ms=100)
    worker.engine.offer(2)
    worker.deliver("a", "b").turn()
    assert worker.keys == ["a", "b"]

    worker.run(ValueError())
    worker.engine.offer(1)
    worker.pass_time(100)

    assert worker.keys == ["b", "a"]


def test_a_lane_that_backs_off_does_not_keep_the_next_one_waiting_for_a_turn() -> None:
    worker = loop(order=Order.KEY, **AT_LEAST)
    worker.engine.offer(1)
    worker.deliver("x:a", "x:b").deliver("y:c", start=2)
    (group,) = worker.running
    group.results.append(ValueError())
    worker.engine.on_ran(group)
    worker.engine.offer(1)

    assert [group.deliveries[0].offset for group in worker.engine.decide().groups] == [2]
    worker.running.clear()
    worker.engine.offer(1)
    assert offsets(worker.pass_time(200)) == [[0]]


# -------------------------------------------------------------------------------------------------------------- places


def test_a_suspect_that_waited_without_a_place_gives_none_back() -> None:
    world = World()
    Worker(world).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1]).die()
    worker = Worker(world, concurrency=2).own(*ROW)
    worker.deliver("a").deliver("b", partition=ROW[1])
    assert worker.keys == ["a"]
    worker.engine.on_lost(ROW[1:2])
    worker.turn()

    worker.deliver("c", partition=ROW[2]).deliver("d", partition=ROW[3])

    assert worker.keys == ["a", "c"]


def test_a_suspect_that_runs_alone_leaves_its_place_as_soon_as_any_other_message() -> None:
    world = World()
    Worker(world).own(ROW[1]).deliver("suspect", partition=ROW[1]).die()
    worker = Worker(world, order=Order.NONE, concurrency=10, group_ms=2.0).own(*ROW[:2]).deliver("first")
    worker.run(took_ms=5.0)

    worker.deliver("suspect", partition=ROW[1]).deliver(*(f"k{number}" for number in range(30)), start=1)

    assert "suspect" in worker.keys
    assert len(worker.running) == 10 + 4  # as with any others: 4 of 10 places are free again in 2 ms


def test_what_has_ended_does_not_count_for_what_is_claimed_ahead() -> None:
    worker = (
        Worker(order=Order.NONE, concurrency=2, group_ms=2.0).own().deliver(*(f"k{number}" for number in range(20)))
    )
    for _ in range(8):
        worker.run(took_ms=5.0)  # each frees two fifths of a place in the time of a group: of two, not one

    assert len(worker.running) == 2


# -------------------------------------------------------------------------------------------------------------- groups


def test_what_stands_behind_a_message_that_cannot_be_processed_waits_until_that_is_settled() -> None:
    worker = fast()
    worker.tick()
    deliver_defect(worker, 1)
    worker.deliver("b", start=2)
    assert offsets(worker) == []

    assert offsets(worker.publish()) == [[2]]


def test_a_message_that_cannot_be_processed_waits_for_what_stands_before_it() -> None:
    worker = fast()
    worker.tick()
    worker.engine.on_delivered(ROW[0], [Message("t", 0, 1)], [(b"b" * 16, None)])
    deliver_defect(worker, 2)
    worker.turn()
    assert (offsets(worker), worker.publishing) == ([[1]], [])
    worker.run()

    assert [delivery.offset for delivery in worker.publishing] == [2]
