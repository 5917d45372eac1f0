"""Lengths of time as people write them, and as milliseconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta

__all__ = ["in_ms", "parse_duration", "show_duration"]

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_TEXT = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?(ms|s|m|h|d)", re.ASCII)


def parse_duration(value: object) -> timedelta:
    """A duration from a timedelta, a number of seconds, or text with a unit: "200ms", "5s", "10m", "24h", "7d".

    Text without a unit is refused: Kafka's own settings are milliseconds, ours are seconds.

    Raises:
        ValueError: it is none of these; the text quotes nothing.
    """
    if isinstance(value, timedelta):
        return value
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return timedelta(seconds=value)
        if isinstance(value, str) and (match := _TEXT.fullmatch(value.strip())):
            return float(match[1]) * _UNITS[match[2]]
    except OverflowError:
        pass
    raise ValueError("no duration")


def in_ms(duration: timedelta) -> int:
    """Whole milliseconds, rounded down."""
    return duration // _UNITS["ms"]


def show_duration(duration: timedelta) -> str:
    """The text for people, in the largest unit of which it is two or more and a whole number: "24 h", "60 s"."""
    for name, unit in _UNITS.items():
        if duration % unit == timedelta(0) and (duration >= 2 * unit or (name == "s" and duration == unit)):
            return f"{duration // unit} {name}"
    return f"{in_ms(duration)} ms"
