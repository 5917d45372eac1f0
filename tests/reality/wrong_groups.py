"""Simulated Kafkas that behave otherwise than the real one, each in one thing: its script must notice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from kafka_once.brokers.memory import MemoryBroker
from kafka_once.message import Message
from kafka_once.ports import CommitMark, CommitResult
from tests.simulation.group import Commit, Group

__all__ = [
    "anybody_commits",
    "owners_only_commit",
    "simulated_owners_only_commit",
    "simulated_put_out_hears_at_once",
    "the_put_out_hear_at_once",
    "what_was_dequeued_is_gone",
]

_commit, _serve_rebalance, _poll = MemoryBroker._commit, MemoryBroker._serve_rebalance, MemoryBroker.poll
_take_away = Group.take_away


def owners_only_commit() -> AbstractContextManager[Any]:
    """Kafka asks whose the partition is."""

    def commit(self: MemoryBroker, marks: Sequence[CommitMark]) -> list[CommitResult]:
        own = [mark for mark in marks if mark.partition in self._positions]
        others = [CommitResult(mark, "drop", "not yours") for mark in marks if mark not in own]
        return _commit(self, own) + others

    return patch.object(MemoryBroker, "_commit", commit)


def anybody_commits() -> AbstractContextManager[Any]:
    """Kafka does not ask who commits."""

    def commit(self: MemoryBroker, marks: Sequence[CommitMark]) -> list[CommitResult]:
        for mark in marks:
            self._group().commit(mark)
        return [CommitResult(mark, "ok") for mark in marks]

    return patch.object(MemoryBroker, "_commit", commit)


def the_put_out_hear_at_once() -> AbstractContextManager[Any]:
    """Who was put out is told that all is lost. So it was in the code."""

    def serve(self: MemoryBroker) -> bool:
        return _serve_rebalance(self) if self._is_member() else self._lose_and_rejoin()

    return patch.object(MemoryBroker, "_serve_rebalance", serve)


def what_was_dequeued_is_gone() -> AbstractContextManager[Any]:
    """An exception out of a poll takes with it what the client had dequeued."""

    def poll(self: MemoryBroker, max_messages: int, timeout_s: float) -> list[Message]:
        try:
            return _poll(self, max_messages, timeout_s)
        except ZeroDivisionError:
            self._take(1)
            raise

    return patch.object(MemoryBroker, "poll", poll)


def simulated_owners_only_commit() -> AbstractContextManager[Any]:
    """In the simulated worlds no commit of another than the owner is taken."""

    def commit(self: Group, commit: Commit) -> list[CommitResult]:
        own = all(self.owners.get(mark.partition) is commit.worker for mark in commit.marks)
        verdict = "ok" if own else "drop"
        if own:
            self.committed.update((mark.partition, mark.offset) for mark in commit.marks)
            self.metadata.update((mark.partition, mark.metadata) for mark in commit.marks)
        return [CommitResult(mark, verdict) for mark in commit.marks]

    return patch.object(Group, "commit", commit)


@contextmanager
def simulated_put_out_hears_at_once() -> Iterator[None]:
    """In the simulated worlds nobody is asked for a partition that is lost already."""

    def take_away(self: Group, name: Any, told_ms: int) -> None:
        told = self.owners[name].told
        for asked in [each for each in told if each.what == "revoked" and name in each.names]:
            told.remove(asked)
        _take_away(self, name, told_ms)

    with patch.object(Group, "take_away", take_away):
        yield
