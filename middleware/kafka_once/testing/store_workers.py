"""Workers for tests of stores: each a session with its ownerships, making one call after another."""

from __future__ import annotations

import itertools
import secrets
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from kafka_once.errors import StoreUnavailable
from kafka_once.ports import (
    ClaimAsk,
    CompleteAsk,
    Exchange,
    ExchangeReply,
    FrontierMark,
    Namespace,
    Ownership,
    OwnershipAsk,
    ReleaseAsk,
    Store,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka_once.core.claims import ClaimAnswer, Completion, Release

__all__ = ["PATIENCE_S", "StoreOpener", "Worker", "definite", "digest", "until"]

PATIENCE_S = 20.0

Answer = TypeVar("Answer")


class StoreOpener(Protocol):
    """Opens a store. All stores opened for one namespace hold the same records."""

    def __call__(self, namespace: Namespace, *, lease_ms: int, remember_ms: int) -> Store:
        """Open it, for one worker."""
        ...


def digest(name: str) -> bytes:
    """16 bytes that are the same for the same name, and differ late, so that they share whatever they can share."""
    return name.encode().rjust(16, b"\0")


def until(met: Callable[[], bool], what: str) -> None:
    """Ask again and again until it is so; fail after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, f"never came: {what}"


def definite(call: Callable[[], Answer]) -> Answer:
    """Repeat a call until it is answered, as every caller of a store does."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise


class Worker:
    """One worker process's life with a store."""

    def __init__(self, store: Store, instance: str | None = None, previous: int | None = None) -> None:
        self.store = store
        token = secrets.randbits(64)
        self.session = definite(lambda: store.open_session(token, instance, previous))
        self.call = 0
        self._offsets = itertools.count()

    def own(self, topic: str = "topic", partition: int = 0, topic_id: str = "") -> Ownership:
        """Take a new ownership."""
        self.call += 1
        taken = definite(
            lambda: self.store.take_ownerships(self.session, self.call, [OwnershipAsk(topic, partition, topic_id)])
        )
        assert taken is not None, "the session is over"
        return taken[0]

    def exchange(self, exchange: Exchange | None = None, **asks: object) -> ExchangeReply:
        """Make an exchange with the next call number, or repeat the given one."""
        if exchange is None:
            exchange = self.prepare(**asks)
        made = exchange
        return definite(lambda: self.store.exchange(made))

    def prepare(self, **asks: object) -> Exchange:
        """An exchange with the next call number."""
        self.call += 1
        return Exchange(self.session, self.call, **asks)  # type: ignore[arg-type]

    def claim(self, key: bytes, own: Ownership, offset: int | None = None, *, alone: bool = False) -> ClaimAnswer:
        """Claim one key."""
        offset = next(self._offsets) if offset is None else offset
        return self.exchange(claims=[ClaimAsk(key, own.number, offset, alone=alone)]).claims[0]

    def complete(self, key: bytes, *, dead_lettered: bool = False) -> Completion:
        """Complete one key."""
        return self.exchange(completes=[CompleteAsk(key, self.session.number, dead_lettered)]).completes[0]

    def release(
        self, key: bytes, call: int, own: Ownership, *, failed: bool = False, doubt: bool = False, offset: int = 0
    ) -> Release:
        """Release one key that the exchange with that call number was granted."""
        ask = ReleaseAsk(key, self.session.number, call, failed, doubt, own.number, offset)
        return self.exchange(releases=[ask]).releases[0]

    def mark(self, own: Ownership, offset: int, leader_epoch: int | None = None, *, back: bool = False) -> None:
        """Store a frontier."""
        self.exchange(frontiers=[FrontierMark(own.number, offset, leader_epoch, back)])

    def end(self, own: Ownership) -> None:
        """End an ownership."""
        self.exchange(ends=[own.number])

    def lives(self) -> bool:
        """Renew, and tell whether the session lives."""
        return self.exchange().session_lives

    def leave(self) -> None:
        """Close the session."""
        definite(lambda: self.store.close_session(self.session))
