"""The contracts at the edge: what a store and a broker must do. Adapters implement them, the runner calls them.

A store speaks in batches: one `exchange` carries the last completions and the next claims in one round trip. Every
store call may be repeated with the same arguments and must then give the same answers; that is how an unknown outcome
is made definite. `core/claims.py` is the reference for the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from kafka_once.core.calls import (
    ClaimAsk,
    CommitMark,
    CommitResult,
    Committed,
    CompleteAsk,
    Exchange,
    ExchangeReply,
    FrontierMark,
    LogBounds,
    Ownership,
    OwnershipAsk,
    ReleaseAsk,
    Session,
)
from kafka_once.core.rules import StoreCall
from kafka_once.message import Message, TopicPartition

__all__ = [
    "Broker",
    "ClaimAsk",
    "CommitMark",
    "CommitResult",
    "Committed",
    "CompleteAsk",
    "Deleted",
    "Doubt",
    "Exchange",
    "ExchangeReply",
    "FrontierMark",
    "GroupTimes",
    "KnowsEnds",
    "LogBounds",
    "Namespace",
    "Outgoing",
    "Ownership",
    "OwnershipAsk",
    "Passed",
    "PipelinedStore",
    "Rebalances",
    "ReleaseAsk",
    "Session",
    "Store",
    "StorePipe",
    "Survey",
    "TellsGroupTimes",
]


# ----------------------------------------------------------------------------------------------------------- the store


class Namespace(NamedTuple):
    """What a store's records belong to: two groups, or two clusters, never suppress each other."""

    cluster: str
    group: str


class Doubt(NamedTuple):
    """A claim whose earlier holder may have run the handler, as `kafka-once in-doubt` lists it.

    `reason` is "takeover" (the earlier ownership is over) or "raised" (the handler raised `InDoubt`; then
    `earlier` and `newer` are the same ownership).
    """

    digest: bytes
    topic: str
    partition: int
    offset: int
    attempts: int
    earlier: int
    newer: int
    time_ms: int
    reason: str


@dataclass(slots=True)
class Survey:
    """What a store holds for a namespace, for people."""

    sessions: int
    claims: int
    done: int
    doubts: int
    frontiers: Mapping[TopicPartition, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)


class Store(Protocol):
    """Holds claims. Bound to one `Namespace`, one lease and one `remember_for` when it is made.

    Every method raises `StoreUnavailable` if there was no definite answer (the caller repeats the same call) and
    `StoreRefused` if repeating will not help. A store is used by one thread at a time.
    """

    def check(self) -> list[str]:
        """Try what every run needs; return warnings as sentences. Raises `StoreRefused` with a remedy."""
        ...

    def open_session(self, token: int, instance: str | None = None, previous: int | None = None) -> Session:
        """Open a session with a lease. The same token again: the same answer.

        `previous` is the caller's session before this one, which is over: what is left of it ends.
        With the static `instance` id, that instance's earlier session is over at once, so that its claims can be taken
        over. But a process that had a session of its own before (`previous`) takes the instance only if no other
        session has it meanwhile: a process that wakes up late must not end the session of the one that replaced it.
        """
        ...

    def take_ownerships(self, session: Session, call: int, asks: Sequence[OwnershipAsk]) -> list[Ownership] | None:
        """Take a new ownership of each partition, with a higher epoch than any before. None if the session is over.
        The same call number again for the same partition: the same answer."""
        ...

    def exchange(self, exchange: Exchange) -> ExchangeReply: ...

    def close_session(self, session: Session) -> None:
        """End the session and its ownerships. No error if it is over already."""
        ...

    def report(self, session: Session, counters: Mapping[str, int]) -> None:
        """Keep the session's counters (absolute values) for `survey`, which adds up the sessions."""
        ...

    def doubts(self, limit: int = 1000) -> list[Doubt]:
        """What was in doubt, the newest first; kept for `remember_for` at least."""
        ...

    def survey(self) -> Survey: ...

    def is_new(self) -> bool:
        """Whether the namespace was created by this store object: with our mark in Kafka's committed offsets it means
        that the store lost its memory."""
        ...

    def close(self) -> None: ...


