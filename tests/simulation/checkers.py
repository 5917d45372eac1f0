"""One checker per property. Each keeps its own books of a history and never looks at the engine.

A checker has a method per kind of event that it wants (`on_started` for `Started`, ...). It counts in `evaluated` how
often its property was really looked at, and collects sentences in `violations`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from kafka_once.core.events import Outcome
from kafka_once.core.semantics import Semantics
from tests.simulation import history as h
from tests.simulation.history import Event, Terms

__all__ = ["CHECKERS", "Checker", "Verdict", "judge"]

Identity = str | tuple[int, int]


class Checker:
    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.evaluated = 0
        self.violations: list[str] = []
        self.protects = terms.semantics is Semantics.EFFECTIVELY_ONCE
        self.at_most_once = terms.semantics is Semantics.AT_MOST_ONCE

    def check(self, holds: bool, sentence: str) -> None:
        self.evaluated += 1
        if not holds:
            self.violations.append(f"{type(self).__name__}: {sentence}")


class _Settling(Checker):
    """Books of what is settled: for a protected message its key counts, else the message itself."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.messages: dict[int, list[tuple[int, Identity]]] = defaultdict(list)
        self.settled: set[Identity] = set()
        self._runs: dict[int, tuple[str, tuple[int, int]]] = {}

    def on_produced(self, event: h.Produced) -> None:
        place = (event.partition, event.offset)
        by_key = self.terms.store and event.kind == "plain"
        self.messages[event.partition].append((event.offset, event.key if by_key else place))

    def on_started(self, event: h.Started) -> None:
        self._runs[event.run] = (event.key, (event.partition, event.offset))

    def on_ended(self, event: h.Ended) -> None:
        if event.how == "returned":
            self.settled.update(self._runs[event.run])

    def on_deadlettered(self, event: h.DeadLettered) -> None:
        self.settled.update((event.key, (event.partition, event.offset)))


class NothingLost(_Settling):
    """At rest, each message's handler has finished at least once or the message was dead-lettered."""

    def on_atrest(self, event: h.AtRest) -> None:
        if self.at_most_once:
            return
        for partition, messages in self.messages.items():
            for offset, identity in messages:
                self.check(identity in self.settled, f"lost: {partition}@{offset} ({identity})")


class CommitsFollow(_Settling):
    """A committed offset never passes a message that is not settled at that time: its handler has finished, or it was
    dead-lettered; and where there is a store, the store knows. At most once the store's word is enough."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._recorded: set[Identity] = set()
        self._passed: Counter[int] = Counter()

    def on_recorded(self, event: h.Recorded) -> None:
        self._recorded.add(event.key)

    def on_committed(self, event: h.Committed) -> None:
        messages, first = self.messages[event.partition], self._passed[event.partition]
        while first < len(messages) and messages[first][0] < event.offset:
            offset, identity = messages[first]
            if not self.at_most_once or isinstance(identity, str):
                text = f"{event.worker} committed {event.partition}@{event.offset} past {offset} ({identity})"
                self.check(self._is_settled(identity), text)
            first += 1
        self._passed[event.partition] = first

    def _is_settled(self, identity: Identity) -> bool:
        known = identity in self._recorded or not isinstance(identity, str)
        return known and (self.at_most_once or identity in self.settled)


class _Run:
    """One handler run of a protected key."""

    __slots__ = ("completed", "ended", "event", "granted", "unexplained")

    def __init__(self, event: h.Started, granted: int) -> None:
        self.event = event
        self.granted = granted
        self.ended = False
        self.completed = False
        self.unexplained: list[_Run] = []


class _Runs(Checker):
    """Books of handler runs per key, and of the moments from which others may take what a process had claimed."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._now = 0
        self._granted: dict[tuple[str, str], int] = {}
        self._over: dict[str, int] = {}
        self._unprotected: set[str] = set()
        self.by_number: dict[int, _Run] = {}
        self.by_key: dict[str, list[_Run]] = defaultdict(list)

    def on_produced(self, event: h.Produced) -> None:
        if event.kind != "plain":
            self._unprotected.add(event.key)

    def on_granted(self, event: h.Granted) -> None:
        self._now += 1
        self._granted[event.worker, event.key] = self._now

    def on_over(self, event: h.Over) -> None:
        self._now += 1
        self._over[event.worker] = self._now

    def on_started(self, event: h.Started) -> None:
        if not self.terms.store or event.key in self._unprotected:
            return
        run = _Run(event, self._granted.get((event.worker, event.key), 0))
        self.began(run)
        self.by_number[event.run] = run
        self.by_key[event.key].append(run)

    def on_ended(self, event: h.Ended) -> None:
        run = self.by_number.get(event.run)
        if run is not None:
            run.ended = True
            run.completed = event.how == "returned"
            self.finished(run)

    def taken_from(self, run: _Run) -> bool:
        """Whether the process of this run lost its hold on the key after it was granted."""
        return self._over.get(run.event.worker, 0) > run.granted

    def began(self, run: _Run) -> None:
        """For subclasses: a run begins; it is not in the books yet."""

    def finished(self, run: _Run) -> None:
        """For subclasses."""


