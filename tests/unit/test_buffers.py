"""What a partition may hold before it is paused: messages, their bytes, and what is settled behind one that is not."""

import pytest

from kafka_once.core.events import Kind
from kafka_once.core.order import Order
from kafka_once.core.semantics import Semantics
from kafka_once.message import Message
from tests.unit.bench import ROW, Worker

AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}
BESIDE_BYTES = 1_700  # that a message takes beside its payload and its record key


def deliver_large(worker: Worker, count: int, size: int, start: int = 0) -> Worker:
    worker.tick()
    for offset in range(start, start + count):
        message = Message("t", 0, offset, value=b"." * size)
        worker.engine.on_delivered(ROW[0], [message], [(b"%016d" % offset, None)])
    return worker.turn()


def test_a_partition_is_paused_when_it_holds_its_share_of_the_bytes() -> None:
    worker = Worker(buffer_bytes=1_000_000).own(*ROW[:2])
    deliver_large(worker, 4, 100_000)
    assert worker.paused == set()

    deliver_large(worker, 1, 100_000, start=4)
    assert worker.paused == {ROW[0]}

    worker.run().run()
    assert worker.paused == {ROW[0]}
    worker.run()
    assert worker.paused == set()


def test_what_is_over_is_not_held_and_a_partition_that_holds_a_byte_less_is_not_full() -> None:
    (group,) = deliver_large(Worker().own(), 1, 1_000).running
    worker = Worker(buffer_bytes=3 * group.deliveries[0].size + 1).own()
    for start in range(0, 30, 3):
        deliver_large(worker, 3, 1_000, start=start)
        assert worker.paused == set()
        worker.run_all()

    deliver_large(worker, 3, 1_000, start=30)
    deliver_large(worker, 1, 1_000, start=33)
    assert worker.paused == {ROW[0]}


def test_the_last_partition_has_all_of_the_bytes() -> None:
    worker = Worker(buffer_bytes=1_000_000).own(*ROW[:2])
    worker.engine.on_lost(ROW[1:2])
    deliver_large(worker, 9, 100_000)
    assert worker.paused == set()

    deliver_large(worker, 1, 100_000, start=9)
    assert worker.paused == {ROW[0]}


@pytest.mark.parametrize("order", [Order.KEY, Order.NONE])
def test_others_get_only_so_far_ahead_of_a_message_that_is_not_settled(order: Order) -> None:
    """Else the offsets that wait for it, and what runs again without a store, would grow for as long as it fails."""
    worker = Worker(order=order, buffer=4, backoff_ms=400, backoff_most_ms=400).own().deliver("x:a")
    worker.run(ValueError())
    delivered = 1
    while not worker.paused:
        worker.deliver(f"y:k{delivered}", start=delivered).run_all()
        delivered += 1
    assert delivered == 40
    assert worker.engine.unfinished == 1

    worker.pass_time(500).run()

    assert worker.paused == set()
    assert worker.pass_time(100).committed == {ROW[0]: 40}


def test_it_is_told_for_which_message_the_others_wait() -> None:
    worker = Worker(order=Order.NONE, buffer=3, backoff_ms=400).own()
    told = []
    worker.observe = told.append
    worker.deliver("a", start=7).run(ValueError())
    for offset in range(8, 60):
        worker.deliver(f"k{offset}", start=offset).run_all()

    assert [(note.kind, note.text) for note in told if note.kind is Kind.HELD_BACK] == [
        (Kind.HELD_BACK, "30 from offset 7 on")
    ]


# ------------------------------------------------------------------------------------------------- to the last of them


def test_a_message_counts_with_its_payload_its_record_key_and_what_it_takes_beside_them() -> None:
    for buffer_bytes, full in ((BESIDE_BYTES + 300 + 21, False), (BESIDE_BYTES + 300 + 20, True)):
        worker = Worker(buffer_bytes=buffer_bytes).own()
        worker.engine.on_delivered(ROW[0], [Message("t", 0, 0, key=b"k" * 20, value=b"." * 300)], [(None, None)])
        worker.turn()

        assert worker.paused == ({ROW[0]} if full else set())


def test_what_has_ended_takes_no_memory_any_more() -> None:
    worker = Worker(buffer_bytes=2 * BESIDE_BYTES, **AT_LEAST).own().deliver("a").run().deliver("b", start=1).run()
    assert worker.deliver("c", start=2).paused == set()

    assert worker.deliver("d", start=3).paused == {ROW[0]}


def test_a_partition_goes_on_when_half_of_its_messages_have_ended() -> None:
    worker = Worker(buffer=4).own().deliver(*"abcd")

    assert worker.run().paused == {ROW[0]}
    assert worker.run().paused == set()
    assert worker.deliver("e", "f", start=4).paused == {ROW[0]}  # and is paused again when it is full again


def test_a_partition_goes_on_when_half_of_its_bytes_are_free() -> None:
    worker = Worker(buffer_bytes=2 * BESIDE_BYTES, **AT_LEAST).own().deliver("a", "b")
    assert worker.paused == {ROW[0]}

    assert worker.run().paused == set()


@pytest.mark.parametrize(("second", "goes_on"), [(19, False), (20, True)])
def test_a_partition_goes_on_when_what_waits_behind_an_unsettled_message_is_half_of_the_most(
    second: int, goes_on: bool
) -> None:
    """Of 40: the first is settled, and then the second is the one that the others wait for."""
    worker = Worker(order=Order.NONE, buffer=4, backoff_ms=400, backoff_most_ms=400).own()
    for offset in range(40):
        worker.deliver(f"k{offset}", start=offset)
        worker.run(ValueError() if offset in (0, second) else None)
    assert worker.paused == {ROW[0]}

    worker.pass_time(500)
    worker.run(group=next(group for group in worker.running if group.deliveries[0].offset == 0))

    assert worker.paused == (set() if goes_on else {ROW[0]})


def test_a_partition_that_is_full_of_messages_waits_for_none_in_particular() -> None:
    worker = Worker(buffer=2).own().deliver("a", "b")

    assert worker.paused == {ROW[0]}
    assert Kind.HELD_BACK not in [note.kind for note in worker.notes]


# --------------------------------------------------------------------------------------------- and what else holds it


def test_what_is_not_paused_is_not_resumed() -> None:
    worker = Worker(**AT_LEAST).own().deliver("a")
    (group,) = worker.running
    group.results.append(None)
    worker.engine.on_ran(group)

    assert worker.engine.decide().resume == []


def test_while_the_store_is_silent_nothing_is_resumed() -> None:
    worker = Worker(buffer=2).own().deliver("", "")
    worker.store_answers = False
    worker.pass_time(2_000)
    worker.engine.on_silence(OSError())

    assert worker.run().paused == {ROW[0]}
    assert worker.outcomes() == {"completed": 1}


def test_what_is_revoked_is_not_resumed() -> None:
    worker = Worker(buffer=2).own().deliver("a", "b")
    worker.engine.on_revoked(ROW[:1])

    assert worker.run().paused == {ROW[0]}
    assert worker.engine.drained()


def test_nothing_is_resumed_behind_an_error_that_stops_the_consumer() -> None:
    """In the same turn: the partitions are left in the next one only."""
    worker = Worker(buffer=2, **AT_LEAST).own(*ROW[:2]).deliver("a").deliver("b", "c", partition=ROW[1])
    failed, ended = worker.running
    for group, result in ((failed, SystemExit()), (ended, None)):
        group.results.append(result)
        worker.engine.on_ran(group)

    assert worker.engine.decide().resume == []
