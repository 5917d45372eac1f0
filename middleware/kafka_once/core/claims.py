r"""Who may process one key: the claim table, written once. Every store must give the same answers.

`record` is what the store holds for a key's digest: None (absent), Freed, Claimed or Done. Each verb takes the record
and what is asked, and gives the answer and the record that stands there afterwards.

    record \ verb                           claim                       complete              release
    (partition has a higher epoch)         SUPERSEDED, nothing written as below              as below
    (grace, below; not granted, not done)  BUSY, nothing written       as below              as below
    absent                                 ACQUIRED                    APPLIED, forgotten    FENCED
    freed                                  ACQUIRED, inherits          APPLIED               FENCED
    claimed, same session, same call       the same answer again       APPLIED               APPLIED, freed or absent
    claimed, same session, older call      ACQUIRED, inherits          APPLIED               FENCED
    claimed, same session, newer call      STALE, nothing written      APPLIED               FENCED
    claimed by another, ownership lives    BUSY                        FENCED                FENCED
    claimed by another, ownership is over  RECLAIMED, in doubt         FENCED                FENCED
    done                                   DUPLICATE                   APPLIED, or DOUBLED   FENCED

Rules for maintainers of this file:
- Every verb may be executed twice, or late: a copy of an older call changes nothing.
- Done is never left. Attempts and doubt are never forgotten but by completing.
- A session vouches that nothing runs for a key when it claims that key again under a newer call number.
- Epochs refuse, they never grant; only an ownership that is over frees a claim.
- A takeover counts an attempt only if the claim was marked alone and its *session* is over. A process that lives was
  not killed by the key: what it left behind with an ownership is a lost release, or a late copy of a claim that was
  executed after its release.
- Grace: for a lease after another server answers than before (a restart, a failover) a holder may live whose claim was
  forgotten, and what was done may stand as claimed. So no key is granted anew, but to a process that says it holds it.
- "older" and "newer" compare the record's call number with the asked one: a record with an older call number was
  written by an older call.

The table was checked by a model before it was written (DESIGN.md, "Where the rules come from").
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "SHORT_SESSION",
    "ClaimAnswer",
    "Claimed",
    "Completion",
    "Done",
    "Freed",
    "Grant",
    "Record",
    "Release",
    "claim",
    "complete",
    "release",
]


class Grant(IntEnum):
    """The answers to claim. Only ACQUIRED, RECLAIMED and DUPLICATE are definite about this key."""

    ACQUIRED = 0
    RECLAIMED = 1  # the earlier holder's ownership is over: its handler may have run
    DUPLICATE = 2  # done: nothing to process
    BUSY = 3  # a living holder has it
    STALE = 4  # a late copy of an older call
    SUPERSEDED = 5  # the partition has a newer ownership than the one that asks
    GONE = 6  # the asking session or ownership is over
    SKIPPED = 7  # the claim before it in its lane was not granted, so this one was not tried


class Completion(IntEnum):
    """The answers to complete. Every one but FENCED settles."""

    APPLIED = 0
    FORGOTTEN = 1  # applied, but the store knew nothing of the claim
    DOUBLED = 2  # was done already, by another session: the handler ran twice
    FENCED = 3  # another holder has the key: finished here, not settled


class Release(IntEnum):
    """The answers to release. Both mean: the claim is no longer held by that call."""

    APPLIED = 0
    FENCED = 1


class Claimed(NamedTuple):
    """A session may process the key.

    `alone` marks a suspect that runs by itself, so that a vanished holder counts as an attempt. `suspect` says that a
    holder of this key vanished with it. `doubt` says that an earlier run may have happened.
    """

    session: int
    ownership: int
    call: int
    fence: int
    attempts: int = 0
    doubt: bool = False
    suspect: bool = False
    alone: bool = False


class Freed(NamedTuple):
    """Nobody holds the key; attempts, doubt and suspicion are kept for the next claim."""

    attempts: int
    doubt: bool
    suspect: bool


class Done(NamedTuple):
    """The key is processed, or dead-lettered. `session` is shortened (`SHORT_SESSION`): it serves for counting only."""

    dead_lettered: bool
    session: int


# Low bits of the session kept in done: kind and session together take two bytes of a record in Redis. One doubled
# completion in 8192 is taken for a repeated one.
SHORT_SESSION = 8192


Record = Claimed | Freed | Done | None


class ClaimAnswer(NamedTuple):
    """`attempts`: finished attempts before this one. `fence`: grows with every grant of a key; 0 if not granted."""

    grant: Grant
    attempts: int = 0
    doubt: bool = False
    suspect: bool = False
    fence: int = 0


_BUSY, _STALE, _DUPLICATE = ClaimAnswer(Grant.BUSY), ClaimAnswer(Grant.STALE), ClaimAnswer(Grant.DUPLICATE)


def claim(  # noqa: PLR0911  (one return per row of the table; the facts of one claim)
    record: Record,
    *,
    session: int,
    ownership: int,
    call: int,
    fence: int,
    alone: bool,
    holder_lives: bool,
    holder_vanished: bool,
    grace: bool = False,
) -> tuple[ClaimAnswer, Record]:
    """Ask for the key.

    Args:
        record: what stands there.
        session: who asks.
        ownership: for which of its ownerships.
        call: with which call.
        fence: a number greater than every one given out before; used only if the claim is newly granted.
        alone: the key will run with nothing else in its process.
        holder_lives: whether the ownership named in the record lives (ignored unless claimed by another session).
        holder_vanished: whether the session named in the record is over (ignored where the holder lives).
        grace: the store may have forgotten who holds it, and the asking process does not say that it does.
    """
    if isinstance(record, Done):
        return _DUPLICATE, record
    if grace and not (isinstance(record, Claimed) and record.session == session and record.call >= call):
        return _BUSY, record  # an older claim of the session, too: it may have been completed since
    if record is None:
        return _granted(Grant.ACQUIRED, Claimed(session, ownership, call, fence, alone=alone))
    if isinstance(record, Freed):
        claimed = Claimed(session, ownership, call, fence, record.attempts, record.doubt, record.suspect, alone)
        return _granted(Grant.ACQUIRED, claimed)
    if record.session == session:
        if record.call > call:
            return _STALE, record
        if record.call == call:
            # The doubt of a takeover is in the record, so the repeated answer can say it again (hole 4).
            return _granted(Grant.ACQUIRED, record)
        taken = record._replace(ownership=ownership, call=call, fence=fence, alone=alone)
        return _granted(Grant.ACQUIRED, taken)
    if holder_lives:
        return _BUSY, record
    attempts = record.attempts + (1 if record.alone and holder_vanished else 0)
    taken = Claimed(session, ownership, call, fence, attempts, doubt=True, suspect=True, alone=alone)
    return _granted(Grant.RECLAIMED, taken)


def _granted(grant: Grant, record: Claimed) -> tuple[ClaimAnswer, Record]:
    return ClaimAnswer(grant, record.attempts, record.doubt, record.suspect, record.fence), record


def complete(record: Record, *, session: int, dead_lettered: bool) -> tuple[Completion, Record]:
    """Turn the claim of `session` into done. That the handler ended is true whatever the call, so the session decides.

    Completing on absent or freed applies: the store forgot, or gave the claim back, while the handler ran; refusing
    would make the worker that finished run it again.
    """
    done = Done(dead_lettered, session % SHORT_SESSION)
    if record is None:
        return Completion.FORGOTTEN, done
    if isinstance(record, Freed):
        return Completion.APPLIED, done
    if isinstance(record, Done):
        return (Completion.APPLIED if record.session == done.session else Completion.DOUBLED), record
    if record.session == session:
        return Completion.APPLIED, done
    return Completion.FENCED, record


def release(record: Record, *, session: int, call: int, failed: bool, doubt: bool) -> tuple[Release, Record]:
    """Give the claim of that very call back.

    Args:
        record: what stands there.
        session: who gives back.
        call: the call that was granted the claim.
        failed: the handler raised: counts as an attempt, and clears the suspicion (it did not kill its process).
        doubt: the handler raised `InDoubt`: the next claim is in doubt.
    """
    if not isinstance(record, Claimed) or record.session != session or record.call != call:
        return Release.FENCED, record
    freed = Freed(
        attempts=record.attempts + (1 if failed else 0),
        doubt=record.doubt or doubt,
        suspect=record.suspect and not failed,
    )
    return Release.APPLIED, (freed if any(freed) else None)
