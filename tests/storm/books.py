"""A storm's history, sorted: what each checker looks things up in. Nothing here is asked of the library."""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from kafka_once.testing.campaign.history import Entry, Event
from tests.storm.history import StormHistory

__all__ = ["Books", "Commit", "Run", "Span"]

NEVER = math.inf
_MS = 1_000_000


class Span(NamedTuple):
    """A time in which a process did not run."""

    began_ns: float
    ended_ns: float

    def meets(self, began_ns: float, ended_ns: float) -> bool:
        return self.began_ns <= ended_ns and self.ended_ns >= began_ns


class Run(NamedTuple):
    """One run of a handler, until it ended or its process did; `returned`: the effect was made."""

    start: Entry
    ended_ns: float
    returned: bool


class Commit(NamedTuple):
    """What a life asked Kafka to commit.

    `turned_ns`: it had an answer from Kafka's client then; what it looked at before the commit, it looked at later.
    """

    life: str
    partition: int
    offset: int
    turned_ns: float
    asked_ns: int
    answered_ns: float


class Books:
    def __init__(self, history: StormHistory) -> None:
        self.history = history
        self.campaign = history.campaign
        self.keys = {(logged.partition, logged.offset): logged.key for logged in history.log}
        self.effects: dict[str, int] = {}  # when a key first took effect
        for entry in sorted(self.campaign.ledger, key=_time):
            self.effects.setdefault(entry.key, entry.time_ns)
        self._offsets: dict[int, list[int]] = defaultdict(list)
        times: dict[int, list[float]] = defaultdict(list)
        for logged in sorted(history.log, key=lambda logged: (logged.partition, logged.offset)):
            self._offsets[logged.partition].append(logged.offset)
            times[logged.partition].append(self.effects.get(logged.key, NEVER))
        self._settled = {partition: list(accumulate(column, max)) for partition, column in times.items()}
        self.killed = {kill.life: kill.time_ns for kill in self.campaign.kills}
        self.spans = self._spans()
        self.hangs = self._hangs()
        self._given: dict[int, list[Event]] = defaultdict(list)
        self._gone: dict[tuple[str, int], list[Event]] = defaultdict(list)
        for event in sorted(self.campaign.events, key=_time):
            if event.kind == "assigned":
                self._given[event.number].append(event)
            elif event.kind in {"revoked", "lost"}:
                self._gone[event.life, event.number].append(event)
        self.runs = self._runs()
        self.commits = list(self._commits())

    # ------------------------------------------------------------------------------------------------------- messages

    def settled_before(self, partition: int, offset: int) -> float:
        """When all messages before this offset had taken effect, under whatever coordinates."""
        count = bisect_left(self._offsets.get(partition, []), offset)
        return self._settled[partition][count - 1] if count else -NEVER

    def first_unsettled(self, partition: int, offset: int, at_ns: float) -> int:
        """The first message before this offset that had not taken effect by then."""
        before = self._offsets[partition][: bisect_left(self._offsets[partition], offset)]
        return next(o for o in before if self.effects.get(self.keys[partition, o], NEVER) > at_ns)

    # ------------------------------------------------------------------------------------------------------ processes

    def frozen(self, life: str, began_ns: float, ended_ns: float) -> list[Span]:
        """When this process did not run, as far as it meets the time."""
        return [span for span in self.spans[life] if span.meets(began_ns, ended_ns)]

    def could_not_renew(self, life: str, began_ns: float, ended_ns: float) -> list[Span]:
        """When this process did not run, or its consumer's thread stood still."""
        return [span for span in [*self.spans[life], *self.hangs[life]] if span.meets(began_ns, ended_ns)]

    def woke_to_start(self, start: Entry) -> bool:
        """Whether a run may have been looked at before its process froze, and begun when it woke: nobody can look and
        begin in one step. Then it is the first thing that happens in its partition, and it happens at once."""
        mine = (e.time_ns for e in (*self.campaign.starts, *self.campaign.ledger) if _same_lane(e, start))
        before = max((time_ns for time_ns in mine if time_ns < start.time_ns), default=0)
        return any(
            before <= span.ended_ns <= start.time_ns <= span.ended_ns + 1000 * _MS for span in self.spans[start.life]
        )

    def given_to_another(self, start: Entry) -> Event | None:
        """When another member was given this partition, if it has it still, and the one that begins was given it
        before."""
        given = self._given[start.partition]
        last = bisect_left(given, start.time_ns, key=_time) - 1
        if last < 0 or given[last].life == start.life:
            return None
        other = given[last]
        gone_ns = [e.time_ns for e in self._gone[other.life, other.number] if e.time_ns > other.time_ns]
        gone_ns.append(self.killed.get(other.life, start.time_ns))
        return None if min(gone_ns) < start.time_ns else other

    def servers_stalled(self, began_ns: float, ended_ns: float) -> bool:
        """Whether a server or the whole machine stood still for a while in this time."""
        return any(Span(s.began_ns, s.ended_ns).meets(began_ns, ended_ns) for s in self.history.stalls)

    def _spans(self) -> dict[str, list[Span]]:
        spans: dict[str, list[Span]] = defaultdict(list)
        for freeze in self.history.freezes:
            spans[freeze.life].append(Span(freeze.stopped_ns, freeze.woken_ns))
        for event in self.campaign.events:
            if event.kind == "stalled":
                spans[event.life].append(Span(event.time_ns - event.number * _MS, event.time_ns))
        return spans

    def _hangs(self) -> dict[str, list[Span]]:
        """From the first word of it; without a last word, its process ended meanwhile."""
        hangs: dict[str, list[Span]] = defaultdict(list)
        for event in self.campaign.events:
            if event.kind == "hanging":
                hangs[event.life].append(Span(event.time_ns, event.time_ns + event.number * _MS))
            elif event.kind == "hung":
                hangs[event.life][-1] = hangs[event.life][-1]._replace(ended_ns=event.time_ns)
        return hangs

    # ----------------------------------------------------------------------------------------------- runs and commits

    def _runs(self) -> list[Run]:
        ends: dict[tuple[str, int, int], list[int]] = defaultdict(list)
        for entry in sorted(self.campaign.ledger, key=_time, reverse=True):
            ends[entry.life, entry.partition, entry.offset].append(entry.time_ns)
        runs = []
        for start in sorted(self.campaign.starts, key=_time):
            place = (start.life, start.partition, start.offset)
            if ends[place]:
                runs.append(Run(start, ends[place].pop(), returned=True))
            else:  # it ended with its process, and not before it began
                runs.append(Run(start, max(self.killed.get(start.life, 0), start.time_ns), returned=False))
        return runs

    def _commits(self) -> Iterable[Commit]:
        answers: dict[tuple[str, int, int], list[int]] = defaultdict(list)
        turned: dict[str, float] = {}
        for event in reversed(self.campaign.events):
            if event.kind in {"committed", "refused"}:
                answers[event.life, event.number, event.offset].append(event.time_ns)
        for event in self.campaign.events:
            if event.kind == "turned":
                turned[event.life] = event.time_ns - (event.number + 1) * _MS
            elif event.kind == "committing":
                place = (event.life, event.number, event.offset)
                answered_ns = answers[place].pop() if answers[place] else NEVER
                yield Commit(*place, turned.get(event.life, event.time_ns), event.time_ns, answered_ns)


def _time(entry: Entry | Event) -> int:
    return entry.time_ns


def _same_lane(entry: Entry, start: Entry) -> bool:
    return entry.life == start.life and entry.partition == start.partition
