"""When the engine wants more messages: `hungry`, `slow`. On the bench."""

from kafka_once.core.events import Kind
from kafka_once.core.order import Order
from kafka_once.message import Message, TopicPartition
from tests.unit.bench import ROW, Worker, World

OTHER_TOPIC = TopicPartition("u", 0)


def fast(*names: TopicPartition, **rules: object) -> Worker:
    """Its handler has shown that it takes no time."""
    worker = Worker(**rules).own(*names).deliver("first", partition=names[0]).run(took_ms=0.001)
    assert worker.engine.slow is False
    return worker


def test_fast_handlers_fill_three_quarters_of_a_partitions_buffer() -> None:
    worker = fast(ROW[0], buffer=8)
    worker.deliver(*"abcdef", start=1)
    assert worker.engine.hungry() is True

    worker.deliver("g", start=7)

    assert worker.engine.hungry() is False


def test_and_no_more_than_a_buffer_in_all() -> None:
    worker = fast(*ROW, buffer=8)
    worker.deliver(*"abc", start=1).deliver(*"def", partition=ROW[1]).deliver("g", partition=ROW[2])
    assert worker.engine.hungry() is True

    worker.deliver("h", partition=ROW[3])

    assert worker.engine.hungry() is False


def test_what_is_paused_does_not_count() -> None:
    worker = fast(ROW[0], ROW[1], buffer=8)
    worker.deliver(*"abcdefgh", start=1)
    assert worker.paused == {ROW[0]}

    assert worker.engine.hungry() is True
    worker.deliver(*"ijklmno", partition=ROW[1])
    assert worker.engine.hungry() is False


def test_one_partition_that_is_nearly_full_is_enough() -> None:
    worker = fast(ROW[0], ROW[1], buffer=20)
    worker.deliver(*"abcdefghijklmnop", start=1)

    assert worker.engine.hungry() is False


def test_more_is_wanted_where_nothing_is_assigned() -> None:
    """However small a buffer is: Kafka is asked, and gives partitions."""
    assert Worker(buffer=1).engine.hungry() is True


def test_with_slow_handlers_a_partition_that_has_nothing_to_do_wants_more() -> None:
    worker = Worker(buffer=4).own(*ROW[:3])
    worker.deliver(*"abc").deliver("d", partition=ROW[1])
    assert worker.engine.hungry() is True

    worker.deliver("e", partition=ROW[2])

    assert worker.engine.hungry() is False


def test_by_record_key_it_is_lanes_that_count() -> None:
    worker = Worker(order=Order.KEY, concurrency=2, buffer=5).own(*ROW[:2])
    worker.deliver("x:a", "x:b", "x:c", "x:d")
    assert worker.engine.hungry() is True  # one lane runs, two may

    worker.deliver("y:e", partition=ROW[1])

    assert worker.engine.hungry() is False  # nothing more may run


def test_lanes_that_are_ready_are_enough() -> None:
    worker = Worker(order=Order.KEY, concurrency=3, buffer=5, store_depth=1).own()
    worker.store_answers = False
    worker.deliver("x:a").deliver("y:b", "z:c", "w:d", start=1)

    assert worker.engine.hungry() is False


def test_lanes_of_a_partition_that_somebody_else_may_have_are_not_ready() -> None:
    world = World()
    worker = Worker(world, order=Order.KEY, concurrency=2, buffer=6).own(*ROW[:2]).deliver("x:a", partition=ROW[1])
    Worker(world).own(ROW[0])
    worker.deliver("u:b", "v:c", "w:d", "w:e")
    assert Kind.SUPERSEDED in [note.kind for note in worker.notes]
    assert worker.keys == ["a"]

    worker.engine.on_delivered(ROW[0], [Message("t", 0, 4, key=b"z")], [(b"f" * 16, None)])
    assert worker.engine.hungry() is True


def test_one_slow_topic_is_enough_to_be_slow() -> None:
    worker = Worker().own(ROW[0], OTHER_TOPIC)
    assert worker.engine.slow is True

    worker.deliver("a", partition=OTHER_TOPIC).run(took_ms=0.001)
    assert worker.engine.slow is True

    worker.deliver("b").run(took_ms=0.001)
    assert worker.engine.slow is False
    worker.deliver(*"cd", start=1).run(took_ms=100)
    assert worker.engine.slow is True
