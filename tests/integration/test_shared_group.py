"""A group that is shared by mistake. On a real Kafka and a real Redis."""

import uuid
from collections import Counter

import pytest

from kafka_once import App, Message, header
from kafka_once.testing.services import KafkaServer, RedisServer
from tests.integration.test_processes import PATIENCE_S, lag, make_topic, produce, wait_until

pytestmark = pytest.mark.integration


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
