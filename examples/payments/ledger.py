"""The accounts, and a row for each run of the handler, so that a double run can be seen. SQLite."""

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kafka_once import Message

LEDGER = Path(os.environ.get("LEDGER", "payments.db"))

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE accounts (name TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE runs (id TEXT NOT NULL, coordinates TEXT NOT NULL, attempt INTEGER NOT NULL, in_doubt INTEGER NOT NULL);
"""


class Ledger:
    """An open transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, account: str, cents: int) -> None:
        """The balance grows by so much: doing it twice is not the same as doing it once."""
        self._database.execute("INSERT OR IGNORE INTO accounts VALUES (?, 0)", (account,))
        self._database.execute("UPDATE accounts SET cents = cents + ? WHERE name = ?", (cents, account))

    def note_run(self, payment_id: str, message: Message) -> None:
        run = (payment_id, str(message.coordinates()), message.attempt, message.in_doubt)
        self._database.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", run)


@contextmanager
def open_ledger() -> Iterator[Ledger]:
    """One transaction. Threads and processes wait for each other's."""
    if not LEDGER.exists():
        make_ledger()
    with closing(sqlite3.connect(LEDGER, timeout=30, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        with database:
            yield Ledger(database)


def make_ledger() -> None:
    """Made under another name and moved into place, so that processes that start together never meet half a ledger."""
    draft = LEDGER.with_name(f"{LEDGER.name}.{uuid.uuid4()}")
    with closing(sqlite3.connect(draft)) as database:
        database.executescript(SCHEMA)
    try:
        LEDGER.hardlink_to(draft)
    except FileExistsError:  # another process was faster
        pass
    finally:
        draft.unlink()