class OneAtATime(_Runs):
    """Two handlers run for a key only if the process of one had lost its hold on it."""

    def began(self, run: _Run) -> None:
        self.evaluated += 1
        for earlier in self.by_key[run.event.key]:
            if not earlier.ended:
                same = earlier.event.worker == run.event.worker
                excused = self.taken_from(earlier) or self.taken_from(run)
                self.check(excused and not same, f"{run.event} beside {earlier.event}")


class DoneIsDone(_Runs):
    """A key that was processed is processed again only in a named window, and the later run is told that it is in
    doubt. At most once with a store: nothing ever runs twice."""

    def began(self, run: _Run) -> None:
        earlier = self.by_key[run.event.key]
        if self.at_most_once:
            self.check(not earlier, f"{run.event} is the second run")
            return
        run.unexplained = [e for e in earlier if e.completed and not (self.taken_from(e) or self.taken_from(run))]

    def finished(self, run: _Run) -> None:
        if not run.completed or self.at_most_once:
            return
        self.check(not run.unexplained, f"{run.event} completes again, and no window explains it")
        clear = [r for r in self.by_key[run.event.key] if r.completed and not r.event.in_doubt]
        self.check(len(clear) <= 1, f"{run.event} completes again, and was not told in doubt")


class NothingStartsLate(_Runs):
    """No handler starts under a claim whose lease has run out meanwhile: the process knows by its own clock."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._lapsed: dict[str, int] = {}

    def on_over(self, event: h.Over) -> None:
        super().on_over(event)
        if event.why == "lapsed":
            self._lapsed[event.worker] = self._now

    def began(self, run: _Run) -> None:
        if self.protects:
            self.check(self._lapsed.get(run.event.worker, 0) <= run.granted, f"{run.event}: its lease has run out")


class DoubtIsListed(_Runs):
    """The store's in-doubt list holds each key that was processed twice, and each that was told in doubt."""

    def on_atrest(self, event: h.AtRest) -> None:
        for key, runs in self.by_key.items():
            doubled = sum(run.completed for run in runs) > 1
            if doubled or any(run.event.in_doubt for run in runs):
                self.check(key in event.doubts, f"{key} is not listed")


class InOrder(Checker):
    """Exclusive lanes: within one assignment of a partition handlers run one after another, in order, and past a
    message only when its handler has returned."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._last: dict[int, h.Started] = {}
        self._how: dict[int, str] = {}

    def on_started(self, event: h.Started) -> None:
        if not self.terms.exclusive:
            return
        last = self._last.get(event.tenure)
        self._last[event.tenure] = event
        if last is not None:
            how = self._how.get(last.run, "")
            fits = event.offset > last.offset if how == "returned" else event.offset >= last.offset and how == "raised"
            self.check(fits, f"{event} after {last} ({how or 'still running'})")

    def on_ended(self, event: h.Ended) -> None:
        self._how[event.run] = event.how


class ReturnedIsEnough(Checker):
    """Within one assignment a message whose handler returned is not run again, whatever the store said afterwards."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._runs: dict[int, tuple[int, int]] = {}
        self._returned: set[tuple[int, int]] = set()

    def on_started(self, event: h.Started) -> None:
        message = self._runs[event.run] = (event.tenure, event.offset)
        self.check(message not in self._returned, f"{event}: its handler has returned before")

    def on_ended(self, event: h.Ended) -> None:
        if event.how == "returned":
            self._returned.add(self._runs[event.run])


