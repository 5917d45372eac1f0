"""What became of the messages, from the history alone. Pure functions; what is allowed is said in promises.py.

Which claims are whose, the library is not asked. A handler was *running* at a kill if its life wrote a start and no
run. A key ran *again* if an entry of the ledger follows another one with the same key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from kafka_once.testing.campaign.attribution import doubts_by_life, lanes_by_life
from kafka_once.testing.campaign.history import Entry, History, Kill, Sent

__all__ = [
    "AT_WORK_MS",
    "KillReport",
    "Rerun",
    "examine_kills",
    "find_lost",
    "find_reruns",
    "find_stuck",
    "find_unknown",
    "find_unreported",
    "takeover_times_s",
    "was_at_work",
]

AT_WORK_MS = 20.0  # a kill counts if its victim wrote to the ledger that shortly before
LATELY_MS = 2.0  # a completion may be on its way for so long
_MS = 1_000_000


class Rerun(NamedTuple):
    """`later` began, or took effect, although `earlier` of the same key had.

    `is_repeat`: it is another message of the producer's, never seen here before; else the same one delivered again.
    """

    earlier: Entry
    later: Entry
    is_repeat: bool


class KillReport(NamedTuple):
    """What one kill did.

    Attributes:
        idle_ms: between the victim's last run and the kill; None if it never ran anything.
        running: its handlers that had begun and not ended.
        lately: those that had ended that shortly before its death.
        lanes: partitions that it had, or worked on.
        again: its runs that another life ran once more.
        doubt_running, doubt_ended, doubt_claimed: its keys that the library reported in doubt, by what its handler had
            done: begun, taken effect, neither.
    """

    kill: Kill
    idle_ms: float | None
    running: int
    lately: int
    lanes: int
    again: int
    doubt_running: int
    doubt_ended: int
    doubt_claimed: int

    @property
    def in_doubt(self) -> int:
        return self.doubt_running + self.doubt_ended + self.doubt_claimed

    @property
    def at_work(self) -> bool:
        """Whether the kill counts."""
        return self.idle_ms is not None and self.idle_ms <= AT_WORK_MS


# ---------------------------------------------------------------------------------------------------- what is missing


def find_lost(history: History) -> list[str]:
    """Keys that never ran and whose messages are all committed past: nobody will deliver them again."""
    ran = {entry.key for entry in history.ledger}
    left = {sent.key for sent in _not_settled(history)}
    return sorted({sent.key for sent in history.sent} - ran - left)


def find_stuck(history: History) -> list[str]:
    """Keys with a message that was not settled at the deadline: the group's committed offset stands at or before it."""
    return sorted({sent.key for sent in _not_settled(history)})


def find_unknown(history: History) -> list[str]:
    """Keys that ran and were never sent: then these books are wrong."""
    return sorted({entry.key for entry in history.ledger} - {sent.key for sent in history.sent})


def _not_settled(history: History) -> Iterable[Sent]:
    committed = history.committed
    return (sent for sent in history.sent if sent.offset >= committed.get(sent.partition, 0))


# ----------------------------------------------------------------------------------------------------- what ran again


def find_reruns(entries: Iterable[Entry]) -> list[Rerun]:
    """Each entry after the first of its key, with the one before it. Of `starts`: begun again; of `ledger`: doubled."""
    last: dict[str, Entry] = {}
    seen: set[tuple[int, int]] = set()
    reruns = []
    for entry in sorted(entries, key=lambda entry: entry.time_ns):
        place = (entry.partition, entry.offset)
        if entry.key in last:
            reruns.append(Rerun(last[entry.key], entry, is_repeat=place not in seen))
        last[entry.key] = entry
        seen.add(place)
    return reruns


def find_unreported(history: History, reruns: Iterable[Rerun]) -> list[Rerun]:
    """Reruns that nobody could know of: the library has listed their key as in doubt less often than it ran again."""
    told = Counter(_reported_keys(history))
    unreported = []
    for rerun in reruns:
        if told[rerun.later.key]:
            told[rerun.later.key] -= 1
        else:
            unreported.append(rerun)
    return unreported


