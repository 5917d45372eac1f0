"""One log line per note, on the logger `kafka_once`; and the formatter that writes lines as JSON.

Never a payload or a key in clear; a handler's exception is logged with its traceback, as it is the user's own.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from kafka_once.core.events import Kind, Note, Outcome
from kafka_once.message import Message

__all__ = ["LEVELS", "JsonFormatter", "log", "log_counters", "log_note", "log_outcome", "logs_outcomes"]

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
    log.log(level, "%s", ": ".join(parts), exc_info=traced, extra=_extra(_fields_of(note)))


def _fields_of(note: Note) -> dict[str, object]:
    fields: dict[str, object] = {"event": note.kind.name}
    if note.topic_partition is not None:
        fields |= {"topic": note.topic_partition.topic, "partition": note.topic_partition.partition}
    if note.offset is not None:
        fields["offset"] = note.offset
    if note.attempt is not None:
        fields["attempt"] = note.attempt
    if note.error is not None:
        fields["error_type"] = f"{type(note.error).__module__}.{type(note.error).__qualname__}"
    return fields


def logs_outcomes() -> bool:
    """Whether each delivery's outcome is logged: at DEBUG only, one line per message."""
    return log.isEnabledFor(logging.DEBUG)


def log_outcome(message: Message, outcome: Outcome) -> None:
    """Log what became of one delivery."""
    fields = {
        "event": "OUTCOME",
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "attempt": message.attempt,
        "outcome": outcome.value,
    }
    log.debug("outcome %s: %s", outcome.value, message.coordinates(), extra=_extra(fields))


def log_counters(counters: dict[str, int]) -> None:
    """Log those that are not zero."""
    moved = {name: count for name, count in counters.items() if count}
    text = " ".join(f"{name}={count}" for name, count in moved.items())
    log.info("counters %s", text, extra=_extra({"event": "COUNTERS", "counters": moved}))


def _extra(fields: dict[str, object]) -> dict[str, object]:
    """As logging's `extra`: one attribute of the record, so that no name of ours meets one of logging's."""
    return {"kafka_once": fields}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time` (UTC), `level`, `logger`, `message`, and what the record is about.

    kafka-once's records carry `event` (the kind, as in docs/counters.md) and, where there are any, `topic`,
    `partition`, `offset`, `attempt`, `outcome`, `error_type`, `counters`. A traceback stands in `exception`.

    Use it with any handler: `handler.setFormatter(JsonFormatter())`; or `kafka-once run --log-format json`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "kafka_once", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, ensure_ascii=False, default=str)
