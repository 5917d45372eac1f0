"""What a server forgets behind the store's back, done to the memory store. `tests/reality` holds it to a real Redis."""

from __future__ import annotations

from collections.abc import Callable

from kafka_once.core.claims import Claimed
from kafka_once.stores.memory import MemoryStore

__all__ = ["forget_claims", "forget_done", "forget_everything", "forget_sessions"]


def forget_sessions(store: MemoryStore) -> None:
    """Leases are what expires soonest: under `volatile-ttl` they go first. Without its lease a session is over."""
    store._records.workers.clear()


def forget_done(store: MemoryStore) -> None:
    """What was done, or given back after an attempt, was never there."""
    _forget(store, lambda record: not isinstance(record, Claimed))


def forget_claims(store: MemoryStore) -> None:
    """Only a policy that evicts keys without an expiry, too, does this."""
    _forget(store, lambda record: isinstance(record, Claimed))


def forget_everything(store: MemoryStore) -> None:
    """FLUSHALL, or a restart without a file: the same server answers, and knows nothing."""
    store._state._namespaces.clear()


def _forget(store: MemoryStore, which: Callable[[object], bool]) -> None:
    records = store._records
    for digest in [digest for digest, record in records.keys.items() if which(record)]:
        del records.keys[digest]
        records.forget_at_ms.pop(digest, None)
