"""Members of a group for tests of brokers, and what a test needs around them."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from kafka_once.errors import BrokerUnavailable
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import Broker, CommitMark, Deleted, Outgoing, Passed

__all__ = ["Member", "World", "committing", "drive"]

PATIENCE_S = 40.0


class World(Protocol):
    """What a broker under test needs around it.

    Attributes:
        abilities: of "gaps", "static" (members with an instance id), "missing topics" (they are refused), "records"
            (keys, headers and timestamps are kept), "topic ids", "deletion" (of records, and of topics).

    """

    abilities: frozenset[str]

    def topic(self, partitions: int = 1) -> str:
        """A new, empty topic."""
        ...

    def group(self) -> str:
        """The name of a new group."""
        ...

    def broker(self, group: str, instance: str | None = None) -> Broker:
        """A member of the group, not started yet."""
        ...

    def produce(self, topic: str, records: Sequence[Outgoing], partition: int = 0) -> None:
        """Append the records to the partition; return when they are there. Their `topic` is not looked at."""
        ...

    def gap(self, topic: str, partition: int = 0) -> None:
        """Use up an offset that no consumer sees."""
        ...

    def delete_records(self, partition: TopicPartition, before: int) -> None:
        """Delete what stands before an offset, as retention does."""
        ...

    def recreate(self, topic: str) -> None:
        """Delete the topic and make it anew at once, with one partition."""
        ...


class Member:
    """A broker, and what happened to it, in order.

    It starts each partition at what is committed or, without that, at the log's start; `begins` = False: not at all.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.owned: set[TopicPartition] = set()
        self.history: list[tuple[str, list[TopicPartition]]] = []
        self.received: list[Message] = []
        self.news: list[Passed | Deleted] = []
        self.begins = True
        self._fresh: set[TopicPartition] = set()
        self.max_messages = 100  # in one poll
        self.at_assign: Callable[[Sequence[TopicPartition]], None] = lambda _partitions: None
        self.at_revoke: Callable[[Sequence[TopicPartition]], None] = lambda _partitions: None

    def start(self, *topics: str) -> "Member":
        """Join."""
        self.broker.start(topics, self)
        return self

    def poll(self, timeout_s: float = 0.05) -> list[Message]:
        """Poll once, and check what holds for every poll."""
        owned_before = set(self.owned)
        messages = self.broker.poll(self.max_messages, timeout_s)
        assert len(messages) <= self.max_messages
        for message in messages:
            partition = TopicPartition(message.topic, message.partition)
            assert partition in self.owned, f"{message!r} of a partition that is not owned"
            assert partition in owned_before, f"{message!r} in the poll that assigned its partition"
        self.received += messages
        self.news += self.broker.news()
        self._begin()
        return messages

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on there."""
        self._fresh.discard(partition)
        self.broker.seek(partition, offset)

    def _begin(self) -> None:
        fresh = sorted(self._fresh)
        if not fresh or not self.begins:
            return
        try:
            logs, committed = self.broker.log_bounds(fresh), self.broker.committed(fresh)
        except BrokerUnavailable:
            return
        for partition in fresh:
            held = committed[partition]
            self.seek(partition, logs[partition].start if held is None else held.offset)

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Of `Rebalances`."""
        assert self.owned.isdisjoint(partitions), "assigned twice"
        self.owned.update(partitions)
        self._fresh.update(partitions)
        self.history.append(("assigned", sorted(partitions)))
        self.at_assign(partitions)

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Of `Rebalances`."""
        assert self.owned.issuperset(partitions), "revoked what was not owned"
        self.at_revoke(partitions)
        self.owned.difference_update(partitions)
        self._fresh.difference_update(partitions)
        self.history.append(("revoked", sorted(partitions)))

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Of `Rebalances`."""
        assert self.owned.issuperset(partitions), "lost what was not owned"
        self.owned.difference_update(partitions)
        self._fresh.difference_update(partitions)
        self.history.append(("lost", sorted(partitions)))

    def values(self, partition: int | None = None) -> list[bytes | None]:
        """The payloads received so far, of one partition or of all."""
        return [message.value for message in self.received if partition in (None, message.partition)]


def drive(members: Sequence[Member], until: Callable[[], bool]) -> None:
    """Poll the members in turn until something is so; an AssertionError after 40 s."""
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {[member.history for member in members]}"
        for member in members:
            member.poll()


def committing(member: Member) -> Member:
    """Let it commit what it received when partitions are revoked, as the runner does."""

    def commit(partitions: Sequence[TopicPartition]) -> None:
        ends = {TopicPartition(message.topic, message.partition): message.offset + 1 for message in member.received}
        marks = [CommitMark(partition, ends[partition], 0, "revoked") for partition in partitions if partition in ends]
        results = member.broker.commit_now(marks, 10.0)
        assert [result.verdict for result in results] == ["ok"] * len(marks)

    member.at_revoke = commit
    return member
