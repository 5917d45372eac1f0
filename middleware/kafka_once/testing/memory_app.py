"""Your app in memory: its handlers for real, Kafka and the store in this process. For unit tests of handlers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka_once.app import App
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.member import Adapters
from kafka_once.message import Coordinates, Message
from kafka_once.ports import Namespace
from kafka_once.settings import Settings
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.testing.app_under_test import AppUnderTest, Headers

__all__ = ["MemoryApp"]


class MemoryApp(AppUnderTest):
    """Runs the handlers of your app in memory, in milliseconds.

    For example::

        with MemoryApp(app) as memory:
            memory.send("payments", {"id": "p-1", "amount": "12.50"})
            memory.settle()
            memory.repeat()
            memory.settle()
        assert memory.outcomes == {"completed": 1, "repeat": 1}

    Args:
        app: yours, not started; it is not changed, and no Kafka and no Redis is asked for.
        partitions: of each topic. Default 1.
        settings: what shall be different, by name.
    """

    def __init__(self, app: App, *, partitions: int = 1, **settings: Any) -> None:
        super().__init__(app, _Memory(has_store=app.settings.store is not None), partitions, settings)


class _Memory:
    """A Kafka and a store in this process."""

    def __init__(self, *, has_store: bool) -> None:
        self._cluster = MemoryCluster()
        self._state = MemoryState()
        self.adapters: Adapters | None = Adapters(self._broker, self._store)
        self.settings: Mapping[str, Any] = {"bootstrap_servers": "memory:9092", "kafka": {}}
        if has_store:
            self.settings = {**self.settings, "store": "memory://"}

    def _broker(self, settings: Settings) -> MemoryBroker:
        return MemoryBroker(self._cluster, settings.group, settings.instance_id)

    def _store(self, settings: Settings, namespace: Namespace) -> MemoryStore:
        return MemoryStore(namespace, settings.lease_ms, settings.remember_for_ms, state=self._state)

    def create_topic(self, topic: str, partitions: int) -> str:
        self._cluster.create_topic(topic, partitions)
        return topic

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None
    ) -> Coordinates:
        return self._cluster.append(topic, key, value, headers, partition)

    def records(self, topic: str) -> list[Message]:
        return self._cluster.records(topic)
