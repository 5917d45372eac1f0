"""Which kill left a claim in doubt, found out from the outside: the library is not asked whose it was.

A key that a killed life had begun is that life's. A key that none had begun was claimed and not started: then it was
the next of its lane, so it belongs to the life in whose partition a message of that key came next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from kafka_once.testing.campaign.history import History, Kill, Sent

__all__ = ["NOBODY", "doubts_by_life", "lanes_by_life"]

NOBODY = "nobody"  # stands for a life where no killed one can have held the claim

_MS = 1_000_000


def lanes_by_life(history: History) -> dict[str, set[int]]:
    """The partitions that each life had, or worked on."""
    lanes: dict[str, set[int]] = defaultdict(set)
    for entry in history.starts:
        lanes[entry.life].add(entry.partition)
    for event in history.events:
        if event.kind == "assigned":
            lanes[event.life].add(event.number)
    return lanes


def doubts_by_life(history: History) -> dict[str, set[str]]:
    """The keys that the library reported in doubt, under the life whose end left them so, or under `NOBODY`."""
    keys = {(sent.partition, sent.offset): sent.key for sent in history.sent}
    copies: dict[str, list[Sent]] = defaultdict(list)
    for sent in history.sent:
        copies[sent.key].append(sent)
    begun = {(entry.life, entry.key) for entry in history.starts}
    lanes, progress = lanes_by_life(history), _Progress(history)
    doubts: dict[str, set[str]] = defaultdict(set)
    for reported in history.reported:
        key = keys[reported.partition, reported.offset]
        # The store's clock counts whole milliseconds.
        before = [kill for kill in reversed(history.kills) if kill.time_ns < reported.time_ns + _MS]
        whose = [kill.life for kill in before if (kill.life, key) in begun]
        if not whose:
            whose = _claimants(before, copies[key], lanes, progress)
        doubts[whose[0] if whose else NOBODY].add(key)
    return doubts


def _claimants(kills: list[Kill], copies: list[Sent], lanes: dict[str, set[int]], progress: _Progress) -> list[str]:
    """Lives that may have claimed one of these messages and not started it; the one just before it first."""
    near = []
    for age, kill in enumerate(kills):
        for sent in copies:
            ahead = sent.offset - progress.last_begun(sent.partition, kill.time_ns)
            if sent.partition in lanes[kill.life]:
                near.append((ahead <= 0, abs(ahead), age, kill.life))
    return [life for *_, life in sorted(near)]


class _Progress:
    """How far each partition was at any time."""

    def __init__(self, history: History) -> None:
        self._times: dict[int, list[int]] = defaultdict(list)
        self._offsets: dict[int, list[int]] = defaultdict(list)
        for entry in sorted(history.starts, key=lambda entry: entry.time_ns):
            offsets = self._offsets[entry.partition]
            offsets.append(max(entry.offset, offsets[-1]) if offsets else entry.offset)
            self._times[entry.partition].append(entry.time_ns)

    def last_begun(self, partition: int, time_ns: int) -> int:
        """The highest offset that had begun by then; -1 if none."""
        position = bisect_right(self._times[partition], time_ns)
        return self._offsets[partition][position - 1] if position else -1
