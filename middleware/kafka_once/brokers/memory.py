"""A Kafka in memory, for tests and simulations: logs with gaps, groups that rebalance, offsets that anyone may commit.

Any number of members in one process, each polled by its own thread, or all by one thread with a time-out of 0: then
nothing waits and everything happens in the order of the calls. A poll that calls back returns no messages.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from kafka_once.brokers.memory_cluster import MemoryCluster
from kafka_once.brokers.memory_group import Group, Member
from kafka_once.errors import BrokerRefused, BrokerUnavailable
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import CommitMark, CommitResult, Committed, Outgoing, Rebalances

__all__ = ["MemoryBroker", "MemoryCluster"]


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
        self._positions: dict[TopicPartition, int] = {}  # the partitions it believes to own, with the next offset
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
            if self._serve_rebalance():
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

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """The next message is the first at or behind `offset`; nothing happens to a partition that is not owned."""
        if partition in self._positions:
            self._positions[partition] = offset

    # ------------------------------------------------------------------------------------------------------- offsets

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """What the group has committed for each of these, None where nothing is."""
        with self._cluster.changed:
            fault = self._cluster.take_fault("committed")
            if isinstance(fault, Exception):
                raise fault
            return {partition: self._group().committed.get(partition) for partition in partitions}

    def commit(
        self, marks: Sequence[CommitMark], metadata: str, on_result: Callable[[list[CommitResult]], None]
    ) -> None:
        """Executed now, answered by the next `poll` or `close`."""
        results = self._commit(marks, metadata)
        self._results.append(lambda: on_result(results))

    def commit_now(self, marks: Sequence[CommitMark], metadata: str, timeout_s: float) -> list[CommitResult]:
        """Executed and answered now."""
        del timeout_s  # nothing here can hang
        return self._commit(marks, metadata)

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
        if not alive:
            return self._lose_and_rejoin()
        if excess:
            self._revoke(excess)
            return True
        with self._cluster.changed:
            taken = self._group().hold(self._joined().number) if self._is_member() else []
            for partition in taken:
                start = self._group().committed.get(partition)
                self._positions[partition] = 0 if start is None else start.offset
        if taken:
            self._callbacks().on_assigned(taken)
        return bool(taken)

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
        ready = [p for p in sorted(self._positions) if p not in self._paused]
        self._turn = (self._turn + 1) % max(len(ready), 1)
        for partition in ready[self._turn :] + ready[: self._turn]:
            got = self._cluster.read(partition, self._positions[partition], max_messages - len(messages))
            if got:
                self._positions[partition] = got[-1].offset + 1
                messages += got
        return messages

    def _commit(self, marks: Sequence[CommitMark], metadata: str) -> list[CommitResult]:
        with self._cluster.changed:
            fault = self._cluster.take_fault("commit")
            if isinstance(fault, Exception):
                raise fault
            if fault is not None:
                return [CommitResult(mark, fault, "fault asked for") for mark in marks]
            if not self._is_member():
                return [CommitResult(mark, "drop", "UNKNOWN_MEMBER_ID") for mark in marks]
            for mark in marks:
                self._group().commit(mark, metadata)
            return [CommitResult(mark, "ok") for mark in marks]

    def _serve_results(self) -> None:
        while self._results:
            self._results.popleft()()


def _subscription(topics: Sequence[str]) -> Callable[[str], bool]:
    names = {topic for topic in topics if not topic.startswith("^")}
    patterns = [re.compile(topic) for topic in topics if topic.startswith("^")]
    return lambda topic: topic in names or any(pattern.search(topic) for pattern in patterns)
