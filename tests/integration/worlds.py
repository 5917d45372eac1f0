"""The three places in which the same scenario runs: all in memory, embedded servers, real servers."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import Producer, TopicPartition

from kafka_once import App
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.member import Adapters
from kafka_once.ports import Namespace
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.testing.services import start_kafka, start_redis

Headers = list[tuple[str, bytes | None]]
Record = tuple[bytes | None, bytes | None, Headers]


class World(Protocol):
    """A Kafka and a store, as the test sees them from outside."""

    def topic(self, partitions: int) -> str: ...
    def app(self, group: str, **settings: Any) -> App: ...
    def produce(self, topic: str, records: list[Record]) -> None: ...
    def read(self, topic: str) -> list[Record]: ...
    def lag(self, group: str, topic: str) -> int: ...


@dataclass
class MemoryWorld:
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    state: MemoryState = field(default_factory=MemoryState)
    partitions: dict[str, int] = field(default_factory=dict)

    def topic(self, partitions: int) -> str:
        name = f"payments-{len(self.partitions)}"
        self.partitions[name] = partitions
        self.cluster.create_topic(name, partitions)
        return name

    def app(self, group: str, **settings: Any) -> App:
        def store(settings: Any, namespace: Namespace) -> MemoryStore:
            return MemoryStore(namespace, settings.lease_ms, settings.remember_for_ms, state=self.state)

        adapters = Adapters(lambda made: MemoryBroker(self.cluster, made.group, made.instance_id), store)
        return App("memory:9092", group=group, store="memory://", adapters=adapters, **settings)

    def produce(self, topic: str, records: list[Record]) -> None:
        for key, value, headers in records:
            self.cluster.produce(topic, key, value, headers)

    def read(self, topic: str) -> list[Record]:
        return [(message.key, message.value, message.headers) for message in self.cluster.records(topic)]

    def lag(self, group: str, topic: str) -> int:
        committed = sum(known.offset for name, known in self.cluster.committed(group).items() if name.topic == topic)
        return len(self.cluster.records(topic)) - committed


@dataclass
class ServerWorld:
    bootstrap: str
    url: str
    create_topic: Callable[[str, int], None]
    partitions: dict[str, int] = field(default_factory=dict)

    def topic(self, partitions: int) -> str:
        name = f"payments-{uuid.uuid4().hex[:8]}"
        self.partitions[name] = partitions
        self.create_topic(name, partitions)
        return name

    def app(self, group: str, **settings: Any) -> App:
        kafka = {"session.timeout.ms": 6000, "fetch.wait.max.ms": 50, **settings.pop("kafka", {})}
        return App(self.bootstrap, group=group, store=self.url, kafka=kafka, **settings)

    def produce(self, topic: str, records: list[Record]) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 5})
        failed: list[object] = []

        def on_delivery(error: object, _message: object) -> None:
            if error is not None:
                failed.append(error)

        for key, value, headers in records:
            producer.produce(topic, value, key, headers=headers, on_delivery=on_delivery)
            producer.poll(0)
        assert producer.flush(30) == 0
        assert not failed

    def read(self, topic: str) -> list[Record]:
        records: list[Record] = []
        with self._plain() as consumer:
            for partition in range(self.partitions[topic]):
                place = TopicPartition(topic, partition, 0)
                low, high = consumer.get_watermark_offsets(place, timeout=10)
                consumer.assign([place])
                for _ in range(low, high):
                    message = consumer.poll(10)
                    assert message is not None
                    assert not message.error()
                    records.append((message.key(), message.value(), message.headers() or []))
        return records

    def lag(self, group: str, topic: str) -> int:
        lag = 0
        with self._plain(group) as consumer:
            places = [TopicPartition(topic, partition) for partition in range(self.partitions[topic])]
            for place in consumer.committed(places, timeout=10):
                _, high = consumer.get_watermark_offsets(place, timeout=10)
                lag += high - max(place.offset, 0)
        return lag

    @contextmanager
    def _plain(self, group: str = "reader") -> Iterator[PlainConsumer]:
        consumer = PlainConsumer({"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False})
        try:
            yield consumer
        finally:
            consumer.close()


@contextmanager
def memory_world() -> Iterator[World]:
    yield MemoryWorld()


@contextmanager
def server_world(kafka_kind: str | None, redis_kind: str | None) -> Iterator[World]:
    with ExitStack() as stack:
        kafka = stack.enter_context(start_kafka(kafka_kind))
        redis = stack.enter_context(start_redis(redis_kind))
        yield ServerWorld(kafka.bootstrap, redis.url, kafka.create_topic)


WORLDS: dict[str, Callable[[], AbstractContextManager[World]]] = {
    "memory": memory_world,
    "embedded": lambda: server_world("mock", "embedded"),
    "real": lambda: server_world(None, None),
}
