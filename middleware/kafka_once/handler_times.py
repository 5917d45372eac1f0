"""How long handlers take, as a histogram: once per group, so that it costs nothing per message."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["HandlerTimes"]


class HandlerTimes:
    """Written by the runner's thread, read by any.

    Messages of a group (what a fast handler does in 2 ms) count with their mean; a slower handler's groups are of one
    message, so its times are its own.
    """

    BOUNDS_S = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums_s: dict[str, float] = {}

    def observe(self, topic: str, runs: int, took_ms: float) -> None:
        """So many runs took so long together."""
        counts = self._counts.get(topic)
        if counts is None:
            self._sums_s[topic] = 0.0
            counts = self._counts[topic] = [0] * (len(self.BOUNDS_S) + 1)
        took_s = took_ms / 1000
        counts[bisect_left(self.BOUNDS_S, took_s / runs)] += runs
        self._sums_s[topic] += took_s

    def by_topic(self) -> dict[str, tuple[list[int], float]]:
        """Topic → runs per bound (the last: above all of them), and seconds in all."""
        return {topic: (list(counts), self._sums_s[topic]) for topic, counts in list(self._counts.items())}