class StorePipe(Protocol):
    """A connection on which several calls may be away at once; they are answered in order. Used by one thread.

    Every method but `drop` raises what `Store`'s methods raise; the caller then drops the connection, and repeats all
    calls that were away. The next `send` connects anew.
    """

    timeout_s: float

    def send(self, session: Session | None, call: StoreCall) -> None:
        """Write the call; does not wait for its answer. Connects if need be, which waits for `timeout_s` at most."""
        ...

    def descriptor(self) -> int:
        """Readable when an answer is there; -1 while not connected."""
        ...

    def readable(self) -> bool: ...

    def receive(self, session: Session | None, call: StoreCall) -> object:
        """The answer to the oldest call that is away, which is `call`."""
        ...

    def drop(self) -> None: ...


@runtime_checkable
class PipelinedStore(Store, Protocol):
    """A store that offers such a connection beside its methods, which then serve for what is not urgent."""

    def pipe(self) -> StorePipe: ...


# ---------------------------------------------------------------------------------------------------------- the broker


class Rebalances(Protocol):
    """Called by the broker from inside `poll` or `close`. None of them ever raises."""

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None: ...
    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None: ...
    def on_lost(self, partitions: Sequence[TopicPartition]) -> None: ...


class Passed(NamedTuple):
    """Everything below `offset` was returned: what else stood there were markers, aborted or compacted records."""

    partition: TopicPartition
    offset: int


class Deleted(NamedTuple):
    """Offsets from `first` up to, not including, `behind` were deleted before they were read."""

    partition: TopicPartition
    first: int
    behind: int


class Outgoing(NamedTuple):
    """A record to publish."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Broker(Protocol):
    """A member of a consumer group. All methods are called from one thread, which is not the main thread, but for
    `publish`'s callback, which may come from any.

    Raises `BrokerRefused` when going on makes no sense (the text names the remedy); `BrokerUnavailable` else.
    """

    def start(self, topics: Sequence[str], rebalances: Rebalances) -> None:
        """Join the group. Refuses topics that do not exist or may not be read."""
        ...

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """Wait for the first message at most `timeout_s`, return what is there. Serves callbacks. Never loses a
        message that it took from the client: after an exception the position stands at the first not returned.

        Of a newly assigned partition nothing is returned before its first `seek`. When the log of a partition turns
        out to be another one (truncated, made anew) it is lost and assigned again.
        """
        ...

    def news(self) -> list[Passed | Deleted]:
        """What the polls since the last call learned of the logs; true after the messages that they returned."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None: ...
    def resume(self, partitions: Sequence[TopicPartition]) -> None: ...
    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        """The next message is the first at or behind `offset`. Nothing happens to a partition that is not owned."""
        ...

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """What the group has committed, None where nothing is."""
        ...

    def log_bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """Where the logs begin and end, and the ids of their topics."""
        ...

    def commit(self, marks: Sequence[CommitMark], on_result: Callable[[list[CommitResult]], None]) -> None:
        """Commit without waiting; `on_result` is called once, from inside a later `poll` or `close`."""
        ...

    def commit_now(self, marks: Sequence[CommitMark], timeout_s: float) -> list[CommitResult]:
        """Commit and wait; for use inside rebalance callbacks, where nothing polls."""
        ...

    def rejoin(self, why: str) -> None:
        """Give up the membership, and begin a new one in the next polls. Calls `on_lost` for what is still owned;
        commits nothing. Not for use inside a callback."""
        ...

    def publish(self, record: Outgoing, on_done: Callable[[Exception | None], None]) -> None:
        """Publish durably (acks=all, idempotent) without waiting; `on_done(None)` when Kafka confirmed it."""
        ...

    def cluster_id(self) -> str:
        """Kafka's cluster id, empty if it tells none. Asked for before `start`: the store's namespace needs it."""
        ...

    def close(self, timeout_s: float) -> None:
        """Leave the group. Calls `on_revoked` for what is still owned, and returns within the time-out."""
        ...


@runtime_checkable
class KnowsEnds(Protocol):
    """A broker that can tell, without asking anybody, where the partitions end. For showing the lag only."""

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Partition → the offset that its next message will have, as of the last fetch; those not known are left out.
        Never waits."""
        ...


class GroupTimes(NamedTuple):
    """How long a consumer group waits for the next heartbeat of a member, and how often one is sent."""

    session_timeout_ms: int
    heartbeat_ms: int


@runtime_checkable
class TellsGroupTimes(Protocol):
    """A broker that may decide by itself how long it waits for a member."""

    def group_times(self) -> GroupTimes | None:
        """Asked before `start`. None: as the settings say, or it does not tell. Raises what `cluster_id` raises."""
        ...
