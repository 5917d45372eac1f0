"""What is asked of the store and of Kafka, and what they answer: plain values, shared by the core and the adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kafka_once.core.claims import ClaimAnswer, Completion, Release
from kafka_once.message import TopicPartition

__all__ = [
    "ClaimAsk",
    "CommitMark",
    "CommitResult",
    "Committed",
    "CompleteAsk",
    "Exchange",
    "ExchangeReply",
    "FrontierMark",
    "LogBounds",
    "Ownership",
    "OwnershipAsk",
    "ReleaseAsk",
    "Seek",
    "Session",
]


class Session(NamedTuple):
    """One worker process's life with the store. `number` is never reused; `token` is the caller's random part."""

    number: int
    token: int


class OwnershipAsk(NamedTuple):
    """A partition that Kafka assigned to us. `topic_id` is empty where the broker tells none."""

    topic: str
    partition: int
    topic_id: str = ""


class Ownership(NamedTuple):
    """One session having one partition once.

    Attributes:
        number: never reused.
        frontier: the stored frontier (next offset, leader epoch), None if none was ever stored.
        claimed_up_to: the highest offset that any ownership of this partition ever asked a claim for, -1 for none: a
            done key at or below it is a redelivery, above it a producer's repeat.
        earlier_topic: the store knows this partition under another topic id: the topic was made anew.
    """

    number: int
    epoch: int
    frontier: tuple[int, int | None] | None
    claimed_up_to: int
    earlier_topic: bool = False


class ClaimAsk(NamedTuple):
    """Ask for one key.

    `follows`: in its lane this claim comes right behind the one before it in the batch, and is tried only if that one
    was granted or a duplicate (else SKIPPED): in an ordered lane only a prefix is claimed (hole 15). A store of several
    shards may grant it all the same; whoever asks gives back what is granted behind a refusal.
    `held`: it was granted to this process, which says so again because the store may have forgotten it (hole 12).
    """

    digest: bytes
    ownership: int
    offset: int
    follows: bool = False
    alone: bool = False
    held: bool = False


class CompleteAsk(NamedTuple):
    """`session` is the one under which the claim was granted, which may be over by now."""

    digest: bytes
    session: int
    dead_lettered: bool = False


class ReleaseAsk(NamedTuple):
    """`call` is the number of the exchange that was granted the claim. See `claims.release` for the flags."""

    digest: bytes
    session: int
    call: int
    failed: bool = False
    doubt: bool = False
    ownership: int = 0
    offset: int = -1


class FrontierMark(NamedTuple):
    """Store the frontier of a partition: next offset and leader epoch. Refused silently unless `ownership` is the
    partition's newest one, and the frontier grows; `back` lets it go back behind what earlier ownerships stored."""

    ownership: int
    offset: int
    leader_epoch: int | None = None
    back: bool = False


@dataclass(slots=True)
class Exchange:
    """One round trip, executed atomically in this order: renew, completes, releases, frontiers, ends, claims.

    Attributes:
        session: who calls. Renewed for `lease_ms` if it lives; renewing never creates (hole 14).
        call: grows with every new exchange of the session, the same when this exchange is repeated.
        ends: numbers of ownerships (of this session) that are over.
    """

    session: Session
    call: int
    completes: Sequence[CompleteAsk] = ()
    releases: Sequence[ReleaseAsk] = ()
    frontiers: Sequence[FrontierMark] = ()
    ends: Sequence[int] = ()
    claims: Sequence[ClaimAsk] = ()


@dataclass(slots=True)
class ExchangeReply:
    """The answers, in the order of what was asked. If the session is over every claim is GONE and nothing is claimed;
    completes and releases are answered all the same, by the session that each of them names.

    Attributes:
        server: names the server that answered; another name than before means that it restarted, or that another one
            took over, which may have forgotten what was acknowledged last. Empty where nobody knows.
    """

    session_lives: bool
    completes: Sequence[Completion] = ()
    releases: Sequence[Release] = ()
    claims: Sequence[ClaimAnswer] = ()
    server: str = ""


class CommitMark(NamedTuple):
    """Commit `offset` (the next one to read) for a partition. `metadata` is written beside it."""

    partition: TopicPartition
    offset: int
    leader_epoch: int | None = None
    metadata: str = ""


class Committed(NamedTuple):
    """A group's committed offset. `metadata` is what the committer wrote beside it."""

    offset: int
    leader_epoch: int | None
    metadata: str


class LogBounds(NamedTuple):
    """A partition's log: from its first offset to the one behind its last, open transactions included.

    `topic_id` is empty where the broker tells none. `diverged`: this member stood in it, and found another log there.
    """

    start: int
    end: int
    topic_id: str = ""
    diverged: bool = False


class Seek(NamedTuple):
    """Read on at `offset`; `leader_epoch` is that of the message before it, which lets Kafka tell a truncated log."""

    partition: TopicPartition
    offset: int
    leader_epoch: int | None = None


class CommitResult(NamedTuple):
    """`verdict`: "ok" | "retry" (no definite answer, or a passing state) | "drop" (not ours any more) | "stop"."""

    mark: CommitMark
    verdict: str
    reason: str = ""
