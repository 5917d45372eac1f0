"""Values that name things: partitions, coordinates, and the message itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Coordinates", "Message", "TopicPartition"]


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Coordinates(NamedTuple):
    """Where a message stands. `cluster` is Kafka's cluster id, empty where the broker tells none."""

    cluster: str
    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Message:
    """One Kafka record as delivered. It is to be read: what a handler assigns to it is there in its next attempt, and
    in its dead letter, too.

    Attributes:
        topic, partition, offset: its coordinates.
        key: the record key as it stands in Kafka; not the idempotency key.
        value: the payload's bytes, None for a tombstone.
        headers: in order, repeated names kept. A tuple: what a handler adds would be there in its next attempt.
        timestamp_ms: as the record says; never used for a decision. None if it has none.
        leader_epoch: of the leader that wrote it, None if unknown.
        topic_id: of the topic, empty if Kafka tells none. A topic that was deleted and made anew has another one.
        idempotency_key: the identity of the work, the same for every repeat. None when it runs unprotected or without
            a store.
        attempt: 1 for the first run of this key, as far as the store knows.
        in_doubt: True if an earlier holder may have run the handler for this key.
        fence: a number that only grows for a key; give it to sinks that can refuse an older one. 0 without a store.
    """

    __slots__ = (
        "attempt",
        "fence",
        "headers",
        "idempotency_key",
        "in_doubt",
        "key",
        "leader_epoch",
        "offset",
        "partition",
        "timestamp_ms",
        "topic",
        "topic_id",
        "value",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: Iterable[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int | None = None,
        leader_epoch: int | None = None,
        topic_id: str = "",
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.value = value
        self.headers = tuple(headers or ())
        self.timestamp_ms = timestamp_ms
        self.leader_epoch = leader_epoch
        self.topic_id = topic_id
        self.idempotency_key: bytes | None = None
        self.attempt = 1
        self.in_doubt = False
        self.fence = 0

    def header(self, name: str) -> bytes | None:
        """The last header of that name, None if there is none (the last one wins, as in Kafka's own clients)."""
        for header_name, value in reversed(self.headers):
            if header_name == name:
                return value
        return None

    def coordinates(self, cluster: str = "") -> Coordinates:
        return Coordinates(cluster, self.topic, self.partition, self.offset)

    def identity(self) -> str:
        """Its coordinates as text that names no other record: with the leader epoch, which tells it from one that stood
        there before the log was truncated (D04), and the topic's id, which tells it from an earlier topic's (C23).
        """
        coordinates = f"{self.topic}:{self.partition}:{self.offset}"  # no topic's name has a colon in it
        if self.leader_epoch is None and not self.topic_id:
            return coordinates
        return f"{coordinates}:{-1 if self.leader_epoch is None else self.leader_epoch}:{self.topic_id}"

    def __repr__(self) -> str:  # no payload, no key: reprs end up in logs
        return f"<Message {self.topic}[{self.partition}]@{self.offset}>"
