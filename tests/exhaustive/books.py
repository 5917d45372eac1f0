"""What the checkers' books say about the future: two books that are equal here judge every future alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from tests.simulation.checkers import Checker, CommitsFollow, CommitThenRun, InOrder, ReturnedIsEnough
from tests.simulation.key_checkers import (
    DoneIsDone,
    DoubtIsListed,
    NothingStartsLate,
    OnlyTheGuilty,
    SuspectsRunAlone,
    _Runs,
)

__all__ = ["books"]


class Ranks(Protocol):
    def rank(self, kind: str, number: int | None) -> None: ...


def books(checkers: Iterable[Checker], walk: Ranks) -> Iterator[Any]:
    """Values to walk, one after another; numbers are handed to `walk` in between.

    Not told: `OutcomesAddUp`, which the small world looks at in every state by itself; runs that have ended without
    completing, unless they count.
    """
    for checker in checkers:
        told = _BOOKS.get(type(checker))
        if told is not None:
            yield from told(checker, walk)


def _settled(checker: CommitsFollow, _walk: Ranks) -> Iterator[Any]:
    yield from (checker.settled, checker._recorded, dict(checker._passed))


def _last_of_each_lane(checker: InOrder, walk: Ranks) -> Iterator[Any]:
    for (tenure, lane), last in sorted(checker._last.items(), key=repr):
        walk.rank("number", tenure)
        yield from (lane, last.offset, checker._how.get(last.run, ""))


def _returned(checker: ReturnedIsEnough, walk: Ranks) -> Iterator[Any]:
    for tenure, offset in sorted(checker._returned):
        walk.rank("number", tenure)
        yield offset


def _committed(checker: CommitThenRun, _walk: Ranks) -> Iterator[Any]:
    if checker.at_most_once:
        yield dict(checker._committed)


def _doubted(checker: DoubtIsListed, _walk: Ranks) -> Iterator[Any]:
    yield checker._doubted


def _name(walk: Ranks, worker: str) -> None:
    walk.rank("worker", int(worker[1:]))


def _runs(checker: DoneIsDone, walk: Ranks) -> Iterator[Any]:
    """One stands for all that keep these books: they hear the same."""
    yield from _grants(checker, walk)
    for key, runs in sorted(checker.by_key.items()):
        told = any(run.event.in_doubt for run in runs)
        yield from (key, told, checker.at_most_once and bool(runs))
        for run in runs:
            if run.ended and not run.completed:
                continue
            taken = checker.taken_from(run)
            yield from (run.ended, taken, run.event.in_doubt, bool(run.unexplained))
            if not taken or not run.ended:
                _name(walk, run.event.worker)
            if not run.ended:
                walk.rank("number", run.event.run)


def _grants(checker: _Runs, walk: Ranks) -> Iterator[Any]:
    """Who was granted what since his hold was lost last: only that tells a run that begins from a late one."""
    for (worker, key), granted in sorted(checker._granted.items()):
        if granted > checker._over.get(worker, 0):
            yield key
            _name(walk, worker)
    for worker in sorted(checker._over):
        _name(walk, worker)
        yield worker in checker._over


def _late(checker: NothingStartsLate, walk: Ranks) -> Iterator[Any]:
    for worker, lapsed in sorted(checker._lapsed.items()):
        _name(walk, worker)
        yield sorted(key for (name, key), granted in checker._granted.items() if name == worker and granted < lapsed)


def _suspects(checker: SuspectsRunAlone, walk: Ranks) -> Iterator[Any]:
    for (worker, key), alone in sorted(checker._alone.items()):
        if alone:
            _name(walk, worker)
            yield key
    for worker in sorted(checker._running):
        _name(walk, worker)
        yield "runs"


def _guilty(checker: OnlyTheGuilty, walk: Ranks) -> Iterator[Any]:
    yield from (checker._raised, sorted(checker._vanished.items()))
    for worker, keys in sorted(checker._alone.items()):
        if keys:
            _name(walk, worker)
            yield keys


_BOOKS: dict[type[Checker], Callable[[Any, Ranks], Iterator[Any]]] = {
    CommitsFollow: _settled,
    InOrder: _last_of_each_lane,
    ReturnedIsEnough: _returned,
    CommitThenRun: _committed,
    OnlyTheGuilty: _guilty,
    DoneIsDone: _runs,
    DoubtIsListed: _doubted,
    NothingStartsLate: _late,
    SuspectsRunAlone: _suspects,
}
