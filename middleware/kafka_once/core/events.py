"""What happened, as data: the outcome of each delivery, the counters, and the events that observers are told."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kafka_once.message import TopicPartition

__all__ = ["Counters", "Kind", "Note", "Outcome", "Stall"]


class Outcome(StrEnum):
    """Every delivery ends in exactly one of these."""

    COMPLETED = "completed"
    """The handler ran and its claim is completed (or, without a store, its run is settled)."""

    REDELIVERY = "redelivery"
    """Done already, and these coordinates had been delivered before: nothing was processed."""

    REPEAT = "repeat"
    """Done already, and the producer sent it again at these coordinates: nothing was processed."""

    DEAD_LETTERED = "dead_lettered"
    """Published to the dead-letter topic, confirmed, and settled."""

    SKIPPED = "skipped"
    """Settled without being processed, because the semantics says so: at most once, and the handler raised, or its
    partition went before it was run."""

    HANDED_BACK = "handed_back"
    """Not settled here: its partition was revoked, or the process drained. It is delivered again."""

    DROPPED = "dropped"
    """Not settled here: its partition was lost. It is delivered again."""


class Counters:
    """Plain counters, each moved only after its fact is settled, so that a crash does not inflate them.

    deliveries is the sum of the outcomes for a process that ended cleanly; before that, the rest is in progress.
    """

    NAMES = (
        "deliveries",  # messages that Kafka delivered to us
        "processings",  # handler runs that ended without an exception
        "failures",  # handler runs that raised
        *(outcome.value for outcome in Outcome),
        "in_doubt",  # claims granted to us whose earlier holder may have run the handler
        "busy",  # claims put off because a living holder has the key
        "fenced",  # completions refused because another holder has the key
        "doubled",  # completions that found the key done by another session
        "forgotten",  # completions that found no trace of their claim: the store lost it
        "retries",  # failures that will be tried again
        "unprotected",  # deliveries that ran without a claim by policy
        "store_calls",  # round trips to the store
        "store_silences",  # calls without a definite answer, repeated
        "store_changes",  # another server of the store answered: it restarted, or a replica took over
        "commits",  # offset commits confirmed
        "commits_refused",  # offset commits that Kafka refused
        "offsets_gone",  # partitions without a committed offset that started at the stored frontier
        "commits_lost",  # partitions whose committed offset was behind the stored frontier
        "resets_back",  # partitions whose offset somebody set back behind the stored frontier
        "resets_ahead",  # partitions whose offset somebody else committed ahead of the stored frontier
        "topics_recreated",  # partitions of topics that were deleted and made anew
        "messages_deleted",  # offsets that retention deleted before they were read
        "logs_truncated",  # partitions whose log does not hold our position any more
        "memory_lost",  # partitions whose committed offset carries an epoch that the store gave out again
        "sessions",  # sessions opened with the store
        "self_fenced",  # stalls of the process after which it gave up all its partitions
        "stalled",  # handler runs that went on for longer than `stalled_after`
        "overdue",  # handler runs that passed their deadline
        "observer_failures",  # calls of an observer that raised
    )

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, int] = dict.fromkeys(self.NAMES, 0)

    def add(self, name: str, count: int = 1) -> None:
        self._values[name] += count

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def as_dict(self) -> dict[str, int]:
        """A copy, which another thread may take at any time."""
        return dict(self._values)


class Kind(StrEnum):
    """What observers are told, one at a time. The text is what the log says."""

    RAISED = "handler raised; will be tried again"
    GAVE_UP = "handler raised for the last time"
    DEAD_LETTERED = "published to the dead-letter topic"
    UNPUBLISHED = "dead letter not confirmed; will be published again"
    SKIPPED = "handler raised; at most once, so it is not tried again"
    IN_DOUBT = "an earlier holder may have run the handler for this key"
    FENCED = "finished, but another holder has the key; not settled yet"
    DOUBLED = "finished, and another session had completed the key"
    FORGOTTEN = "finished, and the store knew nothing of the claim"
    ASSIGNED = "partition assigned"
    OWNED = "ownership taken"
    HELD_BACK = "much is settled behind a message that is not; partition paused until it is"
    SUPERSEDED = "partition has a newer owner; asking Kafka"
    REVOKED = "partition revoked"
    LOST = "partition lost"
    STORE_SILENT = "store gives no answer; partitions paused"
    STORE_BACK = "store answers again"
    STORE_CHANGED = "another server of the store answers: the last completions are told again, nothing new for a lease"
    SESSION_OPENED = "session opened"
    SESSION_OVER = "session lapsed or was replaced"
    COMMIT_REFUSED = "Kafka refused the commit"
    UNUSABLE = "no usable idempotency key or payload"
    OFFSETS_GONE = "committed offset gone"
    COMMIT_LOST = "a commit was lost, or came late"
    RESET_BACK = "offset reset back"
    RESET_AHEAD = "offset reset ahead"
    TOPIC_RECREATED = "topic made anew"
    MESSAGES_DELETED = "messages deleted unread"
    LOG_TRUNCATED = "log truncated"
    MEMORY_LOST = "store lost its memory"
    SELF_FENCED = "the process stood still for longer than its group waits; every partition is given up"
    STALLED = "a handler does not end; its partition waits"
    OVERDUE = "a handler passed its deadline; what it does is in doubt"


class Stall(NamedTuple):
    """A message whose handler has been running for longer than `stalled_after`, now."""

    topic_partition: TopicPartition
    offset: int
    ran_ms: int


class Note:
    """One event for observers. Carries coordinates and a digest, never a payload or a key in clear."""

    __slots__ = ("attempt", "error", "kind", "offset", "text", "topic_partition")

    def __init__(
        self,
        kind: Kind,
        *,
        topic_partition: TopicPartition | None = None,
        offset: int | None = None,
        attempt: int | None = None,
        error: BaseException | None = None,
        text: str = "",
    ) -> None:
        self.kind = kind
        self.topic_partition = topic_partition
        self.offset = offset
        self.attempt = attempt
        self.error = error
        self.text = text
