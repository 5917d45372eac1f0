"""The conversation with the store: one call at a time, repeated with the same arguments until it is answered.

Completions, releases, frontiers and ends gather here and leave with the next exchange, together with the claims that
the engine chooses at that moment. So the store's round trip sets the size of the batch by itself: while one call is
away the next one fills up.

Trust. A holder trusts its lease until `sent + lease - margin` of the last *answered* call, counted from before it was
sent, on its own monotonic clock. Past that it starts and commits nothing (hole 14).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kafka_once.core.calls import (
    ClaimAsk,
    CompleteAsk,
    Exchange,
    ExchangeReply,
    FrontierMark,
    OwnershipAsk,
    ReleaseAsk,
    Session,
)
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka_once.core.claims import ClaimAnswer, Completion
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.partition import Partition

__all__ = ["Answers", "Correspondence", "GiveBack"]

_AGAIN_FIRST_MS, _AGAIN_MOST_MS = 50, 2_000  # between repeats of a call that is not answered


@dataclass(slots=True)
class GiveBack:
    """A claim on its way back. `doubt`: its handler raised `InDoubt`."""

    delivery: Delivery
    failed: bool = False
    doubt: bool = False


@dataclass(slots=True)
class Answers:
    """An exchange's reply, each answer beside what it is about."""

    session: Session
    session_lives: bool
    call: int
    completed: list[tuple[Delivery, Completion]] = field(default_factory=list)
    released: list[GiveBack] = field(default_factory=list)
    claimed: list[tuple[list[Delivery], Sequence[ClaimAnswer]]] = field(default_factory=list)


@dataclass(slots=True)
class _Sent:
    """The call that is away, and what its parts are about."""

    call: StoreCall
    sent_ms: int
    again_ms: int = _AGAIN_FIRST_MS
    due_ms: int | None = None  # when to repeat it; None while an answer may still come
    completes: list[Delivery] = field(default_factory=list)
    releases: list[GiveBack] = field(default_factory=list)
    claims: list[list[Delivery]] = field(default_factory=list)
    joining: list[Partition] = field(default_factory=list)


