"""What a storm does."""

import uuid
from dataclasses import dataclass
from typing import Any

from kafka_once.testing.campaign.campaign import WORKER

__all__ = [
    "BROKER_CONFIG",
    "HANG_MS",
    "LEASE_MS",
    "PROTOCOLS",
    "SESSION_MS",
    "StormPlan",
    "is_static",
    "new_name",
    "order_of",
    "protocol_of",
]

SESSION_MS = 2_000  # so a freeze past it is short
LEASE_MS = 1_500  # with its margin shorter than the session

PROTOCOLS: dict[str, dict[str, Any]] = {
    "range": {"partition.assignment.strategy": "range"},
    "cooperative-sticky": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
MAX_POLL_MS = 3_000
HANG_MS = 4_500  # past max.poll.interval.ms, while the client's own thread goes on with its heartbeats

_CLASSIC = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 400}

# The same for the consumer protocol, where the broker decides.
BROKER_CONFIG = {
    "group.consumer.session.timeout.ms": str(SESSION_MS),
    "group.consumer.heartbeat.interval.ms": "500",
}


def protocol_of(word: str, seed: int) -> str:
    """The protocol of this seed; "mix" takes them in turn."""
    return list(PROTOCOLS)[seed % len(PROTOCOLS)] if word == "mix" else word


def is_static(word: str, seed: int) -> bool:
    """Whether the members of this seed are static; "mix": every second round of the protocols."""
    return seed // len(PROTOCOLS) % 2 == 1 if word == "mix" else word == "static"


def order_of(word: str, seed: int) -> str:
    """The order of this seed; "mix": every second round of protocols and memberships goes by record key."""
    return ("partition", "key")[seed // (2 * len(PROTOCOLS)) % 2] if word == "mix" else word


@dataclass(frozen=True, slots=True)
class StormPlan:
    """One storm.

    Attributes:
        seconds: how long the storm lasts; what follows until all is settled comes on top.
        rate: payments a second, of which `repeats` (a share) are repeats.
        handler_ms, slow_ms, slow_every: how long the handler takes, and for one key in so many.
        program: the module that runs as a worker, and its arguments before the `WorkerSpec`.
    """

    bootstrap: str
    store: str
    protocol: str
    static: bool
    order: str = "partition"
    seed: int = 1
    seconds: float = 60.0
    members: int = 5
    partitions: int = 12
    rate: int = 150
    repeats: float = 0.2
    handler_ms: float = 0.5
    slow_ms: float = 700.0
    slow_every: int = 40
    program: tuple[str, ...] = WORKER
    name: str = ""

    @property
    def topic(self) -> str:
        return self.name

    @property
    def group(self) -> str:
        return self.name

    def settings(self, name: str) -> dict[str, Any]:
        """Of the App of the worker with this name."""
        kafka = {**PROTOCOLS[self.protocol], "max.poll.interval.ms": MAX_POLL_MS}
        if self.protocol != "consumer":
            kafka |= _CLASSIC
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "group": self.group,
            "store": self.store,
            "lease": f"{LEASE_MS}ms",
            "drain": "2s",
            "commit_every": "100ms",
            "order": self.order,
            "kafka": kafka,
        }
        if self.static:
            settings["instance_id"] = name
        return settings


def new_name(seed: int) -> str:
    """Of the topic and the group of one storm."""
    return f"storm-{seed}-{uuid.uuid4().hex[:8]}"
