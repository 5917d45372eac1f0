"""The promises a consumer can make, and what happens to a message that cannot be processed, as values."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "ConflictPolicy",
    "DoubtPolicy",
    "FailurePolicy",
    "HungPolicy",
    "KeyPolicy",
    "Semantics",
    "StartReset",
    "needs_store",
]


class Semantics(StrEnum):
    """How often a message's handler runs, and what is given up for it."""

    AT_MOST_ONCE = "at_most_once"
    """Commit answered, then run; with a store: done written, commit answered, then run.

    Messages can be lost. Nothing runs again after a crash with a store, rarely without one (the broker accepts a
    zombie's commit). A producer's repeat is processed only without a store.
    """

    AT_LEAST_ONCE = "at_least_once"
    """Run, then commit; for handlers that are idempotent operations, so without a store.

    Nothing is lost. Messages can run again after a crash, and a producer's repeat is processed.
    """

    EFFECTIVELY_ONCE = "effectively_once"
    """Claim, run, complete, commit. Needs a store.

    Nothing is lost and a producer's repeat is never processed. A message runs again only in the named windows, and
    then it is detected, counted and listed as in doubt.
    """


class FailurePolicy(StrEnum):
    """What happens to a message that fails for good: an undecodable payload, or the last attempt."""

    DEAD_LETTER = "dead_letter"
    """Published to the dead-letter topic; settled when Kafka confirmed it."""

    STOP = "stop"
    """The consumer stops with an error; the message is not settled and comes again at the next start."""


class KeyPolicy(StrEnum):
    """What happens to a message without a usable key."""

    DEAD_LETTER = "dead_letter"
    """Published to the dead-letter topic; settled when Kafka confirmed it."""

    STOP = "stop"
    """The consumer stops with an error; the message is not settled and comes again at the next start."""

    COORDINATES = "coordinates"
    """Its coordinates are its key: safe from redelivery, but a producer's repeat is processed."""

    UNPROTECTED = "unprotected"
    """It runs without a claim: redelivered after a crash, it runs again."""


class DoubtPolicy(StrEnum):
    """What happens to a message whose handler may have run before."""

    RUN = "run"
    """Run again, with `message.in_doubt` set."""

    DEAD_LETTER = "dead_letter"
    """Published to the dead-letter topic for a person to decide; settled when Kafka confirmed it."""


class HungPolicy(StrEnum):
    """What happens when a handler passes its deadline. Its message is in doubt from then on in any case."""

    WAIT = "wait"
    """It is waited for; its partition stands still meanwhile. An async handler is cancelled."""

    STOP = "stop"
    """The consumer stops with an error; the process ends, and with it the handler."""


class ConflictPolicy(StrEnum):
    """What happens when the group's offset, the stored frontier and the log do not fit together (core/start.py)."""

    SAFE = "safe"
    """Goes on where nothing can be lost by it; stops with an error where the log was truncated."""

    STOP = "stop"
    """Stops with an error and its remedy at everything that a person should look at first."""

    GO_ON = "go_on"
    """Never stops: a truncated log is read from its start."""


class StartReset(StrEnum):
    """Where a group begins that has neither an offset nor a frontier."""

    EARLIEST = "earliest"
    LATEST = "latest"
    ERROR = "error"


def needs_store(semantics: Semantics) -> bool:
    """Whether the promise cannot be kept without a store."""
    return semantics is Semantics.EFFECTIVELY_ONCE
