"""Two stores in lockstep: the same random calls to both, and every answer compared.

The suite in `store_conformance` says what somebody thought of; this finds what nobody did. Sessions end by being
closed, never by lapsing, so the clocks of the two stores do not matter. Numbers of sessions and ownerships differ
between stores and are compared by the order in which they were given out; fences with the store's own earlier ones.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kafka_once.ports import (
    ClaimAsk,
    CompleteAsk,
    Exchange,
    FrontierMark,
    Namespace,
    Ownership,
    OwnershipAsk,
    ReleaseAsk,
    Session,
    Store,
)
from kafka_once.testing.store_workers import definite, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka_once.core.claims import ClaimAnswer

__all__ = ["check_lockstep"]

# Few of each, so that they meet.
_KEYS = [digest(name) for name in ("a", "b")]
_IDS = ("", "id", "id-2")
_ASKS = [*(OwnershipAsk("t", 0, topic_id) for topic_id in _IDS), *(OwnershipAsk("t", each) for each in range(1, 6))]
_WORKERS, _SESSIONS, _OWNERSHIPS = 3, 5, 6  # sessions and ownerships that are looked back at

# What is asked, with places in the lists of sessions and ownerships (from their ends) instead of numbers. None is what
# makes sense: the caller's session, the ownership that it took last.
_flag = st.booleans()
_key = st.sampled_from(_KEYS)
_worker = st.integers(0, _WORKERS - 1)
_session = st.none() | st.none() | st.integers(0, _SESSIONS - 1)
_ownership = st.none() | st.none() | st.none() | st.integers(0, _OWNERSHIPS - 1)
_offset = st.integers(0, 9)
_back = st.sampled_from([0, 0, 0, 1])
_nothing: st.SearchStrategy[list[Any]] = st.just([])
_completes = _nothing | _nothing | st.lists(st.tuples(_key, _session, _flag), max_size=1)
_releases = st.lists(st.tuples(_key, _session, _back, _flag, _flag, _ownership, _offset), max_size=2)
_frontiers = st.lists(st.tuples(_ownership, _offset, st.none() | st.integers(0, 3), _flag), max_size=2)
_ends = _nothing | _nothing | _nothing | st.lists(_ownership, max_size=1)
_claims = st.lists(st.tuples(_key, _ownership, _offset, _flag, _flag), max_size=2, unique_by=lambda ask: ask[0])


@dataclass
class _Plan:
    """An exchange without numbers. The releases name the call that is so many before the key's last grant."""

    caller: int
    call: int
    granted: dict[bytes, int]
    completes: list[tuple[bytes, int | None, bool]]
    releases: list[tuple[bytes, int | None, int, bool, bool, int | None, int]]
    frontiers: list[tuple[int | None, int, int | None, bool]]
    ends: list[int | None]
    claims: list[tuple[bytes, int | None, int, bool, bool]]


@dataclass
class _Side:
    """One of the two stores, with the numbers that it gave out."""

    store: Store
    sessions: list[Session] = field(default_factory=list)
    ownerships: list[Ownership] = field(default_factory=list)
    taken_last: dict[Session, int] = field(default_factory=dict)
    fences: dict[bytes, int] = field(default_factory=dict)

    def take(self, at: int, call: int, ask: OwnershipAsk) -> tuple[object, ...] | None:
        """Take a partition; answer its place in `ownerships`, and what else there is to compare."""
        session = self.sessions[at]
        taken = definite(lambda: self.store.take_ownerships(session, call, [ask]))
        if taken is None:
            return None
        place = next((place for place, own in enumerate(self.ownerships) if own.number == taken[0].number), None)
        if place is None:
            self.taken_last[session] = taken[0].number
            self.ownerships.append(taken[0])
        return place, *taken[0][1:]

    def exchange(self, plan: _Plan) -> tuple[object, ...]:
        exchange = self._numbered(plan)
        reply = definite(lambda: self.store.exchange(exchange))
        answers = [self._without_fence(ask[0], answer) for ask, answer in zip(plan.claims, reply.claims, strict=True)]
        return reply.session_lives, list(reply.completes), list(reply.releases), answers

    def _numbered(self, plan: _Plan) -> Exchange:
        caller = self.sessions[plan.caller]

        def session(at: int | None) -> int:
            return (caller if at is None else self.sessions[-1 - at % len(self.sessions)]).number

        def own(at: int | None) -> int:
            if at is None:
                return self.taken_last.get(caller, 1)
            return self.ownerships[-1 - at % len(self.ownerships)].number if self.ownerships else 1

        return Exchange(
            caller,
            plan.call,
            [CompleteAsk(key, session(at), dead) for key, at, dead in plan.completes],
            [
                ReleaseAsk(key, session(at), plan.granted.get(key, 2) - back, failed, doubt, own(owned), offset)
                for key, at, back, failed, doubt, owned, offset in plan.releases
            ],
            [FrontierMark(own(owned), at, epoch, back) for owned, at, epoch, back in plan.frontiers],
            [own(owned) for owned in plan.ends],
            [ClaimAsk(key, own(owned), offset, follows, alone) for key, owned, offset, follows, alone in plan.claims],
        )

    def _without_fence(self, key: bytes, answer: ClaimAnswer) -> ClaimAnswer:
        if answer.fence:
            assert answer.fence >= self.fences.get(key, 0), "a key's fences only grow"
            self.fences[key] = answer.fence
        return answer._replace(fence=bool(answer.fence))

    def listed(self) -> object:
        """What people are shown, without times and numbers."""
        places = {own.number: at for at, own in enumerate(self.ownerships)}
        doubts = [
            (*doubt[:5], places.get(doubt.earlier), places.get(doubt.newer), doubt.reason)
            for doubt in self.store.doubts()
        ]
        survey = self.store.survey()
        counts = (survey.sessions, survey.claims, survey.done, survey.doubts)
        return sorted(doubts, key=repr), counts, dict(survey.frontiers)


