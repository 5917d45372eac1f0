"""Integration tests: the same app on a real Kafka and a real Redis, which the plugin's fixtures start."""

import pytest

from examples.testing import app as shipping

pytestmark = pytest.mark.integration


def test_everything_twice_is_shipped_once(once_app, pickups):
    served = once_app(shipping.app)
    for number in range(20):
        served.send("orders", {"id": f"o-{number}", "items": 1})
    served.repeat()
    served.settle()

    assert sorted(pickups) == sorted((f"o-{number}", 1) for number in range(20))
    assert served.outcomes == {"completed": 20, "repeat": 20}


def test_an_order_of_nothing_is_dead_lettered(once_app, pickups):
    served = once_app(shipping.app, partitions=1)
    served.send("orders", {"id": "o-1", "items": 0}, headers={"trace": "t-1"})
    served.settle()

    [dead] = served.dead_letters()
    assert dead.header("kafka-once.reason") == b"undecodable payload"
    assert dead.header("trace") == b"t-1"
    assert pickups == []


def test_the_servers_are_there_for_other_things_too(kafka, redis):
    with redis.client() as client:
        assert client.ping()
    assert kafka.admin().list_topics(timeout=10).brokers
