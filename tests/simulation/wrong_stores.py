"""More wrong variants of the store and of the claim table. See variants.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from kafka_once.core import claims
from kafka_once.core.calls import ClaimAsk, Exchange, FrontierMark, Session
from kafka_once.core.claims import ClaimAnswer, Claimed, Completion, Done, Grant, Record, Release
from kafka_once.stores.memory import MemoryStore


def done_before_the_effect() -> Any:
    """The key is done as soon as it is claimed."""
    claim = claims.claim

    def wrong(record: Record, **asked: Any) -> tuple[ClaimAnswer, Record]:
        answer, after = claim(record, **asked)
        return answer, Done(False, after.session % claims.SHORT_SESSION) if isinstance(after, Claimed) else after

    return patch.object(claims, "claim", wrong)


def completing_leaves_no_trace() -> Any:
    """A completed key is forgotten at once."""
    complete = claims.complete

    def wrong(record: Record, **asked: Any) -> tuple[Completion, Record]:
        answer, after = complete(record, **asked)
        return answer, None if isinstance(after, Done) else after

    return patch.object(claims, "complete", wrong)


def a_late_release_opens_what_is_done() -> Any:
    """Release leaves done."""
    release = claims.release

    def wrong(record: Record, **asked: Any) -> tuple[Release, Record]:
        return (Release.APPLIED, None) if isinstance(record, Done) else release(record, **asked)

    return patch.object(claims, "release", wrong)


def anybody_releases() -> Any:
    """Release asks for nothing."""
    release = claims.release

    def wrong(record: Record, **asked: Any) -> tuple[Release, Record]:
        if isinstance(record, Claimed):
            asked.update(session=record.session, call=record.call)
        return release(record, **asked)

    return patch.object(claims, "release", wrong)


def a_takeover_tells_no_doubt() -> Any:
    """The next holder is not told that an earlier one may have run."""
    claim = claims.claim

    def wrong(record: Record, **asked: Any) -> tuple[ClaimAnswer, Record]:
        answer, after = claim(record, **asked)
        if answer.grant is not Grant.RECLAIMED or not isinstance(after, Claimed):
            return answer, after
        return answer._replace(doubt=False), after._replace(doubt=False)

    return patch.object(claims, "claim", wrong)


def takeovers_are_not_listed() -> Any:
    """Nothing comes into the in-doubt list."""
    return patch.object(MemoryStore, "_list_doubt", lambda _self, _doubt: None)


def who_vanishes_alone_is_not_counted() -> Any:
    """A message that kills its process does so for ever (hole 17)."""
    claim = claims.claim

    def wrong(record: Record, **asked: Any) -> tuple[ClaimAnswer, Record]:
        return claim(record._replace(alone=False) if isinstance(record, Claimed) else record, **asked)

    return patch.object(claims, "claim", wrong)


def who_lives_is_blamed_too() -> Any:
    """A takeover counts an attempt when the earlier holder's ownership is over, although its process lives: a late copy
    of a claim that was given back is taken for a run that killed. Was in the code."""
    claim = claims.claim

    def wrong(record: Record, **asked: Any) -> tuple[ClaimAnswer, Record]:
        return claim(record, **{**asked, "holder_vanished": True})

    return patch.object(claims, "claim", wrong)


def claims_live_with_the_session() -> Any:
    """An ended ownership frees nothing while its session lives (hole 11)."""

    def wrong(self: MemoryStore, record: Record, now_ms: int) -> bool:
        if not isinstance(record, Claimed):
            return False
        worker = self._records.workers.get(record.session)
        return worker is not None and worker.lease_ends_ms > now_ms

    return patch.object(MemoryStore, "_holder_lives", wrong)


def renewing_creates() -> Any:
    """A session that lapsed comes back to life with its next call (hole 14)."""
    living = MemoryStore._living

    def wrong(self: MemoryStore, session: Session, now_ms: int) -> Any:
        worker = self._records.workers.get(session.number)
        if worker is not None and worker.lease_ends_ms <= now_ms:
            worker.lease_ends_ms = now_ms + self._lease_ms
        return living(self, session, now_ms)

    return patch.object(MemoryStore, "_living", wrong)


def session_numbers_are_used_again() -> Any:
    """The number of a session that is over is given to the next one (rule 12)."""
    opened = MemoryStore.open_session

    def wrong(self: MemoryStore, token: int, instance: str | None = None, previous: int | None = None) -> Session:
        records, now_ms = self._records, self._clock_ms()
        free = [number for number, worker in records.workers.items() if worker.lease_ends_ms <= now_ms]
        if token in records.opened or not free:
            return opened(self, token, instance, previous)
        session = opened(self, token, instance, previous)
        records.workers[free[0]] = records.workers.pop(session.number)
        records.opened[token] = Session(free[0], token)
        return records.opened[token]

    return patch.object(MemoryStore, "open_session", wrong)


def a_lease_never_lapses() -> Any:
    """Claims of the dead are held for ever."""
    return patch.object(MemoryStore, "_holder_lives", lambda _self, record, _now_ms: isinstance(record, Claimed))


def a_holder_is_never_alive() -> Any:
    """Whoever asks takes the key."""
    return patch.object(MemoryStore, "_holder_lives", lambda _self, _record, _now_ms: False)


def fences_are_used_again() -> Any:
    """A key that changes hands keeps the fence that it had."""
    claim = claims.claim

    def wrong(record: Record, **asked: Any) -> tuple[ClaimAnswer, Record]:
        if isinstance(record, Claimed):
            asked["fence"] = record.fence
        return claim(record, **asked)

    return patch.object(claims, "claim", wrong)


@contextmanager
def epochs_and_holders_refuse_nothing() -> Iterator[None]:
    """Two protections off: no epoch is looked at, neither by a claim nor by a stored frontier, and a living holder does
    not refuse either. Epochs alone are economy: a holder that lives refuses whoever comes (hole 8)."""
    claim, keep = MemoryStore._claim, MemoryStore._keep_frontier

    def wrong_claim(self: MemoryStore, worker: Any, exchange: Exchange, ask: ClaimAsk, now_ms: int) -> ClaimAnswer:
        with _newest(worker, ask.ownership):
            return claim(self, worker, exchange, ask, now_ms)

    def wrong_frontier(self: MemoryStore, worker: Any, mark: FrontierMark) -> None:
        with _newest(worker, mark.ownership):
            keep(self, worker, mark)

    with (
        patch.multiple(MemoryStore, _claim=wrong_claim, _keep_frontier=wrong_frontier),
        a_holder_is_never_alive(),
    ):
        yield


@contextmanager
def _newest(worker: Any, ownership: int) -> Iterator[None]:
    """This ownership is the newest of its partition as long as this lasts."""
    partition = worker.ownerships.get(ownership)
    if partition is None:
        yield
        return
    newest, partition.newest = partition.newest, ownership
    try:
        yield
    finally:
        partition.newest = newest


def claims_expire_under_living_holders() -> Any:
    """A claim is forgotten when its window has passed, although its handler runs (hole 7)."""
    write, window_ms = MemoryStore._write, 1_000

    def wrong(self: MemoryStore, digest: bytes, before: Record, after: Record, now_ms: int) -> None:
        write(self, digest, before, after, now_ms)
        if after is not before and isinstance(after, Claimed):
            self._records.forget_at_ms[digest] = now_ms + window_ms

    return patch.object(MemoryStore, "_write", wrong)


def fences_follow_the_clock() -> Any:
    """When the store's clock is set back, fences that were given out before are given out again (rule 12)."""
    claim_all = MemoryStore._claim_all

    def wrong(self: MemoryStore, worker: Any, exchange: Any, now_ms: int) -> list[ClaimAnswer]:
        if self._records.last_fence > (now_ms + 100) * 1000:
            self._records.last_fence = now_ms * 1000
        return claim_all(self, worker, exchange, now_ms)

    return patch.object(MemoryStore, "_claim_all", wrong)
