"""A Kafka in memory, for tests and simulations: logs with gaps, groups that rebalance, offsets that anyone may commit.

Any number of members in one process, each polled by its own thread, or all by one thread with a time-out of 0: then
nothing waits and everything happens in the order of the calls. A poll that calls back returns no messages.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kafka_once.brokers.memory_cluster import MemoryCluster
from kafka_once.brokers.memory_group import Group, Member
from kafka_once.errors import BrokerRefused, BrokerUnavailable
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import CommitMark, CommitResult, Committed, Deleted, LogBounds, Outgoing, Passed, Rebalances

__all__ = ["MemoryBroker", "MemoryCluster"]


@dataclass(slots=True)
class _Position:
    """`next` is None before the first seek. `leader_epoch` is that of the message before it."""

    topic_id: str
    next: int | None = None
    leader_epoch: int | None = None


class MemoryBroker:
    """A member of a group in a `MemoryCluster`; see `ports.Broker` for what it promises.

    A closed static member keeps its place until the cluster lets it `expire`, and a second one with the same `instance`
    takes its place; the first then gets `BrokerRefused` from `poll`.
    """

    def __init__(self, cluster: MemoryCluster, group: str, instance: str | None = None) -> None:
        self._cluster = cluster
        self._group_name = group
        self._instance = instance
        self._member: Member | None = None
        self._rebalances: Rebalances | None = None
        self._subscribed: Callable[[str], bool] = lambda _topic: False
        self._positions: dict[TopicPartition, _Position] = {}  # the partitions that it believes to own
        self._diverged: set[TopicPartition] = set()  # another log was found there, and nobody has decided yet
        self._news: list[Passed | Deleted] = []
        self._paused: set[TopicPartition] = set()
        self._turn = 0
        self._results: deque[Callable[[], None]] = deque()

    # ---------------------------------------------------------------------------------------------------- membership

    def start(self, topics: Sequence[str], rebalances: Rebalances) -> None:
        """Join the group. A topic that begins with ^ is a pattern, as in Kafka."""
        with self._cluster.changed:
            missing = [t for t in topics if not t.startswith("^") and not self._cluster.has(t)]
            if missing:
                raise BrokerRefused(f"topic {missing[0]!r} does not exist: create it, or correct its name")
            self._rebalances = rebalances
            self._subscribed = _subscription(topics)
            self._join()

    def close(self, timeout_s: float) -> None:
        """Leave the group after `on_revoked` for what is owned. A static member leaves its place empty."""
        del timeout_s  # nothing here can hang
        if self._member is None:
            return
        self._serve_results()
        if self._is_member():
            self._revoke(sorted(self._positions))
        else:
            self._lose()
        self._serve_results()
        with self._cluster.changed:
            if self._instance is None:
                self.expire()
            self._cluster.changed.notify_all()
        self._member = None

    def rejoin(self, why: str) -> None:
        """A static member takes its own place again; the others leave and join."""
        del why
        self._lose()
        with self._cluster.changed:
            if not self._is_member():
                return  # the next poll notices, and joins
            if self._instance is None:
                self.expire()
            self._join()

    def expire(self) -> None:
        """For `MemoryCluster.expire`, under its lock."""
        if self._member is not None:
            self._group().leave(self._member.number, self._cluster.partitions())

    def cluster_id(self) -> str:
        """As the cluster was named."""
        return self._cluster.cluster_id

    # ------------------------------------------------------------------------------------------------------ messages

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """Wait on the cluster's condition, never busily; a time-out of 0 does not wait."""
        deadline = time.monotonic() + timeout_s
        self._serve_results()
        with self._cluster.changed:
            fault = self._cluster.take_fault("poll")
        if isinstance(fault, Exception):
            raise fault
        while True:
            if self._serve_rebalance() or self._lose_other_logs():
                return []
            with self._cluster.changed:
                messages = self._take(max_messages)
                remaining_s = deadline - time.monotonic()
                if messages or remaining_s <= 0:
                    return messages
                if not self._must_rebalance():
                    self._cluster.changed.wait(remaining_s)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Return nothing of these until `resume`; partitions that are not owned are passed over."""
        self._paused.update(p for p in partitions if p in self._positions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on where `pause` stopped."""
        self._paused.difference_update(partitions)

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        """The next message is the first at or behind `offset`; nothing happens to a partition that is not owned."""
        position = self._positions.get(partition)
        if position is not None:
            position.next, position.leader_epoch = offset, leader_epoch
            self._diverged.discard(partition)

    def news(self) -> list[Passed | Deleted]:
        """What was learned of the logs since the last call."""
        news, self._news = self._news, []
        return news

    # ------------------------------------------------------------------------------------------------------- offsets

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """What the group has committed for each of these, None where nothing is."""
        with self._cluster.changed:
            fault = self._cluster.take_fault("committed")
            if isinstance(fault, Exception):
                raise fault
            return {partition: self._group().committed.get(partition) for partition in partitions}

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the logs end."""
        with self._cluster.changed:
            return {partition: self._cluster.bounds(partition).end for partition in partitions}

    def log_bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """Where the logs begin and end."""
        with self._cluster.changed:
            fault = self._cluster.take_fault("log_bounds")
            if isinstance(fault, Exception):
                raise fault
            bounds = {partition: self._cluster.bounds(partition) for partition in partitions}
            return {each: log._replace(diverged=each in self._diverged) for each, log in bounds.items()}

    def commit(self, marks: Sequence[CommitMark], on_result: Callable[[list[CommitResult]], None]) -> None:
        """Executed now, answered by the next `poll` or `close`."""
        results = self._commit(marks)
        self._results.append(lambda: on_result(results))

    def commit_now(self, marks: Sequence[CommitMark], timeout_s: float) -> list[CommitResult]:
        """Executed and answered now."""
        del timeout_s  # nothing here can hang
        return self._commit(marks)

    # ------------------------------------------------------------------------------------------------------- publish

    def publish(self, record: Outgoing, on_done: Callable[[Exception | None], None]) -> None:
        """Append the record; `on_done` is called before this returns."""
        with self._cluster.changed:
            fault = self._cluster.take_fault("publish")
            if fault is None and not self._cluster.has(record.topic):
                fault = BrokerRefused(f"topic {record.topic!r} does not exist: create it, or correct its name")
            if fault is None:
                self._cluster.produce(record.topic, record.key, record.value, record.headers)
        on_done(BrokerUnavailable(fault) if isinstance(fault, str) else fault)

    # ------------------------------------------------------------------------------------------------------- private

    def _group(self) -> Group:
        return self._cluster.group(self._group_name)

    def _join(self) -> None:
        self._member = self._group().join(self._instance, self._subscribed, self._cluster.partitions())
        self._cluster.changed.notify_all()

    def _joined(self) -> Member:
        assert self._member is not None, "the broker was not started"
        return self._member

    def _is_member(self) -> bool:
        return self._joined().number in self._group().members

    def _must_rebalance(self) -> bool:
        if not self._is_member():
            return True
        target = self._joined().target
        return not target.issuperset(self._positions) or not target.issubset(self._group().holders)

    def _serve_rebalance(self) -> bool:
        """Do one step of a rebalance, True if something was called back. Outside the lock: callbacks may wait."""
        with self._cluster.changed:
            alive = self._is_member()
            excess = sorted(p for p in self._positions if p not in self._joined().target)
        if excess:  # also of one that was put out while it owed them: the client tells this first, as if all were well
            self._revoke(excess)
            return True
        if not alive:
            return self._lose_and_rejoin()
        with self._cluster.changed:
            taken = self._group().hold(self._joined().number) if self._is_member() else []
            for partition in taken:
                self._positions[partition] = _Position(self._cluster.bounds(partition).topic_id)
        if taken:
            self._callbacks().on_assigned(taken)
        return bool(taken)

    def _lose_other_logs(self) -> bool:
        """A log that was truncated below where we stand, or of a topic made anew, is not the one that we read."""
        with self._cluster.changed:
            other = [partition for partition in sorted(self._positions) if self._is_other_log(partition)]
        if not other:
            return False
        self._callbacks().on_lost(other)
        for partition in other:
            self._positions[partition] = _Position(self._cluster.bounds(partition).topic_id)
            self._paused.discard(partition)
        self._callbacks().on_assigned(other)
        return True

    def _is_other_log(self, partition: TopicPartition) -> bool:
        position = self._positions[partition]
        if self._cluster.bounds(partition).topic_id != position.topic_id:
            return True
        if position.next is None or not self._cluster.is_cut_off(partition, position.next, position.leader_epoch):
            return False
        self._diverged.add(partition)
        return True

    def _lose_and_rejoin(self) -> bool:
        lost = self._lose()
        with self._cluster.changed:
            if self._group().of_instance(self._instance) is not None:
                raise BrokerRefused(f"another member took the static id {self._instance!r}: give each process its own")
            self._join()
        return lost

    def _lose(self) -> bool:
        lost = sorted(self._positions)
        self._forget(lost)
        if lost:
            self._callbacks().on_lost(lost)
        return bool(lost)

    def _revoke(self, partitions: list[TopicPartition]) -> None:
        if partitions:
            self._callbacks().on_revoked(partitions)
        with self._cluster.changed:
            self._forget(partitions)
            self._group().let_go(self._joined().number, partitions)
            self._cluster.changed.notify_all()

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._paused.discard(partition)

    def _callbacks(self) -> Rebalances:
        assert self._rebalances is not None, "the broker was not started"
        return self._rebalances

    def _take(self, max_messages: int) -> list[Message]:
        """Partitions take turns to come first, so that none starves when the batch is small."""
        messages: list[Message] = []
        ready = [p for p, at in sorted(self._positions.items()) if at.next is not None and p not in self._paused]
        self._turn = (self._turn + 1) % max(len(ready), 1)
        for partition in ready[self._turn :] + ready[: self._turn]:
            messages += self._read(partition, max_messages - len(messages))
        return messages

    def _read(self, partition: TopicPartition, limit: int) -> list[Message]:
        position, log = self._positions[partition], self._cluster.bounds(partition)
        assert position.next is not None
        if position.next < log.start:
            self._news.append(Deleted(partition, position.next, log.start))
            position.next = log.start
        got = self._cluster.read(partition, position.next, limit)
        if got:
            position.next, position.leader_epoch = got[-1].offset + 1, got[-1].leader_epoch
        if position.next < log.end and not self._cluster.read(partition, position.next, 1):
            self._news.append(Passed(partition, log.end))
            position.next = log.end
        return got

    def _commit(self, marks: Sequence[CommitMark]) -> list[CommitResult]:
        with self._cluster.changed:
            fault = self._cluster.take_fault("commit")
            if isinstance(fault, Exception):
                raise fault
            if fault is not None:
                return [CommitResult(mark, fault, "fault asked for") for mark in marks]
            if not self._is_member():
                return [CommitResult(mark, "drop", "UNKNOWN_MEMBER_ID") for mark in marks]
            for mark in marks:
                self._group().commit(mark)
            return [CommitResult(mark, "ok") for mark in marks]

    def _serve_results(self) -> None:
        while self._results:
            self._results.popleft()()


def _subscription(topics: Sequence[str]) -> Callable[[str], bool]:
    names = {topic for topic in topics if not topic.startswith("^")}
    patterns = [re.compile(topic) for topic in topics if topic.startswith("^")]
    return lambda topic: topic in names or any(pattern.search(topic) for pattern in patterns)
