"""Unit tests: the handler for real, Kafka and the store in memory. Milliseconds, nothing to install."""

from examples.testing import app as shipping
from kafka_once.testing import MemoryApp


def test_everything_twice_is_shipped_once(pickups):
    with MemoryApp(shipping.app) as memory:
        memory.send("orders", {"id": "o-1", "items": 2})
        memory.send("orders", {"id": "o-2", "items": 1})
        memory.repeat()
        memory.settle()

    assert pickups == [("o-1", 2), ("o-2", 1)]
    assert memory.outcomes == {"completed": 2, "repeat": 2}


def test_a_carrier_that_comes_back_is_tried_again(pickups):
    pickups.failures = 2
    with MemoryApp(shipping.app) as memory:
        order = memory.send("orders", {"id": "o-1", "items": 2})
        memory.settle()

    assert pickups == [("o-1", 2)]
    assert memory.outcome_of(order) == "completed"
    assert memory.stats()["retries"] == 2


def test_an_order_of_nothing_is_dead_lettered(pickups):
    with MemoryApp(shipping.app) as memory:
        memory.send("orders", {"id": "o-1", "items": 0})
        memory.settle()
        [dead] = memory.dead_letters()

    assert pickups == []
    assert dead.header("kafka-once.reason") == b"undecodable payload"
