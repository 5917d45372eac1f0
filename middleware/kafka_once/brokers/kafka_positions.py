"""Where each partition stands: which message of the client's is returned next, which is dropped, where to seek back.

The client's own position is no help: it moves when a message leaves its queue, also if an exception then throws the
message away (finding 5). So the next offset is kept here, and seeking back to it makes good whatever was dropped.
Pure: what comes in are the client's records, what comes out are messages and debts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from kafka_once.message import Message, TopicPartition
from kafka_once.ports import Committed, Passed

__all__ = ["Jump", "Position", "Positions"]

_NEVER = -2  # equals no offset


class Jump(NamedTuple):
    """The next message did not stand where it was expected, even when asked for twice."""

    partition: TopicPartition
    expected: int
    found: int


class Position:
    """One owned partition.

    Attributes:
        next: the offset behind the last returned message, or where was sought; None before the caller's first seek:
            then nothing is taken.
        owed: seek there before anything of this partition is taken; None if no seek is owed.
        leader_epoch: of the message before `owed`, as the caller's seek told it; Kafka tells a truncated log by it.
        topic_id: goes into its messages; empty if Kafka tells none.
        own_start: where the client starts by itself, as long as nothing of it was thrown away; None if not known.
        paused: the caller wants nothing of it.

    """

    __slots__ = (
        "_asked_twice",
        "_confirm",
        "_expects",
        "_untouched",
        "leader_epoch",
        "next",
        "owed",
        "own_start",
        "partition",
        "paused",
        "topic_id",
    )

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.next: int | None = None
        self.owed: int | None = None
        self.leader_epoch: int | None = None
        self.topic_id = ""
        self.own_start: int | None = None
        self._untouched = True
        self.paused = False
        self._expects = _NEVER  # what may be taken without a second look
        self._confirm = False
        self._asked_twice = False

    def seek(self, offset: int, leader_epoch: int | None = None, *, check: bool = False) -> None:
        """Owe a seek to `offset`; but not where the client starts by itself: a seek waits for the fetch that is away.

        Its first message, or the log's end, must stand there then, or is asked for again. `check`: let Kafka check by
        the leader epoch that the log was not truncated, which the client does for a seek only (D04).
        """
        by_itself = self.next is None and self._untouched and offset == self.own_start and not check
        self.next = offset
        self.owed = None if by_itself else offset
        self._confirm = by_itself
        self.leader_epoch = leader_epoch
        self._expects = _NEVER
        self._asked_twice = False

    def seek_back(self) -> None:
        """Owe a seek to the first message that was not returned."""
        self.owed = self.next
        self._expects = _NEVER

    def pause(self) -> None:
        """Take nothing; what the client gives all the same is asked for again after `resume`."""
        self.paused = True
        self._expects = _NEVER

    def resume(self) -> None:
        """Unpause. The first message must stand where it is expected, or is asked for again (E05)."""
        self.paused = False
        self._confirm = True

    def paid(self) -> None:
        """The owed seek was done; its effect is checked as after `resume`."""
        self.owed = None
        self._confirm = True

    def admit(self, offset: int, jumps: list[Jump]) -> bool:
        """The second look, for a message that is not simply the next one: whether it is taken."""
        expected = self.next
        if expected is None or self.paused or self.owed is not None:
            self._untouched = False
            self.owed = expected
            return False
        if offset == expected:
            self._confirm = self._asked_twice = False
            self.leader_epoch = None
            return True
        if not self._asked_twice and (self._confirm or offset < expected):
            self._asked_twice = True
            self.seek_back()
            return False
        jumps.append(Jump(self.partition, expected, offset))
        self._confirm = self._asked_twice = False
        return offset > expected  # ahead: a gap (D07). Behind, asked twice: not the log that we were reading (C23, D04)

    def reached(self, offset: int, jumps: list[Jump]) -> bool:
        """The client came to the log's end at `offset`: whether it is passed, as a message that is not there."""
        if self.next is None:
            self._untouched = False
            return False
        if offset <= self.next or not self.admit(offset, jumps):
            return False
        self.next = self._expects = offset
        return True


