"""What happened, as an onlooker sees it: messages, handlers, Kafka's commits, the wire to the store, ends of processes.

Nothing here is taken from the engine's state; `counters` in `Left` are what it published itself. The order of the list
is the order of events. `worker` names one process (a restart has a new name), `tenure` one assignment of a partition.
"""

from __future__ import annotations

from typing import NamedTuple

from kafka_once.core.order import Order
from kafka_once.core.semantics import Semantics

__all__ = [
    "Asked",
    "AtRest",
    "Committed",
    "DeadLettered",
    "Deleted",
    "Delivered",
    "Duplicate",
    "Ended",
    "Event",
    "FrontierKept",
    "Given",
    "Gone",
    "Granted",
    "Left",
    "Over",
    "Produced",
    "Recorded",
    "Started",
    "StoodStill",
    "Terms",
]


class Terms(NamedTuple):
    """What was promised to this group."""

    semantics: Semantics = Semantics.EFFECTIVELY_ONCE
    store: bool = True
    exclusive: bool = True
    attempts: int = 5
    doubts_are_letters: bool = False
    order: Order = Order.PARTITION


class Produced(NamedTuple):
    """`kind`: "plain" (has a key), "unprotected" (runs without a claim), "defect" (never runs, is dead-lettered).

    `record_key` is Kafka's, None for a message without one; `key` the idempotency key.
    """

    partition: int
    offset: int
    key: str
    kind: str = "plain"
    record_key: str | None = None


class Deleted(NamedTuple):
    """The topic was deleted, and made anew: its partitions have other numbers here from then on."""

    partition: int


class Delivered(NamedTuple):
    worker: str
    partition: int
    offset: int


class Started(NamedTuple):
    """A handler begins; `in_doubt` is what the message tells it."""

    worker: str
    run: int
    tenure: int
    partition: int
    offset: int
    key: str
    in_doubt: bool = False


class Ended(NamedTuple):
    """`how`: "returned" | "raised" | "doubted" (raised, and it cannot know whether its effect happened) | "killed" (its
    process ended first)."""

    run: int
    how: str = "returned"


class DeadLettered(NamedTuple):
    """Kafka has the dead letter, whether or not it could say so."""

    partition: int
    offset: int
    key: str


class Given(NamedTuple):
    """A process was told that the partition is its own."""

    worker: str
    partition: int


class Gone(NamedTuple):
    """A process was told that the partition is lost, or let go of it when it was asked to."""

    worker: str
    partition: int


class Asked(NamedTuple):
    """A process sent a commit."""

    worker: str
    partition: int
    offset: int


class Committed(NamedTuple):
    """Kafka took the offset."""

    worker: str
    partition: int
    offset: int


class Granted(NamedTuple):
    """The store executed a claim of this process and granted it. `alone`: marked as a suspect that runs by itself.

    `fence`, `attempts`, `doubt`: what it answered.
    """

    worker: str
    key: str
    alone: bool = False
    fence: int = 0
    attempts: int = 0
    doubt: bool = False


class Duplicate(NamedTuple):
    """The store answered a claim with: it is done."""

    worker: str
    key: str


class FrontierKept(NamedTuple):
    """The store keeps this frontier of a partition."""

    worker: str
    partition: int
    offset: int


class Recorded(NamedTuple):
    """The store executed a completion and did not fence it: the key is done."""

    worker: str
    key: str


class Over(NamedTuple):
    """From here on others may take what this process had claimed.

    `why`: "lapsed" (no renewal within the lease) | "crashed" | "replaced" (its static instance started again) |
    "closed" (it closed its session).
    """

    worker: str
    why: str


class StoodStill(NamedTuple):
    """A process did nothing for longer than its group waits. Tenures up to this number may be others' by now."""

    worker: str
    tenure: int


class Left(NamedTuple):
    """A process ended by itself. `clean`: it drained in time, so each of its deliveries has an outcome."""

    worker: str
    clean: bool
    counters: dict[str, int]


class AtRest(NamedTuple):
    """The end of the calm phase.

    Attributes:
        settled: everything came to rest within the bound.
        lag: per partition the messages that are not committed, where there are any.
        unfinished: deliveries that living processes still hold.
        claims: keys that the store holds as claimed.
        doubts: keys in the store's in-doubt list.
    """

    settled: bool
    lag: dict[int, int]
    unfinished: int
    claims: int
    doubts: tuple[str, ...]


Event = (
    Produced
    | Deleted
    | Delivered
    | Started
    | Ended
    | DeadLettered
    | Given
    | Gone
    | Asked
    | Committed
    | Granted
    | Duplicate
    | FrontierKept
    | Recorded
    | Over
    | StoodStill
    | Left
    | AtRest
)
