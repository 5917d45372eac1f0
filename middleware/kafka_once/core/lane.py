"""What runs one after another, and the keys that are in flight anywhere in this process."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.order import LaneName
    from kafka_once.core.partition import Partition

__all__ = ["Group", "KeysInFlight", "Lane"]


class Lane:
    """Deliveries in order. Of an exclusive lane one group is open at a time: the next one waits for its end.

    A partition makes its lanes as they are needed (`Partition.lane_of`) and drops those that have nothing to do.

    Attributes:
        name: which of its partition's lanes it is.
        waiting: not asked for yet, in order.
        open: how many of the lane's messages are between being asked for and their end.
        returned: came back to waiting while the rest of their group is open.
        placed: counts among those that may run at once.
        turnover: how much of a place its open group leaves free again within the time of a claim (`Pace`).
        due_ms: nothing of this lane is asked for before.
        listed: stands in the engine's list of lanes that can go on, or in its timer, or waits for a key.
    """

    __slots__ = ("due_ms", "listed", "name", "open", "partition", "placed", "returned", "turnover", "waiting")

    def __init__(self, partition: Partition, name: LaneName) -> None:
        self.partition = partition
        self.name = name
        self.waiting: deque[Delivery] = deque()
        self.open = 0
        self.returned: list[Delivery] = []
        self.placed = False
        self.turnover = 0.0
        self.due_ms = 0
        self.listed = False

    def take_all(self) -> list[Delivery]:
        """Everything that waits, in order."""
        waiting = [*self.returned, *self.waiting]
        self.returned.clear()
        self.waiting.clear()
        return waiting

    def put_back(self) -> None:
        """Returned messages stand before everything that waits, in the order of their offsets."""
        self.returned.sort(key=lambda delivery: delivery.offset, reverse=True)
        self.waiting.extendleft(self.returned)
        self.returned.clear()


class Group:
    """Messages of one lane that run one after another, handed to a handler's thread or task as one piece.

    The executor sets `began` when it begins, appends to `results`, one entry per message in order (None, or what the
    handler raised), stops at the first that raised, sets `took_ms`, and posts the group: once, and only that says that
    it has ended. Appending to a list is atomic, so the engine may look at the results of a running group.

    Past `begin_before_ms` on the engine's clock the lease is not trusted any more: no message of the group is begun
    then, and those that were not come back without a result. Without a claim it is the consumer
    group's patience that ends then. None: for ever, in tests.
    """

    __slots__ = (
        *("began", "begin_before_ms", "deliveries", "lane", "overdue", "results", "seen", "since_ms"),
        *("stalled", "took_ms"),
    )

    def __init__(self, lane: Lane, deliveries: list[Delivery], begin_before_ms: int | None = None) -> None:
        self.lane = lane
        self.deliveries = deliveries
        self.begin_before_ms = begin_before_ms
        self.results: list[BaseException | None] = []
        self.seen = 0  # results that the engine has looked at
        self.began = False
        self.took_ms = 0.0
        self.since_ms = 0  # when the message that runs now began, as far as the engine has seen
        self.stalled = False  # that was told
        self.overdue: int | None = None  # which of its messages passed the deadline


class KeysInFlight:
    """Digest → the delivery that has it, and the lanes that wait for it. A key leaves only on a definite answer of the
    store (hole 2).

    One table for the whole process, over batches, partitions, ownerships and sessions.
    """

    __slots__ = ("_deliveries", "_lanes")

    def __init__(self) -> None:
        self._deliveries: dict[bytes, Delivery] = {}
        self._lanes: dict[bytes, list[Lane]] = {}

    def __contains__(self, digest: bytes | None) -> bool:
        return digest in self._deliveries

    def deliveries(self) -> list[Delivery]:
        return list(self._deliveries.values())

    def add(self, digest: bytes, delivery: Delivery) -> None:
        self._deliveries[digest] = delivery

    def wait(self, digest: bytes, lane: Lane) -> None:
        self._lanes.setdefault(digest, []).append(lane)

    def remove(self, digests: list[bytes]) -> list[Lane]:
        """The keys are settled or given back; returns the lanes that waited for them."""
        freed: list[Lane] = []
        for digest in digests:
            del self._deliveries[digest]
            if self._lanes:
                freed += self._lanes.pop(digest, [])
        return freed
