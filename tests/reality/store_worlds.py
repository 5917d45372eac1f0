"""A store whose server forgets and whose clock jumps: in memory, and a real Redis."""

from __future__ import annotations

import secrets
from pathlib import Path

from kafka_once.ports import Namespace, Store
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.stores.redis import RedisStore
from kafka_once.stores.redis_wire import key_prefix
from kafka_once.testing.services.redis import DURABLE, LocalRedis
from kafka_once.testing.services.redis_programs import wanted_program
from kafka_once.testing.store_workers import Worker
from tests.clock.wall_clock import WallClock
from tests.reality.store_scripts import LEASE_MS, REMEMBER_MS
from tests.simulation import forgetting

__all__ = ["Forgetful", "MemoryWorld", "RedisWorld"]

_FORGET = {
    "sessions": forgetting.forget_sessions,
    "done": forgetting.forget_done,
    "claims": forgetting.forget_claims,
}

_BEGINS_MS = 1_700_000_000_000


class MemoryWorld:
    """Each worker has a store of its own on one state, as a process has."""

    def __init__(self) -> None:
        self._state = MemoryState()
        self._now_ms = _BEGINS_MS
        self.store = self._open()

    def _open(self) -> MemoryStore:
        return MemoryStore(Namespace("c", "g"), LEASE_MS, REMEMBER_MS, lambda: self._now_ms, self._state)

    def worker(self) -> Worker:
        self._now_ms += 1  # no two calls of a real server fall into one instant
        return Worker(self._open())

    def evict(self, what: str) -> None:
        _FORGET[what](self.store)

    def flush(self) -> None:
        forgetting.forget_everything(self.store)

    def move_clock(self, by_s: int) -> None:
        self._now_ms += 1000 * by_s


class Forgetful(LocalRedis):
    """A Redis that may evict, and whose wall clock is moved."""

    def __init__(self, folder: Path) -> None:
        self._clock = WallClock(folder)
        moved = ("env", *(f"{name}={value}" for name, value in self._clock.environment.items()))
        super().__init__("local", (*moved, *wanted_program()), {**DURABLE, "maxmemory-samples": "64"})

    def move_clock(self, by_s: int) -> None:
        self._clock.step_to(self._clock.ahead_s + by_s)

    def set_clock_right(self) -> None:
        self._clock.step_to(0)


class RedisWorld:
    """A namespace on such a server, which nobody else uses meanwhile."""

    def __init__(self, server: Forgetful) -> None:
        self._server = server
        self._namespace = Namespace("c", secrets.token_hex(8))
        self._stores: list[Store] = []
        self._client = server.client()

    def worker(self) -> Worker:
        store = RedisStore(
            self._server.url, self._namespace, lease_ms=LEASE_MS, remember_ms=REMEMBER_MS, timeout_ms=5_000
        )
        self._stores.append(store)
        return Worker(store)

    def evict(self, what: str) -> None:
        """Sessions are really evicted. What else goes cannot be chosen then: it is deleted, which leaves the same."""
        if what == "sessions":
            self._run_out_of_memory()
            return
        kind = {"done": "d:*", "claims": "c"}[what]
        gone = self._keys(kind)
        assert gone
        self._client.delete(*gone)

    def _run_out_of_memory(self) -> None:
        """Others fill the server with keys that live longer."""
        known, claims = self._keys("s:*"), self._keys("c")
        assert known
        used = int(self._client.info("memory")["used_memory"])
        self._client.config_set("maxmemory-policy", "volatile-ttl")
        self._client.config_set("maxmemory", used + 1_000_000)
        for number in range(2_000):
            self._client.set(f"ballast-{number}", b"x" * 10_000, ex=36_000)
            if not self._client.exists(*known):
                break
        self._client.config_set("maxmemory", 0)
        self._client.config_set("maxmemory-policy", "noeviction")
        assert not self._client.exists(*known), "they were never evicted"
        assert self._keys("c") == claims

    def _keys(self, kind: str) -> list[bytes]:
        pattern = key_prefix(self._namespace).replace("{", "[{]") + kind
        return sorted(self._client.scan_iter(match=pattern, count=10_000))

    def flush(self) -> None:
        self._client.flushall()

    def move_clock(self, by_s: int) -> None:
        self._server.move_clock(by_s)

    def close(self) -> None:
        for store in self._stores:
            store.close()
        self._client.flushall()
        self._client.close()
        self._server.set_clock_right()