def _reported_keys(history: History) -> list[str]:
    keys = {(sent.partition, sent.offset): sent.key for sent in history.sent}
    return [keys[reported.partition, reported.offset] for reported in history.reported]


# ----------------------------------------------------------------------------------------------------- what kills did


def was_at_work(kill: Kill, last_run_ns: int | None) -> bool:
    """Whether the kill counts, given when its victim last wrote to the ledger."""
    return last_run_ns is not None and kill.time_ns - last_run_ns <= AT_WORK_MS * _MS


def examine_kills(history: History, lately_ms: float = LATELY_MS) -> list[KillReport]:
    """One report per kill, in order. A completion may be on its way for `lately_ms`."""
    starts, runs = _by_life(history.starts), _by_life(history.ledger)
    again: Counter[str] = Counter(rerun.earlier.life for rerun in find_reruns(history.ledger))
    lanes, doubts = lanes_by_life(history), doubts_by_life(history)
    reports = []
    for kill in history.kills:
        life = kill.life
        report = _examine(kill, starts[life], runs[life], doubts[life], lately_ms)
        reports.append(report._replace(lanes=len(lanes[life]), again=again[life]))
    return reports


def _examine(kill: Kill, starts: list[Entry], runs: list[Entry], doubts: set[str], lately_ms: float) -> KillReport:
    # The signal takes a moment. What was written after it was sent shows that the process was still alive then.
    death_ns = max([kill.time_ns, *(entry.time_ns for entry in [*starts[-50:], *runs[-50:]])])
    last_run_ns = max((run.time_ns for run in runs), default=None)
    ended = {run.key for run in runs}
    begun = {start.key for start in starts} - ended
    return KillReport(
        kill,
        None if last_run_ns is None else max(0.0, (kill.time_ns - last_run_ns) / _MS),
        running=len(_places(starts) - _places(runs)),
        lately=sum(run.time_ns >= death_ns - lately_ms * _MS for run in runs),
        lanes=0,
        again=0,
        doubt_running=len(doubts & begun),
        doubt_ended=len(doubts & ended),
        doubt_claimed=len(doubts - begun - ended),
    )


def _by_life(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    lives: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        lives[entry.life].append(entry)
    return lives


def _places(entries: Iterable[Entry]) -> Counter[tuple[int, int]]:
    return Counter((entry.partition, entry.offset) for entry in entries)


# ----------------------------------------------------------------------------------------------------------- takeover


def takeover_times_s(history: History) -> list[float]:
    """How long after each assignment that followed a kill its first handler began.

    Only assignments with work waiting: a message that Kafka had acknowledged, whose key had not run. One whose life was
    killed before it began anything, or that had its partitions taken away, gives no time; if it was neither, the time
    is endless.
    """
    if not history.kills:
        return []
    first_kill_ns = min(kill.time_ns for kill in history.kills)
    killed = {kill.life for kill in history.kills}
    ran_ns: dict[str, int] = {}
    for entry in history.ledger:
        ran_ns.setdefault(entry.key, entry.time_ns)
    starts = _by_life(history.starts)
    assigned = [event for event in history.events if event.kind == "assigned" and event.time_ns > first_kill_ns]
    times = []
    for (life, at_ns), events in groupby(assigned, key=lambda event: (event.life, event.time_ns)):
        partitions = {event.number for event in events}
        if not _work_waits(history.sent, ran_ns, partitions, at_ns):
            continue
        began_ns = [s.time_ns for s in starts[life] if s.partition in partitions and s.time_ns >= at_ns]
        if began_ns:
            times.append((min(began_ns) - at_ns) / 1e9)
        elif life not in killed and not _moved_on(history, life, partitions, at_ns):
            times.append(float("inf"))
    return sorted(times)


def _work_waits(sent: Iterable[Sent], ran_ns: dict[str, int], partitions: set[int], at_ns: int) -> bool:
    return any(s.partition in partitions and s.time_ns <= at_ns and ran_ns.get(s.key, at_ns + 1) > at_ns for s in sent)


def _moved_on(history: History, life: str, partitions: set[int], at_ns: int) -> bool:
    """Whether another life was assigned one of these partitions later."""
    return any(
        event.kind == "assigned" and event.life != life and event.number in partitions and event.time_ns > at_ns
        for event in history.events
    )
