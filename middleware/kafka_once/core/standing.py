"""How things stand, for people: what is in progress, and for how long a partition's first unsettled message has stood.

Looked at a few times a second; nothing is decided by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kafka_once.core.partition import Tenure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka_once.core.desk import Desk
    from kafka_once.core.partition import Partition
    from kafka_once.message import TopicPartition

__all__ = ["EngineStatus", "PartitionStatus", "engine_status", "note_sign_of_life", "status_of"]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition that is ours.

    Attributes:
        owned: the store has given us its ownership (without a store: Kafka has).
        unfinished: deliveries without an outcome.
        paused: Kafka is asked for no more of it now.
        frontier: the first offset that is not settled; None before it is known where reading starts.
        committed: the offset last confirmed by Kafka; None if not known.
        standing_ms: since the first unsettled message gave its last sign of life: it became the first, or its handler
            raised and it waits for its next attempt. 0 if all are settled, and while the store is silent.
    """

    name: TopicPartition
    owned: bool
    unfinished: int
    paused: bool
    frontier: int | None
    committed: int | None
    standing_ms: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """All of it. `unfinished` counts the deliveries of lost partitions too."""

    unfinished: int
    stopping: bool
    has_session: bool
    store_silent: bool
    partitions: tuple[PartitionStatus, ...]


def engine_status(desk: Desk, partitions: Iterable[Partition]) -> EngineStatus:
    """How all of it stands; the time was told to the desk just before."""
    owned = [partition for partition in partitions if partition.held]
    return EngineStatus(
        unfinished=desk.unfinished,
        stopping=desk.stopping,
        has_session=desk.talk is None or desk.talk.session is not None,
        store_silent=desk.all_paused,
        partitions=tuple(status_of(partition, desk.now_ms, excused=desk.all_paused) for partition in owned),
    )


def note_sign_of_life(partition: Partition, offset: int, now_ms: int) -> None:
    """The handler of this message ended without settling it: it is not stuck, it is tried again."""
    if offset == partition.head:
        partition.alive_ms = now_ms


def status_of(partition: Partition, now_ms: int, *, excused: bool) -> PartitionStatus:
    """How the partition stands. `excused`: nothing can move now, for a reason that is told elsewhere."""
    frontier = partition.frontier
    head = frontier.next_offset if frontier.unsettled() else None
    if head != partition.head or excused:
        partition.head = head
        partition.alive_ms = now_ms
    return PartitionStatus(
        name=partition.name,
        owned=partition.tenure is Tenure.OWNED,
        unfinished=partition.unfinished,
        paused=partition.paused,
        frontier=frontier.next_offset,
        committed=partition.committed,
        standing_ms=0 if head is None else now_ms - partition.alive_ms,
    )