class _Lockstep(RuleBasedStateMachine):
    open_one: Callable[[Namespace], Store]
    open_other: Callable[[Namespace], Store]

    def __init__(self) -> None:
        super().__init__()
        namespace = Namespace("lockstep", secrets.token_hex(8))
        self.sides = _Side(type(self).open_one(namespace)), _Side(type(self).open_other(namespace))
        self.places: list[int] = []  # of the workers' sessions
        self.plans: list[_Plan] = []
        self.granted: dict[bytes, int] = {}  # the call that was granted each key last
        self.calls = 10  # so that there are older ones

    def teardown(self) -> None:
        for side in self.sides:
            side.store.close()

    def both(self, ask: Callable[[_Side], Any]) -> Any:
        """Ask both, compare their answers."""
        one, other = (ask(side) for side in self.sides)
        assert one == other
        return one

    @initialize(asks=st.lists(st.sampled_from(_ASKS), min_size=_WORKERS, max_size=_WORKERS))
    def begin(self, asks: list[OwnershipAsk]) -> None:
        for worker, ask in enumerate(asks):
            self.places.append(0)
            self._start(worker, None, ask)

    @rule(worker=_worker, instance=st.sampled_from([None, "i"]), closes=_flag, ask=st.sampled_from(_ASKS))
    def restart(self, worker: int, instance: str | None, closes: bool, ask: OwnershipAsk) -> None:
        """A worker begins anew; its earlier session is closed, or lives on, as that of a process that hangs."""
        if closes:
            for side in self.sides:
                side.store.close_session(side.sessions[self.places[worker]])
        self._start(worker, instance, ask)

    def _start(self, worker: int, instance: str | None, ask: OwnershipAsk) -> None:
        token = secrets.randbits(64)
        for side in self.sides:
            side.sessions.append(side.store.open_session(token, instance))
        self.places[worker] = len(self.sides[0].sessions) - 1
        self.take(worker, ask, 0)

    @rule(worker=_worker, ask=st.sampled_from(_ASKS), late=st.integers(0, 2))
    def take(self, worker: int, ask: OwnershipAsk, late: int) -> None:
        """Take a partition; or it is a copy of an older call."""
        self.calls += 1
        self.both(lambda side: side.take(self.places[worker], self.calls - late, ask))

    @rule(worker=_worker, completes=_completes, releases=_releases, frontiers=_frontiers, ends=_ends, claims=_claims)
    def exchange(self, worker: int, **asks: Any) -> None:
        """Everything at once."""
        self._exchange(_Plan(self.places[worker], self.calls + 1, dict(self.granted), **asks))

    def _exchange(self, plan: _Plan) -> None:
        self.calls = plan.call
        self.plans.append(plan)
        *_, answers = self.both(lambda side: side.exchange(plan))
        for (key, *_), answer in zip(plan.claims, answers, strict=True):
            if answer.fence:
                self.granted[key] = plan.call

    @rule(worker=_worker, claims=_claims)
    def claim(self, worker: int, claims: list[tuple[bytes, int | None, int, bool, bool]]) -> None:
        """Nothing but claims, so that more of them meet."""
        self._exchange(_Plan(self.places[worker], self.calls + 1, dict(self.granted), [], [], [], [], claims))

    @rule(back=st.integers(1, 4))
    def repeat(self, back: int) -> None:
        """Repeat the last exchange, or execute a late copy of an older one."""
        if back <= len(self.plans):
            plan = self.plans[-back]
            self.both(lambda side: side.exchange(plan))

    @invariant()
    def they_hold_the_same(self) -> None:
        self.both(_Side.listed)


def check_lockstep(
    open_one: Callable[[Namespace], Store],
    open_other: Callable[[Namespace], Store],
    *,
    max_examples: int = 100,
    steps: int = 30,
) -> None:
    """Give the same random calls to two stores.

    Args:
        open_one: opens a store of the one kind, whose sessions do not lapse while the check runs.
        open_other: opens one of the other kind.
        max_examples: how many random histories. Default 100.
        steps: how long each may get. Default 30.

    Raises:
        AssertionError: they answered differently; Hypothesis prints the shortest history that it found.

    """
    opened = {"open_one": staticmethod(open_one), "open_other": staticmethod(open_other)}
    chosen = settings(max_examples=max_examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(type("Lockstep", (_Lockstep,), opened), settings=chosen)
