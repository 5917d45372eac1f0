"""What a check found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One line of `kafka-once check`. The text of a problem names the remedy."""

    level: Level
    what: str
    text: str

    @classmethod
    def ok(cls, what: str, text: str) -> Finding:
        return cls(Level.OK, what, text)

    @classmethod
    def warning(cls, what: str, text: str) -> Finding:
        return cls(Level.WARNING, what, text)

    @classmethod
    def problem(cls, what: str, text: str) -> Finding:
        return cls(Level.PROBLEM, what, text)
