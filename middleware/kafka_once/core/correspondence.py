"""The conversation with the store: calls leave in order, and are repeated with the same arguments until answered.

Completions, releases, frontiers and ends gather here and leave with the next exchange, together with the claims that
the engine chooses at that moment. Two may be away: the store works on one while we work on what another has answered.
While both are, the next one fills up, so that the store's round trip sets the size of the batch by itself. Only what a
slow handler waits for leaves at once, beside the calls that are away: its completion must not stand in a queue, because
all that time it would be in doubt after a crash.

Trust. A holder trusts its lease until `sent + lease - margin` of the last *answered* call, counted from before it was
sent, on its own monotonic clock. Past that it starts and commits nothing (hole 14).

Silence. One unanswered call makes all that are away unanswered: they are repeated together, in order. Whichever copy
is executed, the answers are the same (core/claims.py); an answer that comes after all is matched by its call.
"""

from __future__ import annotations

from collections import deque
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
from kafka_once.core.reminder import Reminder
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka_once.core.claims import ClaimAnswer, Completion
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.partition import Partition

__all__ = ["Answers", "Correspondence", "GiveBack"]

_OVERLAPPING = 2  # calls away at once: the store works on one while we work on what another has answered
_AGAIN_FIRST_MS, _AGAIN_MOST_MS = 50, 2_000  # between repeats of a call that is not answered


_new = tuple.__new__


@dataclass(slots=True)
class GiveBack:
    """A claim on its way back. `doubt`: its handler raised `InDoubt`. `runs_on`: it is overdue, and goes on running."""

    delivery: Delivery
    failed: bool = False
    doubt: bool = False
    runs_on: bool = False


@dataclass(slots=True)
class Answers:
    """An exchange's reply, each answer beside what it is about."""

    session: Session
    session_lives: bool
    call: int
    sent_ms: int  # when, as far as it was answered
    another_server: bool  # told by another server than the last time
    lapsed: bool = False  # told for the first time that the session is over
    completed: list[tuple[Delivery, Completion]] = field(default_factory=list)
    released: list[GiveBack] = field(default_factory=list)
    claimed: list[tuple[list[Delivery], Sequence[ClaimAnswer]]] = field(default_factory=list)
    held: list[tuple[Delivery, ClaimAnswer]] = field(default_factory=list)  # claims that were said again
    repeated: Sequence[Completion] = ()  # of completions that were said again


@dataclass(slots=True)
class _Sent:
    """The call that is away, and what its parts are about."""

    call: StoreCall
    sent_ms: int
    completes: list[Delivery] = field(default_factory=list)
    releases: list[GiveBack] = field(default_factory=list)
    claims: list[list[Delivery]] = field(default_factory=list)
    held: list[Delivery] = field(default_factory=list)
    joining: list[Partition] = field(default_factory=list)


