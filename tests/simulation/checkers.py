"""One checker per property of messages, offsets and processes; those of keys are in key_checkers.py.

Each keeps its own books of a history and never looks at the engine.

A checker has a method per kind of event that it wants (`on_started` for `Started`, ...). It counts in `evaluated` how
often its property was really looked at, and collects sentences in `violations`.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from kafka_once.core.events import Outcome
from kafka_once.core.order import Order
from kafka_once.core.semantics import Semantics
from tests.simulation import history as h
from tests.simulation.history import Terms

__all__ = [
    "Checker",
    "ComesToRest",
    "CommitThenRun",
    "CommitsFollow",
    "InOrder",
    "NothingLost",
    "NothingStartsAfterAStall",
    "OutcomesAddUp",
    "ReturnedIsEnough",
]

Identity = str | tuple[int, int]
_RAISED = ("raised", "doubted")


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

    def on_deleted(self, event: h.Deleted) -> None:
        """What was not processed by then is lost by who deleted it."""
        self.messages.pop(event.partition, None)

    def on_started(self, event: h.Started) -> None:
        self._runs[event.run] = (event.key, (event.partition, event.offset))

    def on_ended(self, event: h.Ended) -> None:
        if event.how == "returned":
            self.settled.update(self._runs.pop(event.run))

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


class InOrder(Checker):
    """Exclusive lanes: within one assignment of a partition the handlers of each lane run one after another, in order,
    and past a message only when its handler has returned. What is a lane is worked out here, from the order that was
    promised and the record keys."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._record_keys: dict[tuple[int, int], str | None] = {}
        self._last: dict[tuple[int, object], h.Started] = {}
        self._how: dict[int, str] = {}

    def on_produced(self, event: h.Produced) -> None:
        self._record_keys[event.partition, event.offset] = event.record_key

    def _lane(self, event: h.Started) -> tuple[int, object]:
        if self.terms.order is Order.PARTITION:
            return event.tenure, None
        record_key = self._record_keys.get((event.partition, event.offset))
        by_itself = self.terms.order is Order.NONE or record_key is None
        return event.tenure, event.offset if by_itself else record_key

    def on_started(self, event: h.Started) -> None:
        if not self.terms.exclusive:
            return
        lane = self._lane(event)
        last = self._last.get(lane)
        self._last[lane] = event
        if last is not None:
            how = self._how.get(last.run, "")
            fits = event.offset > last.offset if how == "returned" else event.offset >= last.offset and how in _RAISED
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
            self._returned.add(self._runs.pop(event.run))


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
        for name, hows in (("processings", ("returned",)), ("failures", _RAISED)):
            ends = sum(self._ends[worker, how] for how in hows)
            self.check(counters[name] == ends, f"{worker}: {counters[name]} {name} counted, {ends} runs {hows[0]}")


class NothingStartsAfterAStall(Checker):
    """A process that stood still for longer than its group waits starts nothing of what it had before."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._still: dict[str, int] = {}

    def on_stoodstill(self, event: h.StoodStill) -> None:
        self._still[event.worker] = event.tenure

    def on_started(self, event: h.Started) -> None:
        if event.worker in self._still:
            self.check(event.tenure > self._still[event.worker], f"{event} after {event.worker} stood still")


class ComesToRest(Checker):
    """Without faults everything settles: no lag, nothing unfinished, no claim left."""

    def on_atrest(self, event: h.AtRest) -> None:
        self.check(event.settled, f"not at rest: lag {event.lag}, {event.unfinished} unfinished, {event.claims} claims")
        self.check(not event.lag, f"lag {event.lag}")
        self.check(not event.unfinished, f"{event.unfinished} deliveries unfinished")
        self.check(not event.claims, f"{event.claims} claims left")
