"""The logs of a Kafka in memory, and the steering that tests want: gaps, faults, members that die, foreign commits."""

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kafka_once.brokers.memory_group import Group
from kafka_once.message import Coordinates, Message, TopicPartition
from kafka_once.ports import CommitMark, Committed, LogBounds

if TYPE_CHECKING:
    from kafka_once.brokers.memory import MemoryBroker

__all__ = ["MemoryCluster"]

Headers = Sequence[tuple[str, bytes | None]]


class _Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    leader_epoch: int


@dataclass(slots=True)
class _Log:
    """Indexed by offset; None is a hole. What stands before `start` was deleted by retention."""

    records: list[_Record | None] = field(default_factory=list)
    start: int = 0
    leader_epoch: int = 0
    epoch_ends: dict[int, int] = field(default_factory=dict)  # where earlier leader epochs were cut off


@dataclass(slots=True)
class _Topic:
    topic_id: str
    logs: list[_Log] = field(default_factory=list)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryCluster:
    """Topics and groups. Thread-safe.

    Args:
        cluster_id: what `MemoryBroker.cluster_id` tells.
        now_ms: stamps the records; the wall clock by default.

    """

    def __init__(self, cluster_id: str = "memory", now_ms: Callable[[], int] = _wall_clock_ms) -> None:
        self.cluster_id = cluster_id
        self._now_ms = now_ms
        self._topics: dict[str, _Topic] = {}
        self._topics_made = 0
        self._groups: dict[str, Group] = {}
        self._faults: dict[str, deque[Exception | str]] = {}
        self._round_robin = 0
        self.changed = threading.Condition(threading.RLock())  # guards everything, told of every change

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Make a topic, or give it more partitions. Its groups rebalance."""
        with self.changed:
            if topic not in self._topics:
                self._topics_made += 1
                self._topics[topic] = _Topic(f"{self.cluster_id}-{self._topics_made}")
            logs = self._topics[topic].logs
            logs.extend(_Log() for _ in range(partitions - len(logs)))
            self._balance()

    def delete_topic(self, topic: str) -> None:
        """Its members' partitions go, and with it what groups have committed. Made again it has another id (C23)."""
        with self.changed:
            del self._topics[topic]
            for group in self._groups.values():
                for partition in [partition for partition in group.committed if partition.topic == topic]:
                    del group.committed[partition]
            self._balance()

    def delete_records(self, partition: TopicPartition, before: int) -> None:
        """Retention deletes what stands before an offset (D03)."""
        with self.changed:
            log = self._log(partition)
            log.start = max(log.start, min(before, len(log.records)))

    def truncate(self, partition: TopicPartition, end: int) -> None:
        """An unclean leader election: the log's tail is lost, and its offsets are used again (D04)."""
        with self.changed:
            log = self._log(partition)
            del log.records[end:]
            log.epoch_ends = {epoch: min(end, at) for epoch, at in log.epoch_ends.items()} | {log.leader_epoch: end}
            log.leader_epoch += 1

    def expire_offsets(self, group: str) -> None:
        """The group's offsets expire (D02)."""
        with self.changed:
            self.group(group).committed.clear()

    def produce(
        self,
        topic: str,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> int:
        """Append a record and return its offset. Without `partition` the key chooses, without a key it goes in turn."""
        return self.append(topic, key, value, headers, partition).offset

    def append(
        self,
        topic: str,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> Coordinates:
        """The same, and returns where it stands. The cluster is left out, as in `Message.coordinates`."""
        with self.changed:
            logs = self._topics[topic].logs
            number = self._choose(key, len(logs)) if partition is None else partition
            log = logs[number]
            log.records.append(_Record(key, value, tuple(headers), self._now_ms(), log.leader_epoch))
            self.changed.notify_all()
            return Coordinates("", topic, number, len(log.records) - 1)

    def gap(self, topic: str, partition: int = 0, count: int = 1) -> None:
        """Use up offsets that nobody ever sees, as a transaction's marker or compaction does (D07)."""
        with self.changed:
            self._topics[topic].logs[partition].records.extend([None] * count)
            self.changed.notify_all()

    def records(self, topic: str) -> list[Message]:
        """Everything in a topic, partition by partition."""
        with self.changed:
            logs = self._topics[topic].logs
            everything = (self.read(TopicPartition(topic, n), 0) for n in range(len(logs)))
            return [message for messages in everything for message in messages]

    def committed(self, group: str) -> dict[TopicPartition, Committed]:
        """What the group has committed."""
        with self.changed:
            return dict(self.group(group).committed)

    def commit(self, group: str, partition: TopicPartition, offset: int, metadata: str = "") -> None:
        """Commit from outside the group, as an operator's tool does (D05, D06)."""
        with self.changed:
            self.group(group).commit(CommitMark(partition, offset, None, metadata))

    def expire(self, member: "MemoryBroker") -> None:
        """The group gives up on a member (its session timed out). It learns of it in its next poll, if there is one."""
        with self.changed:
            member.expire()
            self.changed.notify_all()

    def fail_next(self, call: str, fault: Exception | str, times: int = 1) -> None:
        """Let the next call of `call` fail, whoever makes it.

        Args:
            call: "poll", "committed", "log_bounds", "commit" (asynchronous or not) or "publish".
            fault: an exception to raise (publish: to report), or for a commit a verdict to give; nothing is executed.
            times: how many calls.

        """
        with self.changed:
            self._faults.setdefault(call, deque()).extend([fault] * times)

    # ------------------------------------------------------------------------------- for MemoryBroker, under the lock

    def group(self, name: str) -> Group:
        """The group, made by its first use."""
        return self._groups.setdefault(name, Group())

    def partitions(self) -> list[TopicPartition]:
        """Every partition of every topic."""
        return [TopicPartition(name, n) for name, topic in self._topics.items() for n in range(len(topic.logs))]

    def take_fault(self, call: str) -> Exception | str | None:
        """The fault that `fail_next` keeps for this call, if any; gone then."""
        faults = self._faults.get(call)
        return faults.popleft() if faults else None

    def has(self, topic: str) -> bool:
        """Whether the topic exists."""
        return topic in self._topics

    def read(self, partition: TopicPartition, offset: int, limit: int | None = None) -> list[Message]:
        """At most `limit` messages from `offset` on: new objects each time, because the engine writes into them."""
        messages: list[Message] = []
        log = self._log(partition)
        for at in range(max(offset, log.start), len(log.records)):
            if limit is not None and len(messages) >= limit:
                break
            record = log.records[at]
            if record is not None:
                messages.append(_as_message(partition, at, record, self._topics[partition.topic].topic_id))
        return messages

    def bounds(self, partition: TopicPartition) -> LogBounds:
        """Where the log begins and ends."""
        log = self._log(partition)
        return LogBounds(log.start, len(log.records), self._topics[partition.topic].topic_id)

    def is_cut_off(self, partition: TopicPartition, offset: int, leader_epoch: int | None) -> bool:
        """Whether the log that this leader epoch wrote ends before the offset: it was truncated since (KIP-320)."""
        log = self._log(partition)
        end = log.epoch_ends.get(leader_epoch, len(log.records)) if leader_epoch is not None else len(log.records)
        return offset > end

    def _log(self, partition: TopicPartition) -> _Log:
        return self._topics[partition.topic].logs[partition.partition]

    def _balance(self) -> None:
        for group in self._groups.values():
            group.balance(self.partitions())
        self.changed.notify_all()

    def _choose(self, key: bytes | None, partitions: int) -> int:
        if key is not None:
            return zlib.crc32(key) % partitions
        self._round_robin += 1
        return (self._round_robin - 1) % partitions


def _as_message(partition: TopicPartition, offset: int, record: _Record, topic_id: str) -> Message:
    return Message(
        partition.topic,
        partition.partition,
        offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
        timestamp_ms=record.timestamp_ms,
        leader_epoch=record.leader_epoch,
        topic_id=topic_id,
    )
