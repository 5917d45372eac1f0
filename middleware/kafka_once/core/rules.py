"""What the engine is told once (`Rules`), and what it asks to be done (`Effects`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kafka_once.core.calls import CommitMark, Exchange, OwnershipAsk, Seek
from kafka_once.core.order import Order
from kafka_once.core.semantics import ConflictPolicy, Semantics, StartReset

if TYPE_CHECKING:
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.events import Note
    from kafka_once.core.lane import Group
    from kafka_once.message import TopicPartition

__all__ = ["Effects", "OpenSession", "Rules", "StoreCall", "TakeOwnerships"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings, as plain values. Times in milliseconds.

    Attributes:
        store: whether there is one. Required by effectively_once, optional for at_most_once.
        exclusive: lanes run one group at a time (handlers). False: handed out in order, ended by the user (Consumer).
        order: which messages make a lane.
        concurrency: lanes that run at once.
        buffer: messages held per partition before it is paused.
        buffer_bytes: bytes held in all before partitions are paused, each at its share of it.
        group_ms: how long a group of messages may take that is started at once: bounds what is in doubt after a crash.
        group_limit: the most messages of a group.
        tell_outcomes: whether somebody wants to be told the outcome of each delivery.
        store_depth: calls that may be away to the store at once; more than 1 only if it answers them in order.
        dead_letter_failures, dead_letter_doubts: dead-letter (True), or stop and run again respectively.
        stall_ms: how long the process may stand still before its group may have given it up.
        stalled_after_ms: a handler that runs longer is told of.
        deadline_ms_of: a topic's handler may run so long; None for as long as it likes.
        stop_on_hung: a handler that passes its deadline stops the consumer.
        mark: what the metadata of our commits begins with (core/marks.py); empty: they carry no mark.
        start_reset, on_position_conflict: where reading starts, see core/start.py.
    """

    semantics: Semantics = Semantics.EFFECTIVELY_ONCE
    store: bool = True
    exclusive: bool = True
    order: Order = Order.PARTITION
    concurrency: int = 16
    buffer: int = 2_000
    buffer_bytes: int = 64 << 20
    group_ms: float = 2.0
    group_limit: int = 500
    attempts: int = 5
    backoff_ms: int = 200
    backoff_most_ms: int = 30_000
    dead_letter_failures: bool = False
    dead_letter_payloads: bool = False
    dead_letter_doubts: bool = False
    lease_ms: int = 5_000
    commit_every_ms: int = 500
    store_depth: int = 1
    instance: str | None = None
    stall_ms: int = 44_000
    stalled_after_ms: int = 60_000
    deadline_ms_of: Callable[[str], int | None] = lambda _topic: None
    stop_on_hung: bool = False
    mark: str = ""
    start_reset: StartReset = StartReset.EARLIEST
    on_position_conflict: ConflictPolicy = ConflictPolicy.SAFE
    tell_outcomes: bool = False

    @property
    def reach(self) -> int:
        """How many messages of a partition may be delivered from one that is not settled onward."""
        return 10 * self.buffer

    @property
    def margin_ms(self) -> int:
        """How much earlier than the store we hold our lease for lapsed: covers drift between the two clocks."""
        return max(self.lease_ms // 10, 100)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """`previous` is this process's earlier session, if it had one. See `ports.Store.open_session`."""

    token: int
    instance: str | None
    previous: int | None


@dataclass(frozen=True, slots=True)
class TakeOwnerships:
    call: int
    asks: tuple[OwnershipAsk, ...]


StoreCall = OpenSession | TakeOwnerships | Exchange


@dataclass(slots=True)
class Effects:
    """What the runner is to do now, in this order. It decides nothing.

    `withdraw`: the session is over, so what no handler has begun must come back from the executor.
    `rejoin`: why the membership is to be given up and a new one begun; the same in every turn until that is done.
    `cancel`: groups whose handler passed its deadline.
    `look_up`: of these it is to be looked up once more where they stand.
    `outcomes`: deliveries that have got theirs, in that order; only with `tell_outcomes`.
    """

    rejoin: str = ""
    calls: list[StoreCall] = field(default_factory=list)
    withdraw: bool = False
    groups: list[Group] = field(default_factory=list)
    cancel: list[Group] = field(default_factory=list)
    publish: list[Delivery] = field(default_factory=list)
    commit: list[CommitMark] = field(default_factory=list)
    look_up: list[TopicPartition] = field(default_factory=list)
    seek: list[Seek] = field(default_factory=list)
    pause: list[TopicPartition] = field(default_factory=list)
    resume: list[TopicPartition] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    outcomes: list[Delivery] = field(default_factory=list)
