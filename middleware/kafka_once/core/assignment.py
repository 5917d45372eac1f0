"""The partitions that are ours: how they come, how they go, and how much they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.events import Kind
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition, Tenure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kafka_once.core.calls import Ownership
    from kafka_once.core.claiming import Claiming
    from kafka_once.core.desk import Desk
    from kafka_once.message import TopicPartition

__all__ = ["Assignment"]


class Assignment:
    """By name. A partition that comes back gets a new object; the old one lives while anything of it is unfinished."""

    def __init__(self, desk: Desk, claiming: Claiming, order_of: Callable[[str], Order]) -> None:
        self._desk = desk
        self._order_of = order_of
        self._rules = desk.rules
        self._claiming = claiming
        self._partitions: dict[TopicPartition, Partition] = {}
        self._paces: dict[str, Pace] = {}

    def get(self, name: TopicPartition) -> Partition | None:
        return self._partitions.get(name)

    def values(self) -> Iterable[Partition]:
        return self._partitions.values()

    def unfinished(self, names: Sequence[TopicPartition]) -> int:
        return sum(partition.unfinished for name in names if (partition := self._partitions.get(name)) is not None)

    @property
    def slow(self) -> bool:
        return any(pace.group_size == 1 for pace in self._paces.values())

    def hungry(self) -> bool:
        """Whether more messages are wanted.

        Fast handlers take less than half a buffer at a time, so that none is ever paused: a pause throws away what the
        client has fetched ahead, and fetching it again takes longer than they need for it. With slow handlers a
        partition that has nothing to do counts more: the client gives one partition's messages before another's, so
        the full ones are filled up and paused until the others have their turn. Where the order lets a partition have
        many lanes it is lanes that count: more messages are wanted when fewer are ready than may run.
        """
        unpaused = [partition for partition in self._partitions.values() if not partition.paused]
        if sum(partition.unfinished for partition in unpaused) * 2 < self._rules.buffer:
            return True
        if not self.slow:
            return False
        starving = self._desk.lanes.starving
        return any(starving if p.order is not Order.PARTITION else not p.unfinished for p in unpaused)

    # ------------------------------------------------------------------------------------------------ Kafka's side

    def on_assigned(self, names: Sequence[TopicPartition]) -> None:
        desk = self._desk
        for name in names:
            order = self._order_of(name.topic)
            partition = self._partitions[name] = Partition(name, self._pace(name.topic), order)
            if desk.stopping:
                partition.tenure = Tenure.LEAVING
            elif desk.talk is None:
                partition.tenure = Tenure.OWNED
            if desk.all_paused or desk.stopping:
                desk.pause(partition)
            desk.note(Kind.ASSIGNED, partition)
        self._share_memory()

    def on_revoked(self, names: Sequence[TopicPartition]) -> None:
        """Stop the intake; what runs ends. Then the runner waits for `drained`, commits, and tells `on_gone`."""
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None:
                partition.tenure = Tenure.LEAVING
                self._hand_back_waiting(partition)
                self._desk.note(Kind.REVOKED, partition)

    def on_lost(self, names: Sequence[TopicPartition]) -> None:
        """No intake, no commit. Running handlers end and their completions are sent."""
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None:
                self._forget(partition)
                self._desk.note(Kind.LOST, partition)

    def lose_all(self) -> None:
        """The process stood still for too long: nothing is ours any more, whatever Kafka tells."""
        self.on_lost(list(self._partitions))

    def on_gone(self, names: Sequence[TopicPartition]) -> None:
        """The revocation is over, drained or not."""
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None:
                self._forget(partition)

    def _forget(self, partition: Partition) -> None:
        partition.tenure = Tenure.GONE
        del self._partitions[partition.name]
        self._share_memory()
        self._hand_back_waiting(partition)
        self._leave_unrun(partition)
        self._desk.end_ownerships(partition)

    def _hand_back_waiting(self, partition: Partition) -> None:
        for delivery in partition.take_waiting():
            self._desk.leave(delivery)
        self._claiming.hand_back(partition)

    def _share_memory(self) -> None:
        self._desk.share_bytes = self._rules.buffer_bytes // max(len(self._partitions), 1)

    def _pace(self, topic: str) -> Pace:
        pace = self._paces.get(topic)
        if pace is None:
            pace = self._paces[topic] = Pace(self._rules.group_ms, self._rules.group_limit)
        return pace

    def leave_unrun(self, names: Sequence[TopicPartition]) -> None:
        """At most once: what awaits its commit here is settled and never run."""
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None:
                self._leave_unrun(partition)

    def _leave_unrun(self, partition: Partition) -> None:
        awaiting, partition.awaiting = partition.awaiting, []
        for _, deliveries in awaiting:
            for delivery in deliveries:
                self._desk.leave_unrun(delivery)

    def leave_all(self) -> None:
        """The process drains."""
        for partition in self._partitions.values():
            partition.tenure = Tenure.LEAVING
            self._desk.pause(partition)
            self._hand_back_waiting(partition)

    # ------------------------------------------------------------------------------------------------ the store's side

    def joining(self, now_ms: int) -> list[Partition]:
        """Those for which an ownership is to be taken now."""
        return [p for p in self._partitions.values() if p.tenure is Tenure.JOINING and p.take_due_ms <= now_ms]

    def on_ownership(self, partition: Partition, ownership: Ownership) -> None:
        partition.ownership = ownership
        partition.ownerships.append(ownership.number)
        if partition.claimed_up_to is None:
            partition.claimed_up_to = ownership.claimed_up_to
            self.look_for_lost_memory(partition)
        if partition.tenure is Tenure.JOINING:
            partition.tenure = Tenure.OWNED
            self._desk.note(Kind.OWNED, partition, text=f"ownership {ownership.number}, epoch {ownership.epoch}")
            for lane in partition.lanes.values():
                self._desk.lanes.enlist(lane)
        else:
            self._desk.end_ownerships(partition)

    def look_for_lost_memory(self, partition: Partition) -> None:
        """Kafka knows that we worked here, and the store never saw an owner: offsets without our mark would only mean a
        first start beside a running pipeline."""
        ownership = partition.ownership
        if partition.committed_by_us and ownership is not None and ownership.epoch == 1:
            partition.committed_by_us = False  # told once
            self._desk.counters.add("memory_lost")
            self._desk.note(Kind.MEMORY_LOST, partition)

    def on_session_over(self) -> None:
        self._desk.note(Kind.SESSION_OVER)
        self._desk.effects.withdraw = True
        for partition in self._partitions.values():
            partition.ownership = None
            partition.ownerships.clear()
            if partition.tenure is Tenure.OWNED:
                partition.tenure = Tenure.JOINING
        self._claiming.on_session_over()

    def pause_all(self) -> None:
        self._desk.all_paused = True
        for partition in self._partitions.values():
            self._desk.pause(partition)

    def resume_all(self) -> None:
        self._desk.all_paused = False
        for partition in self._partitions.values():
            if not self._desk.is_full(partition):
                self._desk.resume(partition)
