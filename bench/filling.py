"""Fills a namespace of the store with done keys, by the calls that a worker makes."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Self

from kafka_once.core.calls import ClaimAsk, CompleteAsk, Exchange, OwnershipAsk
from kafka_once.ports import Namespace
from kafka_once.stores.redis import RedisStore

__all__ = ["BATCH", "Filling"]

BATCH = 500
"""Claims and completions in one call, if nothing else is said."""


class Filling:
    """Use it in a `with` block. `count` is how many done keys there are."""

    def __init__(
        self, url: str, cluster: str, group: str, *, remember_ms: int = 86_400_000, batch: int = BATCH
    ) -> None:
        self.count = 0
        self._batch = batch
        self._store = RedisStore(url, Namespace(cluster, group), lease_ms=600_000, remember_ms=remember_ms)
        self._session = self._store.open_session(int.from_bytes(os.urandom(6), "little"))
        self._call = 1
        [ownership] = self._store.take_ownerships(self._session, 1, [OwnershipAsk("filling", 0)]) or []
        self._ownership = ownership.number

    def reach(self, wanted: int) -> None:
        """Add random keys until there are so many."""
        done: list[CompleteAsk] = []
        while self.count < wanted or done:
            claims = [self._claim(at) for at in range(max(0, min(self._batch, wanted - self.count)))]
            self._exchange(done, claims)
            done = [CompleteAsk(claim.digest, self._session.number) for claim in claims]
            self.count += len(claims)

    def keep_adding(self, keys_per_s: int, seconds: float) -> None:
        """At a steady pace, in small calls."""
        size = max(1, keys_per_s // 20)
        began_s, calls = time.monotonic(), 0
        while time.monotonic() - began_s < seconds:
            self.reach(self.count + size)
            calls += 1
            time.sleep(max(0.0, began_s + calls * size / keys_per_s - time.monotonic()))

    def _claim(self, at: int) -> ClaimAsk:
        return ClaimAsk(os.urandom(16), self._ownership, self.count + at)

    def _exchange(self, done: list[CompleteAsk], claims: list[ClaimAsk]) -> None:
        self._call += 1
        self._store.exchange(Exchange(self._session, self._call, completes=done, claims=claims))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._store.close_session(self._session)
        self._store.close()
