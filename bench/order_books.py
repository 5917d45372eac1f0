"""Which handlers ran when: whether the messages of a record key ran one after another and in their order, and how many
at once. Needs nothing but Python, for it is used in the environment of the peers, too."""

from __future__ import annotations

import threading
import time
from typing import Any

__all__ = ["PARTITIONS", "PATIENCE_S", "Books"]

PARTITIONS = 4
PATIENCE_S = 300


class Books:
    """What ran when. `begin` and `end` are called by one thread at a time."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.order, self.kind, limit = spec["name"].split("/")[-3:]
        self.limit = int(limit)
        self.sleep_s = spec["handler_ms"] / 1000
        self.runs = self.errors = 0
        self.done = threading.Event()
        self._messages = spec["messages"]
        self._running: dict[bytes, float] = {}  # record key → when it began
        self._last: dict[bytes, int] = {}
        self._busy_s = self._first_s = self._last_s = 0.0
        self._first_cpu_s = self._last_cpu_s = 0.0

    def begin(self, key: bytes, value: bytes) -> None:
        if self.order == "none":  # each by itself
            key = value[:10] + key
        elif int(value[:10]) != self._last.get(key, -1) + 1 or key in self._running:
            self.errors += 1
        self._running[key] = time.perf_counter()
        self._last[key] = int(value[:10])
        if not self._first_s:
            self._first_s, self._first_cpu_s = time.perf_counter(), time.process_time()

    def end(self, key: bytes, value: bytes) -> None:
        if self.order == "none":
            key = value[:10] + key
        self._busy_s += time.perf_counter() - self._running.pop(key)
        self.runs += 1
        if self.runs == self._messages:
            self._last_s, self._last_cpu_s = time.perf_counter(), time.process_time()
            self.done.set()

    def told(self) -> dict[str, Any]:
        """Raises RuntimeError if not all of them ran: a rate of a part is none."""
        if not self.done.is_set():
            raise RuntimeError(f"{self.runs} of {self._messages} messages ran within {PATIENCE_S} s")
        seconds = self._last_s - self._first_s
        lanes = PARTITIONS if self.order == "partition" else self.limit
        rate = self.runs / seconds
        return {
            "messages_per_s": rate,
            "of_bound": 100 * rate * self.sleep_s / min(self.limit, lanes),
            "cpu_us": (self._last_cpu_s - self._first_cpu_s) / self.runs * 1e6,
            "order_errors": self.errors,
            "at_once": self._busy_s / seconds,
            "handler_ms": self._busy_s / self.runs * 1000,
        }