class Positions:
    """All owned partitions of a member."""

    def __init__(self) -> None:
        self._positions: dict[str, dict[int, Position]] = {}
        self._taking: list[Message] = []
        self._passed: dict[TopicPartition, int] = {}

    def add(self, partitions: Iterable[TopicPartition]) -> list[Position]:
        """They were assigned. Nothing of them is taken before their first seek."""
        added = [Position(partition) for partition in partitions]
        for position in added:
            self._positions.setdefault(position.partition.topic, {})[position.partition.partition] = position
        return added

    def remove(self, partitions: Iterable[TopicPartition]) -> None:
        """They are gone; unknown ones are passed over (C26)."""
        for topic, number in partitions:
            self._positions.get(topic, {}).pop(number, None)
            self._passed.pop(TopicPartition(topic, number), None)

    def get(self, partition: TopicPartition) -> Position | None:
        """The position of an owned partition, None if it is not owned."""
        return self._positions.get(partition.topic, {}).get(partition.partition)

    def start_by_themselves(self, committed: Mapping[TopicPartition, Committed | None]) -> None:
        """The client starts where the group has committed."""
        for partition, held in committed.items():
            position = self.get(partition)
            if position is not None and held is not None:
                position.own_start = held.offset

    def owned(self) -> list[TopicPartition]:
        """The owned partitions in order."""
        return sorted(position.partition for position in self.all())

    def all(self) -> list[Position]:
        """The positions of all owned partitions."""
        return [position for positions in self._positions.values() for position in positions.values()]

    def take(self, records: Sequence[Any], jumps: list[Jump]) -> list[Message]:
        """Turn the client's records into messages, without those that must not be returned (E04, E05, E16).

        Args:
            records: messages as confluent-kafka gives them, none of them an error.
            jumps: what is conspicuous is appended here.

        """
        taken: list[Message] = []
        self._taking = taken
        last_topic = last_number = positions = position = None
        for record in records:
            topic, number, offset = record.topic(), record.partition(), record.offset()
            if number != last_number or topic != last_topic:
                last_topic, last_number = topic, number
                positions = self._positions.get(topic)
                position = None if positions is None else positions.get(number)
            if position is None:  # not owned (any more)
                continue
            if offset != position._expects and not position.admit(offset, jumps):
                continue
            position.next = position._expects = offset + 1  # no method: a call for each message doubles the cost
            taken.append(_as_message(record, position.partition.topic, number, offset, position.topic_id))
        return taken

    def pass_ends(self, ends: Sequence[Any], jumps: list[Jump]) -> None:
        """Pass what stands before the ends of logs and is no message. After `take` of what came with them.

        Args:
            ends: the client's _PARTITION_EOF events.
            jumps: as for `take`.

        """
        for end in ends:
            position = self.get(TopicPartition(end.topic(), end.partition()))
            if position is not None and position.reached(end.offset(), jumps):
                self._passed[position.partition] = end.offset()

    def passed(self) -> list[Passed]:
        """What was passed since the last call."""
        passed, self._passed = self._passed, {}
        return [Passed(partition, offset) for partition, offset in passed.items()]

    def returned(self) -> None:
        """The caller has what was taken; `take_back` reaches no further back than here."""
        self._taking = []

    def take_back(self) -> None:
        """What was taken is not returned after all: owe seeks back to the first of it, and everywhere."""
        for message in reversed(self._taking):
            position = self.get(TopicPartition(message.topic, message.partition))
            if position is not None:
                position.next = message.offset
        self._taking = []
        self._passed = {}
        for position in self.all():
            position.seek_back()


def _as_message(record: Any, topic: str, number: int, offset: int, topic_id: str) -> Message:
    """A new `Message` with everything that its constructor sets, at a third of the constructor's cost.

    Keyword arguments are the slow part (0.9 µs); a test compares the two.
    """
    message = Message.__new__(Message)
    message.topic = topic
    message.partition = number
    message.offset = offset
    message.key = record.key()
    message.value = record.value()
    message.headers = tuple(record.headers() or ())
    kind, timestamp_ms = record.timestamp()
    message.timestamp_ms = None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms
    message.leader_epoch = record.leader_epoch()
    message.topic_id = topic_id
    message.idempotency_key = None
    message.attempt = 1
    message.in_doubt = False
    message.fence = 0
    return message
