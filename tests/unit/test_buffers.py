"""What a partition may hold before it is paused: messages, their bytes, and what is settled behind one that is not."""

import pytest

from kafka_once.core.events import Kind
from kafka_once.core.order import Order
from kafka_once.message import Message
from tests.unit.bench import ROW, Worker


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
