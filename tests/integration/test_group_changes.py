"""What happens to a group besides members that come and go. On a real Kafka and a real Redis."""

import threading
import uuid
from collections import Counter
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions

from kafka_once import App, Message, header
from kafka_once.testing.services import KafkaServer, RedisServer
from tests.integration.test_processes import PATIENCE_S, lag, make_topic, produce, wait_until

pytestmark = pytest.mark.integration

POLL_INTERVAL_MS = 2000
PROTOCOLS: dict[str, dict[str, Any]] = {
    "classic": {"session.timeout.ms": 1500, "max.poll.interval.ms": POLL_INTERVAL_MS},
    "consumer": {"group.protocol": "consumer", "max.poll.interval.ms": POLL_INTERVAL_MS},
}


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_handler_longer_than_the_poll_interval_keeps_its_partition(
    kafka: KafkaServer, redis_server: RedisServer, protocol: str
) -> None:
    """C13: polling goes on while it runs. Another member is there to be given the partition, if Kafka thought so."""
    topic, group = make_topic(kafka, 2), f"g-{uuid.uuid4().hex[:8]}"
    ran: Counter[bytes | None] = Counter()

    def member() -> App:
        app = App(
            kafka.bootstrap,
            group=group,
            store=redis_server.url,
            kafka=PROTOCOLS[protocol],
            lease="1s",
            drain="1s",
            commit_every="50ms",
        )

        @app.handler(topic, key=header("id"))
        def handle(message: Message) -> None:
            if message.idempotency_key == b"slow":
                threading.Event().wait(2.5 * POLL_INTERVAL_MS / 1000)  # at work
            ran[message.idempotency_key] += 1

        app.start()
        return app

    members = [member(), member()]
    produce(kafka, topic, ["slow", *(f"k{number}" for number in range(20))])
    wait_until(lambda: lag(kafka, group, topic, 2) == 0, "lag 0")
    for app in members:
        app.stop()
    for app in members:
        assert app.join(PATIENCE_S)

    assert len(ran) == 21
    assert set(ran.values()) == {1}
    assert sum(app.stats()["in_doubt"] + app.stats()["fenced"] for app in members) == 0


def test_partitions_that_are_added_are_read_from_their_beginning(kafka: KafkaServer, redis_server: RedisServer) -> None:
    """C22: what was sent there before the group heard of them is not passed over."""
    if kafka.kind == "mock":
        pytest.skip("the mock cluster adds no partitions")
    topic, group = make_topic(kafka, 1), f"g-{uuid.uuid4().hex[:8]}"
    ran: Counter[bytes | None] = Counter()
    places = set()
    kafka_settings = {"topic.metadata.refresh.interval.ms": 500, "session.timeout.ms": 6000}
    app = App(kafka.bootstrap, group=group, store=redis_server.url, kafka=kafka_settings, commit_every="50ms")

    @app.handler(topic, key=header("id"))
    def handle(message: Message) -> None:
        ran[message.idempotency_key] += 1
        places.add(message.partition)

    app.start()
    produce(kafka, topic, ["first"])
    wait_until(lambda: bool(ran), "at work")
    admin = kafka.admin()  # it must outlive its answer
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
    for number in range(50):
        produce(kafka, topic, [f"k{number}-{n}" for n in range(4)])
    wait_until(lambda: lag(kafka, group, topic, 4) == 0, "lag 0")
    app.stop()
    assert app.join(PATIENCE_S)

    assert len(ran) == 201
    assert set(ran.values()) == {1}
    assert len(places) > 1


def test_two_apps_with_one_group_id_and_topics_of_their_own_lose_nothing(
    kafka: KafkaServer, redis_server: RedisServer
) -> None:
    """C30: a mistake that Kafka allows. They rebalance each other, and the same key in both topics is two works."""
    topics, group = [make_topic(kafka, 2), make_topic(kafka, 2)], f"g-{uuid.uuid4().hex[:8]}"
    ran: Counter[tuple[str, bytes | None]] = Counter()

    def member(topic: str) -> App:
        app = App(kafka.bootstrap, group=group, store=redis_server.url, commit_every="50ms")

        @app.handler(topic, key=header("id"))
        def handle(message: Message) -> None:
            ran[topic, message.idempotency_key] += 1

        app.start()
        return app

    apps = [member(topic) for topic in topics]
    for topic in topics:
        produce(kafka, topic, [f"k{number}" for number in range(100)])
    wait_until(lambda: sum(lag(kafka, group, topic, 2) for topic in topics) == 0, "lag 0")
    for app in apps:
        app.stop()
    for app in apps:
        assert app.join(PATIENCE_S)

    assert len(ran) == 200
    assert set(ran.values()) == {1}
