"""One partition while it is ours: its frontier, its ownership, and what is committed."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from kafka_once.core.lane import Lane
from kafka_once.core.offsets import Frontier
from kafka_once.core.order import LaneName, Order, lane_namer

if TYPE_CHECKING:
    from kafka_once.core.calls import Committed, LogBounds, Ownership
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.pacing import Pace
    from kafka_once.message import Message, TopicPartition

__all__ = ["Partition", "Tenure"]


class Tenure(Enum):
    """How a partition is ours."""

    JOINING = auto()  # assigned by Kafka; not located, or the store has not given us an ownership yet
    OWNED = auto()
    LEAVING = auto()  # being revoked, or the process drains: no intake, what runs ends, the frontier is committed
    GONE = auto()  # no intake, no commit; running handlers end and their completions are sent


class Partition:
    """Bookkeeping of one assignment. A partition that comes back gets a new object; the old one lives while anything
    of it is unfinished.

    Attributes:
        held_bytes: of its unfinished deliveries, more or less.
        lanes: those that have something to do, by name.
        ownership: current one with the store; None while JOINING and without a store.
        ownerships: numbers of those not yet ended, earlier ones of this session included.
        claimed_up_to: what the store knew at our first ownership: tells redelivery from repeat.
        log, found_committed: what was looked up after the assignment; None before.
        looked_twice: it was looked up again, because the stored frontier stood behind the log's end.
        located: it was decided where reading starts; nothing is taken or committed before.
        epoch: of the newest ownership; 0 without a store.
        committed: the offset last confirmed by Kafka.
        rewinds: the stored frontier that was found does not count: ours takes its place, wherever that stands.
        floor: nothing below is committed, because another owner's frontier has passed it.
        unfinished: deliveries that the store or a handler may still say something about.
        head, alive_ms: the first unsettled offset as it was last looked at, and its last sign of life; see standing.py.
        awaiting: at most once: what starts when `committed` reaches the offset.
    """

    __slots__ = (
        "_name_lane",
        "alive_ms",
        "awaiting",
        "claimed_up_to",
        "committed",
        "epoch",
        "floor",
        "found_committed",
        "frontier",
        "head",
        "held_bytes",
        "lanes",
        "located",
        "log",
        "looked_twice",
        "name",
        "order",
        "ownership",
        "ownerships",
        "pace",
        "paused",
        "rewinds",
        "take_due_ms",
        "tenure",
        "unfinished",
    )

    def __init__(self, name: TopicPartition, pace: Pace, order: Order) -> None:
        self.order = order
        self._name_lane = lane_namer(order)
        self.name = name
        self.pace = pace
        self.tenure = Tenure.JOINING
        self.frontier = Frontier()
        self.lanes: dict[LaneName, Lane] = {}
        self.ownership: Ownership | None = None
        self.ownerships: list[int] = []
        self.claimed_up_to: int | None = None
        self.committed: int | None = None
        self.rewinds = False
        self.floor = 0
        self.log: LogBounds | None = None
        self.found_committed: Committed | None = None
        self.looked_twice = False
        self.located = False
        self.epoch = 0
        self.unfinished = 0
        self.held_bytes = 0
        self.paused = False
        self.take_due_ms = 0
        self.head: int | None = None
        self.alive_ms = 0
        self.awaiting: list[tuple[int, list[Delivery]]] = []

    def lane_of(self, message: Message) -> Lane:
        """The lane that the message belongs to by the order of its topic."""
        name = self._name_lane(message)
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(self, name)
        return lane

    def take_waiting(self) -> list[Delivery]:
        """Everything that waits in its lanes; those that have nothing else to do are dropped."""
        waiting = []
        for lane in list(self.lanes.values()):
            waiting += lane.take_all()
            if not lane.open:
                self.drop(lane)
        return waiting

    def drop(self, lane: Lane) -> None:
        """It has nothing to do any more; the next message of its name gets a new one."""
        del self.lanes[lane.name]

    @property
    def topic_id(self) -> str:
        """Asked for only when it was looked up."""
        assert self.log is not None
        return self.log.topic_id

    @property
    def held(self) -> bool:
        """Whether Kafka says that it is ours."""
        return self.tenure is Tenure.JOINING or self.tenure is Tenure.OWNED
