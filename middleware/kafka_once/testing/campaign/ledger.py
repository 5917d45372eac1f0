"""The external effect: files that the handlers of all processes append to, and nothing but they.

A record has a fixed length that divides a page. So a record is one write to one page: it is there as a whole or not
at all, whenever its process is killed, and it never stands inside another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from kafka_once.testing.campaign.history import Entry, Event

__all__ = ["EventReader", "Ledger", "LedgerReader"]

_RECORD_BYTES = 128
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Ledger:
    """What one worker's life writes. One `os.write` per record, no buffer. Safe from any thread.

    Args:
        folder: where the files `starts`, `ledger` and `events` are.
        life: who writes.
    """

    def __init__(self, folder: Path, life: str) -> None:
        self._life = life
        self._pid = os.getpid()
        self._starts, self._runs, self._events = (
            os.open(folder / name, _FLAGS, 0o644) for name in ("starts", "ledger", "events")
        )

    def write_start(self, key: str, partition: int, offset: int, attempt: int, *, in_doubt: bool) -> None:
        """The handler begins."""
        self._write(self._starts, key, partition, offset, attempt, in_doubt=in_doubt)

    def write_run(self, key: str, partition: int, offset: int, attempt: int, *, in_doubt: bool) -> None:
        """The effect: the payment is made."""
        self._write(self._runs, key, partition, offset, attempt, in_doubt=in_doubt)

    def write_events(self, kind: str, numbers: list[int]) -> None:
        """One event per number, all at the same time."""
        self.write_places(kind, [(number, -1) for number in numbers])

    def write_places(self, kind: str, places: Iterable[tuple[int, int]]) -> None:
        """One event per partition and offset, all at the same time."""
        now_ns = time.monotonic_ns()
        for number, offset in places:
            _append(self._events, f"{kind} {self._life} {number} {now_ns} {offset}")

    def _write(self, fd: int, key: str, partition: int, offset: int, attempt: int, *, in_doubt: bool) -> None:
        who = f"{self._life} {self._pid} {attempt} {int(in_doubt)}"
        _append(fd, f"{key} {partition} {offset} {who} {time.monotonic_ns()}")


def _append(fd: int, text: str) -> None:
    record = text.encode().ljust(_RECORD_BYTES - 1) + b"\n"
    assert len(record) == _RECORD_BYTES, "a record is longer than its place: shorten keys or names"
    written = os.write(fd, record)
    assert written == _RECORD_BYTES, "the disk took only a part of a record"


class _Reader:
    """Reads what is new in a file of records."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._position = 0

    def _new_records(self) -> Iterator[list[str]]:
        with self._path.open("rb") as file:
            file.seek(self._position)
            block = file.read()
        whole = len(block) - len(block) % _RECORD_BYTES
        self._position += whole
        for at in range(0, whole, _RECORD_BYTES):
            yield block[at : at + _RECORD_BYTES].decode().split()


class LedgerReader(_Reader):
    """Reads entries of `starts` or `ledger`."""

    def read_new(self) -> list[Entry]:
        """What was written since the last call."""
        return [
            Entry(key, int(partition), int(offset), life, int(pid), int(attempt), in_doubt == "1", int(time_ns))
            for key, partition, offset, life, pid, attempt, in_doubt, time_ns in self._new_records()
        ]


class EventReader(_Reader):
    """Reads `events`."""

    def read_new(self) -> list[Event]:
        """What was written since the last call."""
        return [
            Event(kind, life, int(number), int(time_ns), int(offset))
            for kind, life, number, time_ns, offset in self._new_records()
        ]
