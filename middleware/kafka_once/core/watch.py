"""What stands still: the process itself, and handlers that go on for too long.

The process. Between two turns of the runner lie milliseconds. When it was stopped, suspended or blocked for longer than
its group waits for it (`Rules.stall_ms`), Kafka may have given all its partitions to others, and the client may tell of
a part of them only, or later (librdkafka #5604). So the engine does not wait to be told: everything is lost, at once.

A handler. One that runs for longer than `stalled_after_ms` is told of, once. One that passes its deadline is overdue:
its claim is given back in doubt while it runs on, so that a living session does not keep a key from everybody for ever
(hole 11), and its task is cancelled. A thread cannot be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kafka_once.core.correspondence import GiveBack
from kafka_once.core.events import Kind, Stall
from kafka_once.errors import ConsumerStopped

if TYPE_CHECKING:
    from kafka_once.core.desk import Desk
    from kafka_once.core.lane import Group

__all__ = ["Watch"]

_LOOK_EVERY_MS = 100


class Watch:
    """Told of every turn, and of every group that begins and goes on.

    Attributes:
        stalls: handlers that run for longer than `stalled_after_ms` now, the longest first. Replaced as a whole, so
            another thread may read it at any time.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rules = desk.rules
        self._turned_ms: int | None = None
        self._running: dict[Group, None] = {}  # in the order in which they began
        self.stalls: tuple[Stall, ...] = ()
        self._due_ms: int | None = None

    # ------------------------------------------------------------------------------------------------- the process

    def stalled_ms(self, now_ms: int) -> int:
        """Called in every turn: for how long the process stood still, if its group may have given it up; else 0."""
        before_ms, self._turned_ms = self._turned_ms, now_ms
        gap_ms = 0 if before_ms is None else now_ms - before_ms
        return gap_ms if gap_ms >= self._rules.stall_ms else 0

    # ---------------------------------------------------------------------------------------------------- handlers

    def began(self, group: Group) -> None:
        group.since_ms = self._desk.now_ms
        self._running[group] = None
        if self._due_ms is None:
            self._due_ms = self._desk.now_ms + _LOOK_EVERY_MS

    def went_on(self, group: Group) -> None:
        """One of its messages has ended, and the next one runs."""
        group.since_ms = self._desk.now_ms
        group.stalled = False

    def over(self, group: Group) -> None:
        """All of its messages have ended, or do not begin any more."""
        self._running.pop(group, None)

    def look(self) -> None:
        """Called in every turn; looks ten times a second."""
        now_ms = self._desk.now_ms
        if self._due_ms is None or now_ms < self._due_ms:
            return
        stalls = []
        for group in self._running:
            if group.began and group.seen < len(group.deliveries):
                ran_ms = now_ms - group.since_ms
                if ran_ms >= self._rules.stalled_after_ms:
                    stalls.append(self._stall(group, ran_ms))
                if group.overdue is None and ran_ms >= self._deadline_ms(group):
                    self._on_overdue(group, ran_ms)
            else:  # waits for a place, or is over and not told yet
                group.since_ms = now_ms
        if stalls or self.stalls:
            self.stalls = tuple(sorted(stalls, key=lambda stall: -stall.ran_ms))
        self._due_ms = now_ms + _LOOK_EVERY_MS if self._running else None

    def _deadline_ms(self, group: Group) -> float:
        deadline_ms = self._rules.deadline_ms_of(group.lane.partition.name.topic)
        return math.inf if deadline_ms is None else deadline_ms

    def _stall(self, group: Group, ran_ms: int) -> Stall:
        delivery = group.deliveries[group.seen]
        if not group.stalled:
            group.stalled = True
            self._desk.counters.add("stalled")
            self._desk.note(Kind.STALLED, delivery.partition, delivery, text=f"for {ran_ms / 1000:.1f} s")
        return Stall(delivery.partition.name, delivery.offset, ran_ms)

    def _on_overdue(self, group: Group, ran_ms: int) -> None:
        desk = self._desk
        delivery = group.deliveries[group.seen]
        group.overdue = group.seen
        delivery.overdue = True
        group.begin_before_ms = 0  # what stands behind it in its group comes back
        desk.suspects.leave(delivery)  # it may never end: the other suspects of the process need not wait for it
        desk.counters.add("overdue")
        desk.note(Kind.OVERDUE, delivery.partition, delivery, text=f"after {ran_ms / 1000:.1f} s")
        desk.effects.cancel.append(group)
        if delivery.digest is not None and not delivery.settled:
            desk.conversation.give_back(GiveBack(delivery, failed=True, doubt=True, runs_on=True))
        if self._rules.stop_on_hung:
            desk.stop(
                ConsumerStopped(
                    f"{delivery.partition.name}@{delivery.offset} cannot be settled: its handler passed its deadline "
                    f'({ran_ms / 1000:.1f} s) and the policy is on_hung="stop". It comes again, in doubt'
                )
            )
