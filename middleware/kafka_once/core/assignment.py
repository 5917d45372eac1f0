"""The partitions that are ours: how they come, how they go, and how much they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.calls import FrontierMark, Seek
from kafka_once.core.delivery import Delivery
from kafka_once.core.events import Kind, Outcome
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.start import Case, Facts, Finding, decide, refuses
from kafka_once.errors import ConsumerStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kafka_once.core.calls import Committed, LogBounds, Ownership
    from kafka_once.core.claiming import Claiming
    from kafka_once.core.delivery import Defect
    from kafka_once.core.desk import Desk
    from kafka_once.message import Message, TopicPartition

__all__ = ["Assignment"]


_COUNTERS = {
    Case.OFFSETS_GONE: "offsets_gone",
    Case.COMMIT_LOST: "commits_lost",
    Case.RESET_BACK: "resets_back",
    Case.RESET_AHEAD: "resets_ahead",
    Case.TOPIC_RECREATED: "topics_recreated",
    Case.MESSAGES_DELETED: "messages_deleted",
    Case.LOG_TRUNCATED: "logs_truncated",
    Case.MEMORY_LOST: "memory_lost",
}


class Assignment:
    """By name. A partition that comes back gets a new object; the old one lives while anything of it is unfinished.

    Args: `order_of` a topic, None for that of the rules; `commit_soon` is called when a start position is to be
    committed at once (hole 18).
    """

    def __init__(
        self, desk: Desk, claiming: Claiming, order_of: Callable[[str], Order] | None, commit_soon: Callable[[], None]
    ) -> None:
        self._commit_soon = commit_soon
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

        Fast handlers take a quarter of a buffer at a time, while no partition holds more than three, so that none is
        ever paused: a pause throws away what the client has fetched ahead, and fetching it again takes longer than they
        need for it. A buffer in all keeps several lanes at work while the store answers. With slow handlers a partition
        that has nothing to do counts more: the client gives one partition's messages before another's, so the full ones
        are filled up and paused until the others have their turn. Where the order lets a partition have many lanes it
        is lanes that count: more messages are wanted when fewer are ready than may run.
        """
        unpaused = [partition for partition in self._partitions.values() if not partition.paused]
        held = [partition.unfinished for partition in unpaused]
        if sum(held) < self._rules.buffer and max(held, default=0) * 4 <= self._rules.buffer * 3:
            return True
        if not self.slow:
            return False
        starving = self._desk.lanes.starving
        return any(starving if p.order is not Order.PARTITION else not p.unfinished for p in unpaused)

    # ------------------------------------------------------------------------------------------------ Kafka's side

    def on_assigned(self, names: Sequence[TopicPartition]) -> None:
        desk = self._desk
        for name in names:
            order = self._order_of(name.topic) if self._order_of else self._rules.order
            partition = self._partitions[name] = Partition(name, self._pace(name.topic), order)
            if desk.stopping:
                partition.tenure = Tenure.LEAVING  # paused with the others, in the next turn
            if desk.all_paused:
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

    # ----------------------------------------------------------------------------------------------------- messages

    def on_delivered(
        self, name: TopicPartition, messages: Sequence[Message], keys: Sequence[tuple[bytes | None, Defect | None]]
    ) -> None:
        """Messages of one partition in order, and beside each its digest and what is wrong with it."""
        desk, partition = self._desk, self._partitions.get(name)
        desk.counters.add("deliveries", len(messages))
        if partition is None or not partition.held or not partition.located:
            desk.counters.add(Outcome.DROPPED if partition is None else Outcome.HANDED_BACK, len(messages))
            return
        partition.frontier.deliver_all(messages)
        protected, lane_of, enlist, held_bytes = desk.talk is not None, partition.lane_of, desk.lanes.enlist, 0
        for message, (digest, defect) in zip(messages, keys, strict=True):
            lane = lane_of(message)
            delivery = Delivery(message, lane, digest if protected else None, defect)
            held_bytes += delivery.size
            lane.waiting.append(delivery)
            if not lane.listed:
                enlist(lane)
        partition.unfinished += len(messages)
        partition.held_bytes += held_bytes
        desk.unfinished += len(messages)
        if desk.is_full(partition):
            desk.pause_full(partition)

    # ------------------------------------------------------------------------------------------------ where it starts

    def on_looked_up(self, name: TopicPartition, log: LogBounds, committed: Committed | None) -> None:
        """Without a store that is all there is to know; else the ownership is taken now, and tells the frontier."""
        partition = self._partitions.get(name)
        if partition is None or partition.log is not None:
            return
        partition.log, partition.found_committed = log, committed
        if self._desk.talk is None and partition.tenure is Tenure.JOINING:
            self._locate(partition)
            if partition.located:
                self._own(partition, "without a store")

    def _locate(self, partition: Partition) -> None:
        """Decide where reading starts. If it must not start, the consumer stops and nothing of it is taken."""
        assert partition.log is not None
        facts = Facts(partition.log, partition.found_committed, self._rules.mark)
        if partition.ownership is not None:
            owned = partition.ownership
            facts = facts._replace(frontier=owned.frontier, epoch=owned.epoch, earlier_topic=owned.earlier_topic)
        start = decide(facts, self._rules.start_reset, self._rules.on_position_conflict)
        for finding in start.findings:
            self._report(partition, finding)
        if start.stop:
            self._desk.stop(ConsumerStopped(f"{partition.name} is not read: {start.stop}"))
            return
        partition.located = True
        partition.frontier.begin(start.offset, start.leader_epoch)
        partition.committed = None if start.commit else start.offset
        self._desk.effects.seek.append(Seek(partition.name, start.offset, start.leader_epoch))
        partition.rewinds = start.rewind
        self._take_frontier_back(partition)
        if start.commit:
            self._commit_soon()

    def _take_frontier_back(self, partition: Partition) -> None:
        """Under every ownership anew: an earlier one may have ended before the store heard of it."""
        offset = partition.frontier.next_offset
        if partition.rewinds and partition.ownership is not None and offset is not None:
            leader_epoch = partition.frontier.leader_epoch
            self._desk.conversation.mark(FrontierMark(partition.ownership.number, offset, leader_epoch, back=True))

    def _looks_again(self, partition: Partition) -> bool:
        """An earlier owner may have read on since the log's end was looked up; from now on it stores no frontier. So a
        frontier behind that end is a sign of a truncated log the second time only."""
        assert partition.log is not None
        frontier = partition.ownership.frontier if partition.ownership is not None else None
        if partition.looked_twice or frontier is None or frontier[0] <= partition.log.end:
            return False
        partition.looked_twice = True
        partition.log = None  # then the ownership is taken once more
        self._desk.effects.look_up.append(partition.name)
        return True

    def on_deleted(self, name: TopicPartition, first: int, behind: int) -> None:
        """Retention was faster than we; what was deleted is gone, and reading goes on behind it."""
        partition = self._partitions.get(name)
        if partition is None:
            return
        text = f"offsets {first} to {behind - 1} were deleted before they were read"
        self._report(partition, Finding(Case.MESSAGES_DELETED, text, behind - first))
        if refuses(self._rules.on_position_conflict, Case.MESSAGES_DELETED):
            self._desk.stop(ConsumerStopped(f"{name}: {text}"))

    def _report(self, partition: Partition, finding: Finding) -> None:
        self._desk.counters.add(_COUNTERS[finding.case], finding.times)
        self._desk.note(Kind[finding.case.name], partition, text=finding.text)

    # ------------------------------------------------------------------------------------------------ the store's side

    def joining(self, now_ms: int) -> list[Partition]:
        """Those for which an ownership is to be taken now."""
        joining = [p for p in self._partitions.values() if p.tenure is Tenure.JOINING and p.take_due_ms <= now_ms]
        return [p for p in joining if p.log is not None]  # the topic's id is part of what is asked for

    def on_ownership(self, partition: Partition, ownership: Ownership) -> None:
        partition.ownership = ownership
        partition.ownerships.append(ownership.number)
        partition.epoch = ownership.epoch
        if partition.claimed_up_to is None:
            partition.claimed_up_to = ownership.claimed_up_to
        if partition.tenure is not Tenure.JOINING:
            self._desk.end_ownerships(partition)
            return
        if not partition.located:
            if self._looks_again(partition):
                return
            self._locate(partition)
        elif partition.rewinds:  # that frontier does not count
            self._take_frontier_back(partition)
        elif ownership.frontier is not None:
            partition.floor = max(partition.floor, ownership.frontier[0])
        if partition.located:
            self._own(partition, f"ownership {ownership.number}, epoch {ownership.epoch}")

    def _own(self, partition: Partition, text: str) -> None:
        partition.tenure = Tenure.OWNED
        self._desk.note(Kind.OWNED, partition, text=text)
        for lane in partition.lanes.values():
            self._desk.lanes.enlist(lane)

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
