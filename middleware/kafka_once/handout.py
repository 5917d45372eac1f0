"""Hands messages to the user's own loop instead of running a handler."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from kafka_once.core.lane import Group
from kafka_once.core.pacing import Pace
from kafka_once.executors import is_late
from kafka_once.message import Message, TopicPartition

__all__ = ["HandOut"]

_AHEAD_MS = 2.0  # claimed ahead of the loop: what it takes in this time, at least one message
_AHEAD_LIMIT = 500


class HandOut:
    """The executor of a `Consumer`. A message is begun when `take` returns it and ended by `end`.

    Args:
        limit: messages that may be handed out and not ended; then nothing more is handed out.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._post: Callable[[Group], None] = lambda _group: None
        self._changed = threading.Condition()
        self._ready: deque[Group] = deque()
        self._taken: dict[tuple[str, int, int], Group] = {}
        self._pace = Pace(_AHEAD_MS, _AHEAD_LIMIT)
        self._last_take_s: float | None = None
        self._closed = False
        self._clock_s = time.monotonic
        self._unanswered: deque[Group] = deque()

    # ------------------------------------------------------------------------------------------------ the runner's side

    def open(self, post: Callable[[Group], None], clock_s: Callable[[], float]) -> None:
        self._post = post
        self._clock_s = clock_s

    def start(self, groups: Sequence[Group]) -> None:
        with self._changed:
            self._ready.extend(groups)
            self._changed.notify()

    def room(self) -> int:
        with self._changed:
            room = min(self._pace.group_size, self._limit - len(self._taken)) - len(self._ready)
        return 0 if self._closed else room

    def withdraw(self, partitions: Collection[TopicPartition] | None) -> None:
        with self._changed:
            kept: deque[Group] = deque()
            back: list[Group] = []
            for group in self._ready:
                ours = partitions is None or group.lane.partition.name in partitions
                (back if ours else kept).append(group)
            self._ready = kept
        self._give_back(back)

    def _give_back(self, groups: list[Group]) -> None:
        """Nobody has begun these, or will."""
        for group in groups:
            self._post(group)

    def _untake(self, group: Group) -> bool:
        """False if another thread has ended it meanwhile, and has posted it."""
        with self._changed:
            if self._taken.get(_place(group)) is not group:
                return False
            del self._taken[_place(group)]
        return True

    def cancel(self, group: Group) -> None:
        """The user's loop cannot be stopped."""

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -------------------------------------------------------------------------------------------------- the loop's side

    def take(self, timeout_s: float) -> Message | None:
        """The next message; None if there is none within the time-out, or none any more."""
        self._observe()
        group = self._next(timeout_s)
        while group is not None and is_late(group, self._clock_s()):
            if self._untake(group):  # the lease may be another's by now: it is claimed again
                self._give_back([group])
            group = self._next(timeout_s)
        if group is None:
            self._last_take_s = None
            return None
        delivery = group.deliveries[0]
        message = delivery.message
        message.attempt = delivery.attempts + 1
        message.in_doubt = delivery.doubt
        message.fence = delivery.fence
        self._last_take_s = time.perf_counter()
        return message

    def _next(self, timeout_s: float) -> Group | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closed, timeout_s)
            if not self._ready:
                return None
            group = self._ready.popleft()
            earlier = self._taken.get(_place(group))
            self._taken[_place(group)] = group
            group.began = True
        if earlier is not None:  # its partition was lost meanwhile, and nothing was claimed: only the newer one counts
            self._give_back([earlier])
        return group

    def _observe(self) -> None:
        """How long the loop took for its last message."""
        if self._last_take_s is not None:
            self._pace.observe(1, (time.perf_counter() - self._last_take_s) * 1000)

    def end(self, topic: str, partition: int, offset: int, error: BaseException | None = None) -> bool:
        """A message was processed (or raised). False if it is not handed out: ended already, or never ours."""
        with self._changed:
            group = self._taken.pop((topic, partition, offset), None)
        if group is None:
            return False
        group.results.append(error)
        with self._changed:
            while self._unanswered and self._unanswered[0].deliveries[0].outcome is not None:
                self._unanswered.popleft()
            self._unanswered.append(group)
        self._post(group)
        return True

    def unanswered(self) -> bool:
        """Whether something was ended and has no outcome yet."""
        with self._changed:
            return any(group.deliveries[0].outcome is None for group in self._unanswered)

    def taken(self) -> list[tuple[str, int, int]]:
        """What is handed out and not ended, the oldest first."""
        with self._changed:
            return list(self._taken)


def _place(group: Group) -> tuple[str, int, int]:
    message = group.deliveries[0].message
    return message.topic, message.partition, message.offset
