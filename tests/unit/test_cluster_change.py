"""Another cluster takes over: the same work at other offsets (D24)."""

import threading

import pytest

from kafka_once import App, Message, header
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.member import Adapters
from kafka_once.stores.memory import MemoryState, MemoryStore

PATIENCE_S = 20


def process(kafka: MemoryCluster, state: MemoryState, count: int, **settings: str) -> list[bytes | None]:
    """What an app runs of the messages that are there; `count` is how many end in one way or the other."""
    adapters = Adapters(
        broker=lambda made: MemoryBroker(kafka, made.group),
        store=lambda made, namespace: MemoryStore(namespace, made.lease_ms, state=state),
    )
    app = App("memory:9092", group="billing", store="memory://", adapters=adapters, **settings)
    ran: list[bytes | None] = []

    @app.handler("payments", key=header("id"))
    def handle(message: Message) -> None:
        ran.append(message.idempotency_key)

    app.start()
    pause = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if app.stats()["completed"] + app.stats()["repeat"] + app.stats()["redelivery"] == count:
            break
        pause.wait(0.01)  # what the other threads did can only be looked at
    app.stop()
    assert app.join(PATIENCE_S)
    assert app.stats()["deliveries"] == count
    return ran


def cluster_with(name: str, *ids: str) -> MemoryCluster:
    cluster = MemoryCluster(name)
    cluster.create_topic("payments", 1)
    for one in ids:
        cluster.produce("payments", None, b"", [("id", one.encode())])
    return cluster


@pytest.mark.parametrize(
    ("named", "again"),
    [({"cluster": "prod"}, [b"d"]), ({}, [b"b", b"d", b"a"])],
    ids=["named: what is done is known", "not named: they are two clusters"],
)
def test_keys_are_known_on_the_other_cluster_if_both_have_one_name(named: dict[str, str], again: list[bytes]) -> None:
    """Only the work that is new runs; and it does run, although the group had got further on the other cluster."""
    state = MemoryState()
    assert process(cluster_with("east", "a", "b", "c"), state, 3, **named) == [b"a", b"b", b"c"]
    assert process(cluster_with("west", "b", "d", "a"), state, 3, **named) == again
