"""How much to claim at once.

A claim means "the handler may have started", so that what is in doubt after a crash is exact. What is claimed in one
call for one lane is therefore only what its handler does in a few milliseconds: one message for a slow handler,
hundreds for one that does almost nothing. See DESIGN.md, "Why a claim is a start".
"""

from __future__ import annotations

__all__ = ["Pace"]

_WEIGHT = 0.2  # of the newest measurement, when the handler got faster; a slower one counts in full at once


class Pace:
    """The recent duration of one handler, and the size of a group that it does within a budget of time.

    Args:
        budget_ms: how long a group may take, in milliseconds.
        limit: the most messages of a group.
    """

    __slots__ = ("_budget_ms", "_each_ms", "_limit", "_size")

    def __init__(self, budget_ms: float, limit: int) -> None:
        self._budget_ms = budget_ms
        self._limit = limit
        self._each_ms: float | None = None
        self._size = 1

    def observe(self, messages: int, took_ms: float) -> None:
        """A group of so many messages took so long."""
        each = took_ms / messages
        known = self._each_ms
        if known is not None:
            each = max(each, known + (each - known) * _WEIGHT)
        self._each_ms = each
        if each * 2 > self._budget_ms:  # room for one; told apart because a slow handler's messages come one by one
            self._size = 1
        else:  # at most doubling keeps one lucky measurement from claiming hundreds
            self._size = min(int(self._budget_ms / max(each, 1e-6)), self._size * 2, self._limit)

    def ends_within(self, within_ms: float, messages: int) -> float:
        """How many groups of so many messages a place is through with within a time: 1 at most, 0 if unknown."""
        if self._each_ms is None:
            return 0.0
        return within_ms / max(self._each_ms * messages, within_ms)

    @property
    def group_size(self) -> int:
        return self._size
