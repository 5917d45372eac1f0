"""Memory stores that forget, or take a jump of the clock, otherwise than Redis does, each in one thing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from kafka_once.core.claims import Claimed, Record
from kafka_once.stores.memory import MemoryStore
from tests.reality.store_worlds import MemoryWorld
from tests.simulation import forgetting

__all__ = [
    "a_clock_that_never_goes_back",
    "claims_go_with_their_session",
    "claims_stay",
    "done_keys_stay",
    "frontiers_expire",
    "frontiers_outlive_a_flush",
    "numbers_follow_the_clock_only",
]

_session, _record = MemoryStore.open_session, MemoryStore._record


def claims_go_with_their_session() -> AbstractContextManager[Any]:
    """Without its session a claim is as if it had never been."""

    def record(self: MemoryStore, digest: bytes, now_ms: int) -> Record:
        found = _record(self, digest, now_ms)
        gone = isinstance(found, Claimed) and found.session not in self._records.workers
        return None if gone else found

    return patch.object(MemoryStore, "_record", record)


def done_keys_stay() -> AbstractContextManager[Any]:
    """No clock and no eviction takes them."""

    def record(self: MemoryStore, digest: bytes, now_ms: int) -> Record:
        del now_ms
        return self._records.keys.get(digest)

    return patch.multiple(MemoryStore, _record=record)


def frontiers_expire() -> AbstractContextManager[Any]:
    """A new session finds nothing of what was processed when all leases are over."""

    def open_session(self: MemoryStore, *asked: Any) -> Any:
        now_ms = self._clock_ms()
        if all(worker.lease_ends_ms <= now_ms for worker in self._records.workers.values()):
            self._records.partitions.clear()
        return _session(self, *asked)

    return patch.object(MemoryStore, "open_session", open_session)


def frontiers_outlive_a_flush() -> AbstractContextManager[Any]:
    """They are kept elsewhere."""

    def flush(self: MemoryWorld) -> None:
        partitions = self.store._records.partitions
        forgetting.forget_everything(self.store)
        self.store._records.partitions = partitions

    return patch.object(MemoryWorld, "flush", flush)


def claims_stay() -> AbstractContextManager[Any]:
    """They cannot be evicted."""

    def evict(self: MemoryWorld, what: str) -> None:
        if what == "sessions":
            forgetting.forget_sessions(self.store)

    return patch.object(MemoryWorld, "evict", evict)


def numbers_follow_the_clock_only() -> AbstractContextManager[Any]:
    """A clock that goes back gives out numbers that were given out before."""

    def open_session(self: MemoryStore, *asked: Any) -> Any:
        self._records.last_session = 0
        return _session(self, *asked)

    return patch.object(MemoryStore, "open_session", open_session)


def a_clock_that_never_goes_back() -> AbstractContextManager[Any]:
    """The lease of the dead ends when it should, whatever the wall clock says: as Redis would not do it."""

    def move_clock(self: MemoryWorld, by_s: int) -> None:
        self._now_ms += 1000 * max(by_s, 0)

    return patch.object(MemoryWorld, "move_clock", move_clock)