class Correspondence:
    """Args: `depth` is how many calls may be away at once, with a store that answers them in order.

    Attributes:
        trusted_until_ms: on the engine's clock: past it nothing may start and nothing is committed.
    """

    def __init__(self, lease_ms: int, margin_ms: int, instance: str | None, depth: int) -> None:
        self._lease_ms = lease_ms
        self._margin_ms = margin_ms
        self._instance = instance
        self._depth = depth
        self._previous: int | None = None  # our session before this one
        self._renew_every_ms = lease_ms // 3
        self._sent: deque[_Sent] = deque()
        self._repeat_due_ms: int | None = None  # when to repeat what is away; None while answers may still come
        self._again_ms = _AGAIN_FIRST_MS
        self._last_call = 0
        self.trusted_until_ms = -1
        self._renew_due_ms = 0
        self._completes: list[Delivery] = []
        self._releases: list[GiveBack] = []
        self._marks: dict[int, FrontierMark] = {}
        self._ends: list[int] = []
        self._urgent = False
        self.reminder = Reminder()
        self.session: Session | None = None

    # ------------------------------------------------------------------------------------------------ what to say next

    def complete(self, deliveries: list[Delivery]) -> None:
        """All of one lane."""
        self._completes += deliveries
        if deliveries[0].partition.pace.group_size == 1:
            self._urgent = True

    def give_back(self, back: GiveBack) -> None:
        self._releases.append(back)

    def mark(self, mark: FrontierMark) -> None:
        unsent = self._marks.get(mark.ownership)
        self._marks[mark.ownership] = mark._replace(back=True) if unsent is not None and unsent.back else mark

    def end(self, ownership: int) -> None:
        self._ends.append(ownership)

    # ------------------------------------------------------------------------------------------------------ the calls

    @property
    def idle(self) -> bool:
        """Whether no call is away."""
        return not self._sent

    @property
    def silent(self) -> bool:
        """Whether the calls that are away got no answer."""
        return self._repeat_due_ms is not None

    def trusted(self, now_ms: int) -> bool:
        return now_ms < self.trusted_until_ms

    def open_to_more(self) -> bool:
        """Whether another exchange may leave now."""
        if not self._sent:
            return True
        if any(sent.held for sent in self._sent):  # its answer tells by which call these claims can be given back
            return False
        most = self._depth if self._urgent else min(self._depth, _OVERLAPPING)
        return len(self._sent) < most and not self.silent and self.session is not None

    def repeat(self, now_ms: int) -> list[StoreCall]:
        """The unanswered calls, if they are due."""
        if self._repeat_due_ms is None or now_ms < self._repeat_due_ms:
            return []
        self._repeat_due_ms = None
        for sent in self._sent:
            sent.sent_ms = now_ms
        return [sent.call for sent in self._sent]

    def open(self, now_ms: int, token: int) -> StoreCall:
        return self._send(_Sent(OpenSession(token, self._instance, self._previous), now_ms))

    def take(self, now_ms: int, partitions: Sequence[Partition]) -> StoreCall:
        self._last_call += 1
        asks = tuple(OwnershipAsk(p.name.topic, p.name.partition, p.topic_id) for p in partitions)
        return self._send(_Sent(TakeOwnerships(self._last_call, asks), now_ms, joining=list(partitions)))

    def exchange(self, now_ms: int, claims: list[list[Delivery]]) -> StoreCall | None:
        """The next exchange of a session that is open; None if there is nothing to say and no renewal is due."""
        said = self._completes or self._releases or self._marks or self._ends or claims or self.reminder.pending()
        if not said and now_ms < self._renew_due_ms:
            return None
        self._last_call += 1
        held = self.reminder.take_held()
        call = self._exchange_of(claims, held)
        completes, releases = self._completes, self._releases
        sent = _Sent(call, now_ms, completes=completes, releases=releases, claims=claims, held=held)
        self._completes, self._releases, self._marks, self._ends = [], [], {}, []
        self._urgent = False
        self._renew_due_ms = now_ms + self._renew_every_ms
        return self._send(sent)

    def _send(self, sent: _Sent) -> StoreCall:
        self._sent.append(sent)
        return sent.call

    def _exchange_of(self, claims: list[list[Delivery]], held: list[Delivery]) -> Exchange:
        assert self.session is not None
        # A named tuple's own constructor is Python code, and half of what an ask costs.
        completes = [_new(CompleteAsk, (d.digest, d.session, d.reason != "")) for d in self._completes]
        return Exchange(
            session=self.session,
            call=self._last_call,
            completes=completes + self.reminder.take_completes(),
            releases=[*map(_release_ask, self._releases), *self.reminder.take_releases()],
            frontiers=list(self._marks.values()),
            ends=self._ends + self.reminder.take_ends(),
            claims=[*map(_held_ask, held), *_claim_asks(claims)],
        )

    # ---------------------------------------------------------------------------------------------------- the answers

    def on_session(self, call: StoreCall, session: Session) -> None:
        sent = self._answered(call)
        if sent is not None:
            self.session = session
            self._trust(sent.sent_ms)

    def on_ownerships(self, call: StoreCall, *, session_lives: bool) -> list[Partition]:
        """The partitions that were asked for."""
        sent = self._answered(call)
        if sent is None:
            return []
        if not session_lives:
            self._lapse()
        return sent.joining

    def on_exchanged(self, call: StoreCall, reply: ExchangeReply) -> Answers | None:
        """What the reply is about; None if that call was answered before."""
        sent = self._answered(call)
        if sent is None:
            return None
        assert isinstance(sent.call, Exchange)
        session = sent.call.session
        another_server = self.reminder.meet(reply.server)
        answers = Answers(session, reply.session_lives, sent.call.call, sent.sent_ms, another_server)
        self.reminder.keep(sent.sent_ms, sent.call)
        answers.completed = list(zip(sent.completes, reply.completes[: len(sent.completes)], strict=True))
        answers.repeated = reply.completes[len(sent.completes) :]
        answers.released = sent.releases
        position = len(sent.held)
        answers.held = list(zip(sent.held, reply.claims[:position], strict=True))
        for group in sent.claims:
            answers.claimed.append((group, reply.claims[position : position + len(group)]))
            position += len(group)
        if reply.session_lives:
            self._trust(sent.sent_ms)
        elif session == self.session:
            self._lapse()
            answers.lapsed = True
        return answers

    def on_silence(self, now_ms: int) -> None:
        """No definite answer: what is away goes out again after a while."""
        if self._repeat_due_ms is None:
            self._repeat_due_ms = now_ms + self._again_ms
            self._again_ms = min(self._again_ms * 2, _AGAIN_MOST_MS)

    def pending(self) -> bool:
        """Whether anything is unsaid or unanswered, renewals apart."""
        return bool(self._sent or self._completes or self._releases or self._ends or self.reminder.pending())

    def next_due_ms(self) -> int | None:
        """When a repeat or a renewal is due; None while calls are away."""
        if self._sent:
            return self._repeat_due_ms
        return self._renew_due_ms if self.session is not None else None

    def _answered(self, call: StoreCall) -> _Sent | None:
        for sent in self._sent:
            if sent.call is call:
                self._sent.remove(sent)
                self._again_ms = _AGAIN_FIRST_MS
                if not self._sent:
                    self._repeat_due_ms = None
                return sent
        return None

    def _trust(self, sent_ms: int) -> None:
        self.trusted_until_ms = max(self.trusted_until_ms, sent_ms + self._lease_ms - self._margin_ms)
        self._renew_due_ms = max(self._renew_due_ms, sent_ms + self._renew_every_ms)

    def _lapse(self) -> None:
        if self.session is None:
            return
        self._previous = self.session.number
        self.session = None
        self.trusted_until_ms = -1


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


def _held_ask(delivery: Delivery) -> ClaimAsk:
    ownership = delivery.partition.ownership
    assert ownership is not None
    return ClaimAsk(delivery.digest or b"", ownership.number, delivery.offset, alone=delivery.alone, held=True)


def _claim_asks(groups: list[list[Delivery]]) -> list[ClaimAsk]:
    asks: list[ClaimAsk] = []
    add = asks.append
    for group in groups:
        head, ownership = group[0], group[0].partition.ownership
        assert ownership is not None
        number = ownership.number
        for d in group:  # groups of one are many, and a comprehension for each would cost more than what it makes
            add(_new(ClaimAsk, (d.digest, number, d.offset, d is not head, d.alone, False)))
    return asks
