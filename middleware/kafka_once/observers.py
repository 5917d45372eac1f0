"""Tells people what happened: one log line per note, on the logger `kafka_once`.

Never a payload or a key in clear; a handler's exception is logged with its traceback, as it is the user's own.
"""

from __future__ import annotations

import logging

from kafka_once.core.events import Kind, Note

__all__ = ["log_note"]

log = logging.getLogger("kafka_once")

# What is part of a normal day is told at INFO or below; what a person should look at, at WARNING; what stops or may
# have run twice, at ERROR.
LEVELS: dict[Kind, int] = {
    Kind.RAISED: logging.WARNING,
    Kind.GAVE_UP: logging.ERROR,
    Kind.DEAD_LETTERED: logging.WARNING,
    Kind.UNPUBLISHED: logging.ERROR,
    Kind.SKIPPED: logging.ERROR,
    Kind.IN_DOUBT: logging.WARNING,
    Kind.FENCED: logging.WARNING,
    Kind.DOUBLED: logging.ERROR,
    Kind.FORGOTTEN: logging.ERROR,
    Kind.ASSIGNED: logging.INFO,
    Kind.OWNED: logging.DEBUG,
    Kind.HELD_BACK: logging.WARNING,
    Kind.SUPERSEDED: logging.WARNING,
    Kind.REVOKED: logging.INFO,
    Kind.LOST: logging.WARNING,
    Kind.STORE_SILENT: logging.ERROR,
    Kind.STORE_BACK: logging.WARNING,
    Kind.STORE_CHANGED: logging.WARNING,
    Kind.SESSION_OPENED: logging.INFO,
    Kind.SESSION_OVER: logging.WARNING,
    Kind.COMMIT_REFUSED: logging.WARNING,
    Kind.UNUSABLE: logging.ERROR,
    Kind.OFFSETS_GONE: logging.WARNING,
    Kind.COMMIT_LOST: logging.INFO,
    Kind.RESET_BACK: logging.WARNING,
    Kind.RESET_AHEAD: logging.WARNING,
    Kind.TOPIC_RECREATED: logging.WARNING,
    Kind.MESSAGES_DELETED: logging.ERROR,
    Kind.LOG_TRUNCATED: logging.ERROR,
    Kind.MEMORY_LOST: logging.ERROR,
    Kind.SELF_FENCED: logging.ERROR,
    Kind.STALLED: logging.WARNING,
    Kind.OVERDUE: logging.ERROR,
}

# Whose traceback helps: the user's handler. A store's or a broker's error is one sentence.
_TRACED = {Kind.RAISED, Kind.GAVE_UP, Kind.SKIPPED}


def log_note(note: Note) -> None:
    """Log one note."""
    level = LEVELS[note.kind]
    if not log.isEnabledFor(level):
        return
    parts = [note.kind.value]
    if note.topic_partition is not None:
        offset = "" if note.offset is None else f"@{note.offset}"
        parts.append(f"{note.topic_partition}{offset}")
    if note.attempt is not None:
        parts.append(f"attempt {note.attempt}")
    if note.text:
        parts.append(note.text)
    traced = note.error if note.kind in _TRACED else None
    if note.error is not None and traced is None:
        parts.append(f"{type(note.error).__name__}: {note.error}")
    log.log(level, "%s", ": ".join(parts), exc_info=traced)
