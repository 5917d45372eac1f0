"""When a handler raised: what that means, and when to try again."""

from __future__ import annotations

from enum import Enum, auto

from kafka_once.errors import ConfigurationError, InDoubt, MessageError, NeverCompleted

__all__ = ["Verdict", "backoff_ms", "classify"]


class Verdict(Enum):
    """From the least to the gravest: of several errors at once the gravest counts."""

    RETRY = auto()
    """Nothing happened, run me again: what raising an ordinary exception says."""

    REJECT = auto()
    """Trying again cannot help: the failure policy decides at once."""

    FATAL = auto()
    """The process is to end (`SystemExit`, `KeyboardInterrupt`, a handler set up wrongly): never a success; release
    and stop."""

    ABANDONED = auto()
    """Handed out, and nobody will say what became of it: in doubt, but no failed attempt."""

    DOUBT = auto()
    """The handler cannot know whether its effect happened: the in-doubt policy decides."""


def classify(error: BaseException) -> Verdict:
    """A group of errors (`asyncio.TaskGroup` raises one) says what its gravest says."""
    if isinstance(error, BaseExceptionGroup):
        return max((classify(each) for each in error.exceptions), key=lambda verdict: verdict.value)
    if isinstance(error, NeverCompleted):
        return Verdict.ABANDONED
    if isinstance(error, InDoubt):
        return Verdict.DOUBT
    if isinstance(error, ConfigurationError):
        return Verdict.FATAL
    if isinstance(error, MessageError):
        return Verdict.REJECT
    return Verdict.RETRY if isinstance(error, Exception) else Verdict.FATAL


def backoff_ms(attempts: int, first_ms: int, most_ms: int, jitter: float) -> int:
    """How long to wait after `attempts` failed attempts (1 or more): doubles each time, less up to a half by jitter.

    Jitter is in [0, 1): without it, messages that failed together come again together.
    """
    doublings = min(attempts - 1, 30)  # 2**30 times anything is past every limit; keeps the integer small
    full = min(first_ms << doublings, most_ms)
    return full - int(full * jitter / 2)
