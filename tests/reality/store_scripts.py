"""What a server does to a store behind its back, as scripts that run on the memory store and on a real Redis, and what
each must show (findings 8 and 9). The lease is 30 s, done keys are remembered for an hour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kafka_once.core.claims import ClaimAnswer
from kafka_once.ports import Ownership
from kafka_once.testing.store_workers import Worker, digest

__all__ = ["LEASE_MS", "REMEMBER_MS", "SCRIPTS", "Script", "StoreWorld"]

LEASE_MS = 30_000
REMEMBER_MS = 3_600_000
HOUR_S = 3_600


class StoreWorld(Protocol):
    """A namespace of its own on a server whose clock the script moves."""

    def worker(self) -> Worker:
        """A process with a new session."""

    def evict(self, what: str) -> None:
        """The server deletes "sessions" (they expire soonest), "done" keys, or "claims"."""

    def flush(self) -> None:
        """The server forgets everything."""

    def move_clock(self, by_s: int) -> None:
        """The server's wall clock jumps."""


@dataclass(frozen=True, slots=True)
class Script:
    play: Callable[[StoreWorld], list[str]]
    shows: list[str]

    @property
    def name(self) -> str:
        return self.play.__name__


def finding_8_sessions_are_evicted(world: StoreWorld) -> list[str]:
    """`volatile-ttl` takes what expires soonest: the leases of those who live."""
    a, b, _, theirs = _two(world)
    world.evict("sessions")
    other = world.worker()
    seen = [_lives("A", a), _lives("B", b), f"C: {_claim(other, 'held', other.own())}"]
    return [*seen, f"A completes: {_complete(a, 'held')}", f"listed: {len(theirs.store.doubts())}"]


def finding_8_done_keys_are_evicted(world: StoreWorld) -> list[str]:
    """What was done runs again, and nobody is told."""
    a, b, own, _ = _two(world)
    seen = [f"B: {_claim(b, 'done', own)}"]
    world.evict("done")
    return [*seen, f"B: {_claim(b, 'done', own)}", _lives("A", a), f"B: {_claim(b, 'held', own)}"]


def finding_8_claims_are_evicted(world: StoreWorld) -> list[str]:
    """Two hold one key, and neither knows. A completion says that the store forgot."""
    a, b, own, _ = _two(world)
    a.claim(digest("other"), a.own())
    world.evict("claims")
    seen = [f"B: {_claim(b, 'held', own)}", f"A completes: {_complete(a, 'held')}"]
    seen += [f"A completes another: {_complete(a, 'other')}", f"B: {_claim(b, 'other', own)}"]
    return [*seen, f"B: {_claim(b, 'done', own)}"]


def finding_8_everything_is_flushed(world: StoreWorld) -> list[str]:
    """Sessions, done keys, frontiers. Numbers go on, for they follow the clock."""
    a, b, _, _ = _two(world)
    world.flush()
    seen = [_lives("A", a), f"A completes: {_complete(a, 'held')}"]
    other = world.worker()
    own = other.own()
    seen += [f"epoch {own.epoch}, frontier {own.frontier}", f"C: {_claim(other, 'done', own)}"]
    return [*seen, f"C: {_claim(other, 'held', own)}", f"later: {other.session.number > b.session.number}"]


def finding_9_the_clock_jumps_ahead(world: StoreWorld) -> list[str]:
    """Leases and done keys are over at once. The frontier has no time in it."""
    a, _, _, _ = _two(world)
    world.move_clock(2 * HOUR_S)
    seen = [_lives("A", a)]
    other = world.worker()
    own = other.own()
    seen += [f"epoch {own.epoch}, frontier {own.frontier}", f"C: {_claim(other, 'done', own)}"]
    return [*seen, f"C: {_claim(other, 'held', own)}", f"A completes: {_complete(a, 'held')}"]


def finding_9_the_clock_jumps_back(world: StoreWorld) -> list[str]:
    """The leases of the dead last as long again. Numbers still grow."""
    a, b, _, _ = _two(world)
    world.move_clock(-2 * HOUR_S)
    other = world.worker()
    seen = [f"later: {other.session.number > b.session.number}", f"C: {_claim(other, 'held', other.own())}"]
    world.move_clock(LEASE_MS // 1000 * 2)  # A has said nothing for two leases
    other = world.worker()
    own = other.own()
    seen += [f"D: {_claim(other, 'held', own)}", f"D: {_claim(other, 'done', own)}"]
    world.move_clock(2 * HOUR_S)
    other = world.worker()
    return [*seen, f"E: {_claim(other, 'held', other.own())}", _lives("A", a)]


def _two(world: StoreWorld) -> tuple[Worker, Worker, Ownership, Worker]:
    """A has processed up to 7, has done "done", and holds "held". B lives, with an ownership of another partition."""
    a, b = world.worker(), world.worker()
    own = a.own()
    a.mark(own, 7)
    a.claim(digest("done"), own)
    a.complete(digest("done"))
    a.claim(digest("held"), own)
    return a, b, b.own(partition=1), b


def _lives(name: str, worker: Worker) -> str:
    return f"{name} lives" if worker.lives() else f"{name} is over"


def _complete(worker: Worker, key: str) -> str:
    return worker.complete(digest(key)).name.lower()


def _claim(worker: Worker, key: str, own: Ownership) -> str:
    answer: ClaimAnswer = worker.claim(digest(key), own)
    return answer.grant.name.lower() + (" in doubt" if answer.doubt else "")


SCRIPTS = [
    Script(
        finding_8_sessions_are_evicted,
        ["A is over", "B is over", "C: reclaimed in doubt", "A completes: fenced", "listed: 1"],
    ),
    Script(finding_8_done_keys_are_evicted, ["B: duplicate", "B: acquired", "A lives", "B: busy"]),
    Script(
        finding_8_claims_are_evicted,
        ["B: acquired", "A completes: fenced", "A completes another: forgotten", "B: duplicate", "B: duplicate"],
    ),
    Script(
        finding_8_everything_is_flushed,
        ["A is over", "A completes: forgotten", "epoch 1, frontier None", "C: acquired", "C: duplicate", "later: True"],
    ),
    Script(
        finding_9_the_clock_jumps_ahead,
        ["A is over", "epoch 2, frontier (7, None)", "C: acquired", "C: reclaimed in doubt", "A completes: fenced"],
    ),
    Script(
        finding_9_the_clock_jumps_back,
        ["later: True", "C: busy", "D: busy", "D: duplicate", "E: reclaimed in doubt", "A is over"],
    ),
]
