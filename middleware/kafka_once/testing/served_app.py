"""Your app on a real Kafka and a real Redis, under names of its own. For integration tests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from kafka_once.app import App
from kafka_once.member import Adapters
from kafka_once.message import Coordinates, Message
from kafka_once.testing.app_under_test import AppUnderTest, Headers
from kafka_once.testing.services import KafkaServer, RedisServer

__all__ = ["ServedApp"]

_PATIENCE_S = 30.0


class ServedApp(AppUnderTest):
    """Runs the handlers of your app on these servers; the fixture `once_app` makes it.

    The group and the topics get names that nothing else has (`message.topic` shows them), so tests do not meet.

    Args:
        app: yours, not started; it is not changed, and its own servers are not asked for.
        kafka, redis: running servers.
        partitions: of each topic. Default 3.
        settings: what shall be different, by name.
    """

    def __init__(
        self, app: App, kafka: KafkaServer, redis: RedisServer, *, partitions: int = 3, **settings: Any
    ) -> None:
        place = _Servers(kafka, app.settings.group)
        if app.settings.store is not None:
            place.settings = {**place.settings, "store": redis.url}
        super().__init__(app, place, partitions, settings)


class _Servers:
    """A Kafka and a Redis that others use too."""

    adapters: Adapters | None = None

    def __init__(self, kafka: KafkaServer, group: str) -> None:
        self._kafka = kafka
        self._suffix = uuid.uuid4().hex[:8]
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
        self.settings: Mapping[str, Any] = {
            "bootstrap_servers": kafka.bootstrap,
            "group": f"{group}-{self._suffix}",
            "kafka": {"session.timeout.ms": 6000, "fetch.wait.max.ms": 50},
        }

    def create_topic(self, topic: str, partitions: int) -> str:
        name = f"{topic}-{self._suffix}"
        self._kafka.create_topic(name, partitions)
        return name

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None
    ) -> Coordinates:
        placed: list[Any] = []

        def on_delivery(error: KafkaError | None, record: Any) -> None:
            placed.append(error or record)

        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        self._producer.produce(topic, value, key, headers=list(headers), on_delivery=on_delivery, **where)
        self._producer.flush(_PATIENCE_S)
        if not placed or isinstance(placed[0], KafkaError):
            raise AssertionError(f"Kafka did not take a message for {topic}: {placed or 'no answer'}")
        return Coordinates("", topic, placed[0].partition(), placed[0].offset())

    def records(self, topic: str) -> list[Message]:
        settings = {
            "bootstrap.servers": self._kafka.bootstrap,
            "group.id": f"reader-{self._suffix}",
            "enable.auto.commit": False,
        }
        consumer = Consumer(settings)
        try:
            return [record for number in _partitions(consumer, topic) for record in _read(consumer, topic, number)]
        finally:
            consumer.close()


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    return sorted(consumer.list_topics(topic, timeout=_PATIENCE_S).topics[topic].partitions)


def _read(consumer: Consumer, topic: str, number: int) -> list[Message]:
    """One partition from its beginning to what is its end now."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_PATIENCE_S)
    consumer.assign([TopicPartition(topic, number, low)])
    messages: list[Message] = []
    deadline = time.monotonic() + _PATIENCE_S
    while low < high and time.monotonic() < deadline:
        record: Any = consumer.poll(0.2)
        if record is None:
            continue
        if record.error():
            raise KafkaException(record.error())
        low = record.offset() + 1
        messages.append(
            Message(
                topic, number, record.offset(), key=record.key(), value=record.value(), headers=record.headers() or ()
            )
        )
    return messages