class Correspondence:
    def __init__(self, lease_ms: int, margin_ms: int, instance: str | None) -> None:
        self._lease_ms = lease_ms
        self._margin_ms = margin_ms
        self._instance = instance
        self._previous: int | None = None  # our session before this one
        self._renew_every_ms = lease_ms // 3
        self._sent: _Sent | None = None
        self._last_call = 0
        self._trusted_until_ms = -1
        self._renew_due_ms = 0
        self._completes: list[Delivery] = []
        self._releases: list[GiveBack] = []
        self._marks: dict[int, FrontierMark] = {}
        self._ends: list[int] = []
        self.session: Session | None = None

    # ------------------------------------------------------------------------------------------------ what to say next

    def complete(self, delivery: Delivery) -> None:
        self._completes.append(delivery)

    def give_back(self, back: GiveBack) -> None:
        self._releases.append(back)

    def mark(self, mark: FrontierMark) -> None:
        self._marks[mark.ownership] = mark

    def end(self, ownership: int) -> None:
        self._ends.append(ownership)

    # ------------------------------------------------------------------------------------------------------ the calls

    @property
    def away(self) -> bool:
        """Whether a call is on its way, answered or to be repeated."""
        return self._sent is not None

    @property
    def silent(self) -> bool:
        """Whether the last call got no answer."""
        return self._sent is not None and self._sent.due_ms is not None

    def trusted(self, now_ms: int) -> bool:
        return now_ms < self._trusted_until_ms

    def repeat(self, now_ms: int) -> StoreCall | None:
        """The unanswered call, if it is due."""
        sent = self._sent
        if sent is None or sent.due_ms is None or now_ms < sent.due_ms:
            return None
        sent.due_ms = None
        sent.sent_ms = now_ms
        return sent.call

    def open(self, now_ms: int, token: int) -> StoreCall:
        self._sent = _Sent(OpenSession(token, self._instance, self._previous), now_ms)
        return self._sent.call

    def take(self, now_ms: int, partitions: Sequence[Partition]) -> StoreCall:
        self._last_call += 1
        asks = tuple(OwnershipAsk(p.name.topic, p.name.partition) for p in partitions)
        self._sent = _Sent(TakeOwnerships(self._last_call, asks), now_ms, joining=list(partitions))
        return self._sent.call

    def exchange(self, now_ms: int, claims: list[list[Delivery]]) -> StoreCall | None:
        """The next exchange, None if there is nothing to say and no renewal is due."""
        said = self._completes or self._releases or self._marks or self._ends or claims
        if self.session is None or not (said or now_ms >= self._renew_due_ms):
            return None
        self._last_call += 1
        sent = _Sent(
            self._exchange_of(claims), now_ms, completes=self._completes, releases=self._releases, claims=claims
        )
        self._completes, self._releases, self._marks, self._ends = [], [], {}, []
        self._sent = sent
        self._renew_due_ms = now_ms + self._renew_every_ms
        return sent.call

    def _exchange_of(self, claims: list[list[Delivery]]) -> Exchange:
        assert self.session is not None
        return Exchange(
            session=self.session,
            call=self._last_call,
            completes=[CompleteAsk(d.digest or b"", d.session, bool(d.reason)) for d in self._completes],
            releases=[_release_ask(back) for back in self._releases],
            frontiers=list(self._marks.values()),
            ends=self._ends,
            claims=_claim_asks(claims),
        )

    # ---------------------------------------------------------------------------------------------------- the answers

    def on_session(self, session: Session) -> None:
        assert self._sent is not None
        self.session = session
        self._trust(self._sent.sent_ms)
        self._sent = None

    def on_ownerships(self, *, session_lives: bool) -> list[Partition]:
        """The partitions that were asked for."""
        assert self._sent is not None
        joining = self._sent.joining
        self._sent = None
        if not session_lives:
            self._lapse()
        return joining

    def on_exchanged(self, reply: ExchangeReply) -> Answers:
        sent, session = self._sent, self.session
        assert sent is not None
        assert session is not None
        self._sent = None
        answers = Answers(session, reply.session_lives, self._last_call)
        answers.completed = list(zip(sent.completes, reply.completes, strict=True))
        answers.released = sent.releases
        position = 0
        for group in sent.claims:
            answers.claimed.append((group, reply.claims[position : position + len(group)]))
            position += len(group)
        if reply.session_lives:
            self._trust(sent.sent_ms)
        else:
            self._lapse()
        return answers

    def on_silence(self, now_ms: int) -> None:
        """No definite answer: the same call goes out again after a while."""
        sent = self._sent
        assert sent is not None
        sent.due_ms = now_ms + sent.again_ms
        sent.again_ms = min(sent.again_ms * 2, _AGAIN_MOST_MS)

    def pending(self) -> bool:
        """Whether anything is unsaid or unanswered, renewals apart."""
        return bool(self._sent or self._completes or self._releases or self._ends)

    def next_due_ms(self) -> int | None:
        """When a repeat or a renewal is due; None while a call is on its way."""
        if self._sent is not None:
            return self._sent.due_ms
        return self._renew_due_ms if self.session is not None else None

    def _trust(self, sent_ms: int) -> None:
        self._trusted_until_ms = sent_ms + self._lease_ms - self._margin_ms
        self._renew_due_ms = sent_ms + self._renew_every_ms

    def _lapse(self) -> None:
        assert self.session is not None
        self._previous = self.session.number
        self.session = None
        self._trusted_until_ms = -1


def _release_ask(back: GiveBack) -> ReleaseAsk:
    delivery = back.delivery
    ownership = delivery.partition.ownership
    return ReleaseAsk(
        delivery.digest or b"",
        delivery.session,
        delivery.call,
        failed=back.failed,
        doubt=back.doubt,
        ownership=ownership.number if ownership else 0,
        offset=delivery.offset,
    )


def _claim_asks(groups: list[list[Delivery]]) -> list[ClaimAsk]:
    asks = []
    for group in groups:
        ownership = group[0].partition.ownership
        assert ownership is not None
        number = ownership.number
        follows = False
        for delivery in group:
            asks.append(ClaimAsk(delivery.digest or b"", number, delivery.offset, follows, delivery.alone))
            follows = True
    return asks