class OnlyTheGuilty(Checker):
    """A key is dead-lettered only if its own handler raised, or if its process vanished often enough while it ran
    alone: never for what its neighbours did."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._innocent: set[str] = set()
        self._keys: dict[int, str] = {}
        self._alone: dict[str, set[str]] = defaultdict(set)  # worker → the keys that it has claimed as alone
        self._vanished: Counter[str] = Counter()

    def on_produced(self, event: h.Produced) -> None:
        if event.kind == "plain":
            self._innocent.add(event.key)

    def on_granted(self, event: h.Granted) -> None:
        if event.alone:
            self._alone[event.worker].add(event.key)

    def on_recorded(self, event: h.Recorded) -> None:
        self._alone[event.worker].discard(event.key)

    def on_over(self, event: h.Over) -> None:
        self._vanished.update(self._alone.pop(event.worker, ()))

    def on_started(self, event: h.Started) -> None:
        self._keys[event.run] = event.key

    def on_ended(self, event: h.Ended) -> None:
        if event.how == "raised":
            self._innocent.discard(self._keys[event.run])

    def on_deadlettered(self, event: h.DeadLettered) -> None:
        if event.key in self._innocent and self.protects and not self.terms.doubts_are_letters:
            vanished = self._vanished[event.key]
            self.check(vanished >= self.terms.attempts, f"{event} never raised, and vanished {vanished} times alone")


class CommitThenRun(Checker):
    """At most once: a handler starts only after its message's offset was committed."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._committed: Counter[int] = Counter()

    def on_committed(self, event: h.Committed) -> None:
        self._committed[event.partition] = max(self._committed[event.partition], event.offset)

    def on_started(self, event: h.Started) -> None:
        if self.at_most_once:
            self.check(self._committed[event.partition] > event.offset, f"{event} was not committed before")


class OutcomesAddUp(Checker):
    """Each delivery of a process that ended cleanly has one outcome; runs and failures are counted as they happened."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._deliveries: Counter[str] = Counter()
        self._workers: dict[int, str] = {}
        self._ends: Counter[tuple[str, str]] = Counter()

    def on_delivered(self, event: h.Delivered) -> None:
        self._deliveries[event.worker] += 1

    def on_started(self, event: h.Started) -> None:
        self._workers[event.run] = event.worker

    def on_ended(self, event: h.Ended) -> None:
        self._ends[self._workers[event.run], event.how] += 1

    def on_left(self, event: h.Left) -> None:
        if not event.clean:
            return
        counters, worker = event.counters, event.worker
        outcomes = sum(counters[outcome] for outcome in Outcome)
        delivered = self._deliveries[worker]
        text = f"{worker}: {delivered} delivered, {counters['deliveries']} counted, {outcomes} outcomes"
        self.check(delivered == counters["deliveries"] == outcomes, text)
        for name, how in (("processings", "returned"), ("failures", "raised")):
            ends = self._ends[worker, how]
            self.check(counters[name] == ends, f"{worker}: {counters[name]} {name} counted, {ends} runs {how}")


class ComesToRest(Checker):
    """Without faults everything settles: no lag, nothing unfinished, no claim left."""

    def on_atrest(self, event: h.AtRest) -> None:
        self.check(event.settled, f"not at rest: lag {event.lag}, {event.unfinished} unfinished, {event.claims} claims")
        self.check(not event.lag, f"lag {event.lag}")
        self.check(not event.unfinished, f"{event.unfinished} deliveries unfinished")
        self.check(not event.claims, f"{event.claims} claims left")


CHECKERS: tuple[type[Checker], ...] = (
    NothingLost,
    CommitsFollow,
    OneAtATime,
    DoneIsDone,
    NothingStartsLate,
    DoubtIsListed,
    InOrder,
    ReturnedIsEnough,
    OnlyTheGuilty,
    CommitThenRun,
    OutcomesAddUp,
    ComesToRest,
)


class Verdict:
    """What the checkers say about one history."""

    def __init__(self, checkers: Iterable[Checker]) -> None:
        checkers = list(checkers)
        self.violations = [violation for checker in checkers for violation in checker.violations]
        self.evaluated = Counter({type(checker).__name__: checker.evaluated for checker in checkers})


def judge(terms: Terms, events: Iterable[Event], checkers: Iterable[type[Checker]] = CHECKERS) -> Verdict:
    judges = [checker(terms) for checker in checkers]
    wanting: dict[type, list[Callable[[Any], None]]] = {}
    for event in events:
        kind = type(event)
        if kind not in wanting:
            name = f"on_{kind.__name__.lower()}"
            wanting[kind] = [getattr(judge, name) for judge in judges if hasattr(judge, name)]
        for on_event in wanting[kind]:
            on_event(event)
    return Verdict(judges)
