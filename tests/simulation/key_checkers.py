"""One checker per property of keys: who runs a handler for one, when, how often, and what that is told."""

from __future__ import annotations

from collections import Counter, defaultdict

from tests.simulation import history as h
from tests.simulation.checkers import Checker
from tests.simulation.history import Terms

__all__ = ["DoneIsDone", "DoubtIsListed", "NothingStartsLate", "OneAtATime", "OnlyTheGuilty", "SuspectsRunAlone"]


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
    """The store's in-doubt list holds each key that was processed twice, each that was told in doubt, and each whose
    handler said that it cannot know; and its next run is told. A process that dies before it could say so leaves that
    to the next one, which never comes if the topic was deleted meanwhile."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._doubted: set[str] = set()
        self._partitions: dict[str, set[int]] = defaultdict(set)

    def on_produced(self, event: h.Produced) -> None:
        super().on_produced(event)
        self._partitions[event.key].add(event.partition)

    def on_deleted(self, event: h.Deleted) -> None:
        for key, partitions in self._partitions.items():
            partitions.discard(event.partition)
            if not partitions:
                self._doubted.discard(key)

    def began(self, run: _Run) -> None:
        # Who lost the key after it was granted cannot be told of what another doubted since.
        if run.event.key in self._doubted and not self.taken_from(run):
            self.check(run.event.in_doubt, f"{run.event} is not told in doubt")

    def on_ended(self, event: h.Ended) -> None:
        super().on_ended(event)
        run = self.by_number.get(event.run)
        if run is not None and event.how == "doubted" and self.protects and self._comes_again(run.event.key):
            self._doubted.add(run.event.key)

    def _comes_again(self, key: str) -> bool:
        return key not in self._partitions or bool(self._partitions[key])

    def on_atrest(self, event: h.AtRest) -> None:
        for key, runs in self.by_key.items():
            doubled = sum(run.completed for run in runs) > 1
            if doubled or key in self._doubted or any(run.event.in_doubt for run in runs):
                self.check(key in event.doubts, f"{key} is not listed")


class SuspectsRunAlone(Checker):
    """Of the keys that a process has claimed as suspects one runs at a time: were there two, one would be blamed for
    what the other did."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._alone: dict[tuple[str, str], bool] = {}  # how (worker, key) was granted last
        self._running: dict[str, h.Started] = {}  # worker → its suspect that runs
        self._workers: dict[int, str] = {}

    def on_granted(self, event: h.Granted) -> None:
        self._alone[event.worker, event.key] = event.alone

    def on_recorded(self, event: h.Recorded) -> None:
        """Nobody is blamed for what is done: at most once that is before it runs."""
        self._alone.pop((event.worker, event.key), None)

    def on_started(self, event: h.Started) -> None:
        if not self._alone.get((event.worker, event.key)):
            return
        self.check(event.worker not in self._running, f"{event} beside {self._running.get(event.worker)}")
        self._running[event.worker] = event
        self._workers[event.run] = event.worker

    def on_ended(self, event: h.Ended) -> None:
        worker = self._workers.pop(event.run, None)
        if worker is not None:
            self._running.pop(worker, None)


class OnlyTheGuilty(Checker):
    """A key is dead-lettered only if its own handler raised, or if its process vanished often enough while it ran
    alone: never for what its neighbours did."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._claimed: set[str] = set()
        self._raised: set[str] = set()
        self._keys: dict[int, str] = {}
        self._alone: dict[str, set[str]] = defaultdict(set)  # worker → the keys that it has claimed as alone
        self._vanished: Counter[str] = Counter()

    def on_produced(self, event: h.Produced) -> None:
        if event.kind == "plain":
            self._claimed.add(event.key)

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
        if event.how in {"raised", "doubted"}:
            self._raised.add(self._keys.pop(event.run))

    def on_deadlettered(self, event: h.DeadLettered) -> None:
        innocent = event.key in self._claimed and event.key not in self._raised
        if innocent and self.protects and not self.terms.doubts_are_letters:
            vanished = self._vanished[event.key]
            self.check(vanished >= self.terms.attempts, f"{event} never raised, and vanished {vanished} times alone")
