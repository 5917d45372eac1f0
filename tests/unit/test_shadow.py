"""Shadow mode in memory: what it counts, and that it acts on nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel

from kafka_once import App, ConfigurationError, field, header
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.member import Adapters
from kafka_once.message import TopicPartition
from kafka_once.ports import Namespace
from kafka_once.shadow import Example, Shadow
from kafka_once.stores.memory import MemoryState, MemoryStore

PATIENCE_S = 20


class Payment(BaseModel):
    id: str


class World:
    """A Kafka and stores in this process, and an app whose handler must never be called."""

    def __init__(self, **settings: Any) -> None:
        self.now_ms = 0
        self.cluster = MemoryCluster(now_ms=lambda: self.now_ms)
        for topic in ("payments", "tags", "dead"):
            self.cluster.create_topic(topic, 1)
        self.namespaces: list[Namespace] = []
        self.urls: list[str | None] = []
        self.called: list[object] = []
        adapters = Adapters(
            broker=lambda settings: MemoryBroker(self.cluster, settings.group, settings.instance_id),
            store=self._store,
        )
        settings = {
            "group": "billing",
            "store": "memory://",
            "dead_letter_topic": "dead",
            "commit_every": "20ms",
            **settings,
        }
        self.app = App("memory:1", adapters=adapters, **settings)
        self._states: dict[Namespace, MemoryState] = {}

    def _store(self, settings: Any, namespace: Namespace) -> MemoryStore:
        self.namespaces.append(namespace)
        self.urls.append(settings.store_shown)
        state = self._states.setdefault(namespace, MemoryState())
        return MemoryStore(namespace, settings.lease_ms, settings.remember_for_ms, state=state)

    def handler(self, *topics: str, **options: Any) -> None:
        @self.app.handler(*topics, **options)
        async def handle(payment: Payment) -> None:
            self.called.append(payment)

    def produce(self, key: str | None, payload: str, at_ms: int = 0, topic: str = "payments") -> None:
        headers: list[tuple[str, bytes | None]] = [] if key is None else [("id", key.encode())]
        self.now_ms = at_ms
        self.cluster.produce(topic, None, payload.encode(), headers, 0)

    def watch(self, deliveries: int, **options: Any) -> Shadow:
        shadow = Shadow(self.app, **options)
        shadow.start()
        pause = threading.Event()
        for _ in range(PATIENCE_S * 100):
            committed = self.cluster.committed(shadow.settings.group)
            if sum(known.offset for known in committed.values()) >= deliveries or shadow.join(0):
                break
            pause.wait(0.01)  # what the other threads did can only be looked at
        shadow.stop()
        assert shadow.join(PATIENCE_S)
        return shadow


@pytest.fixture
def world() -> World:
    made = World()
    made.handler("payments", key=header("id"))
    return made


def test_it_counts_what_would_be_processed_and_what_would_be_skipped(world: World) -> None:
    for key, payload, at_ms in (
        ("a", '{"id": "1"}', 1_000),
        ("b", '{"id": "2"}', 2_000),
        ("a", '{"id": "1"}', 9_000),  # a repeat
        ("a", '{"id": "3"}', 3_000),  # other work under the same key?
        (None, '{"id": "4"}', 4_000),
        ("", '{"id": "5"}', 4_000),
        ("c", "junk", 4_000),
        ("d", '{"id": "2"}', 4_000),  # the same work under another key?
    ):
        world.produce(key, payload, at_ms)
    shadow = world.watch(8)

    assert shadow.stats() == {
        "deliveries": 8,
        "would_process": 3,
        "would_skip": 2,
        "other_payload": 1,
        "same_payload_other_key": 1,
        "missing_keys": 2,
        "undecodable": 1,
        "unprotected": 0,
        "read_again": 0,
        "longest_gap_ms": 8_000,
    }
    assert sorted(shadow.examples()) == [
        Example("missing_keys", "payments[0]@4", ""),
        Example("missing_keys", "payments[0]@5", ""),
        Example("other_payload", "payments[0]@3", "payments[0]@0"),
        Example("same_payload_other_key", "payments[0]@7", "payments[0]@1"),
        Example("undecodable", "payments[0]@6", ""),
    ]


def test_it_acts_on_nothing_but_its_own_group_and_namespace(world: World) -> None:
    for key in ("a", "a", None):
        world.produce(key, '{"id": "1"}')
    world.produce("b", "junk")
    world.watch(4)

    assert world.called == []
    assert world.cluster.records("dead") == []
    assert world.cluster.committed("billing") == {}
    assert {namespace.group for namespace in world.namespaces} == {"billing.shadow"}
    assert world.cluster.committed("billing.shadow")[TopicPartition("payments", 0)].offset == 4


def test_started_again_it_goes_on_where_it_was_and_knows_the_keys(world: World) -> None:
    world.produce("a", '{"id": "1"}')
    world.watch(1)
    world.produce("a", '{"id": "1"}')
    again = world.watch(2)

    assert (again.stats()["deliveries"], again.stats()["would_skip"]) == (1, 1)


def test_a_key_in_the_payload_that_cannot_be_read_is_counted_once() -> None:
    world = World()
    world.handler("payments", key=field("id"))
    for payload in ("junk", "{}", '{"id": "1"}'):
        world.produce(None, payload)
    stats = world.watch(3).stats()

    assert (stats["undecodable"], stats["missing_keys"], stats["would_process"]) == (1, 1, 1)


def test_idempotent_handlers_are_counted_apart(world: World) -> None:
    world.handler("tags", idempotent=True)
    for _ in range(2):
        world.produce(None, '{"id": "1"}', topic="tags")
    stats = world.watch(2).stats()

    assert (stats["unprotected"], stats["would_process"], stats["would_skip"]) == (2, 2, 0)


def test_an_app_without_a_store_is_watched_in_the_memory_of_the_process() -> None:
    world = World(semantics="at_least_once", store=None)
    world.handler("payments", key=header("id"))
    for _ in range(2):
        world.produce("a", '{"id": "1"}')
    shadow = world.watch(2)

    assert shadow.stats()["would_skip"] == 1
    assert world.urls == ["memory://"]


def test_group_and_store_can_be_chosen_but_not_the_apps_own_group() -> None:
    world = World(store="redis://localhost:1/0", kafka={"group.instance.id": "pod-0", "client.id": "x"})
    world.handler("payments", key=header("id"))
    shadow = Shadow(world.app, group="watchers", store="memory://")

    assert (shadow.settings.group, shadow.settings.store_shown, shadow.beside) == ("watchers", "memory://", "billing")
    assert (shadow.settings.instance_id, shadow.settings.kafka) == (None, {"client.id": "x"})
    for group in ("billing", "", "a\nb", "x" * 256):
        with pytest.raises(ConfigurationError, match="group="):
            Shadow(world.app, group=group)
    with pytest.raises(ConfigurationError, match="store="):
        Shadow(world.app, store="nonsense")


def test_an_app_without_any_key_has_nothing_to_show() -> None:
    world = World(semantics="at_least_once", store=None)
    world.handler("payments")

    with pytest.raises(ConfigurationError, match="nothing to see"):
        Shadow(world.app)
