"""Between Kafka's client and the library: passes everything on, and tells the ledger's events what passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kafka_once.observers import Observer

if TYPE_CHECKING:
    from threading import Event

    from kafka_once.core.events import Note
    from kafka_once.message import Message, TopicPartition
    from kafka_once.ports import Broker, CommitMark, CommitResult, Rebalances
    from kafka_once.testing.campaign.ledger import Ledger

__all__ = ["WatchedBroker", "WatchedNotes"]


class WatchedBroker:
    """Tells what was polled, assigned, revoked, lost and committed. All else goes to `broker` as it is.

    When `hang` is set, the next poll stands still for `hang_ms` first, and with it the thread of the consumer; Kafka's
    client goes on.
    """

    def __init__(self, broker: Broker, ledger: Ledger, hang: Event | None = None, hang_ms: float = 0.0) -> None:
        self._broker = broker
        self._ledger = ledger
        self._hang = hang
        self._hang_ms = hang_ms
        self._turned_ns = time.monotonic_ns()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def start(self, topics: Sequence[str], rebalances: Rebalances) -> None:
        self._broker.start(topics, _WatchedRebalances(rebalances, self._ledger))

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        if self._hang is not None and self._hang.is_set():
            self._stand_still(self._hang)
        messages = self._broker.poll(max_messages, timeout_s)
        self._turned_ns = time.monotonic_ns()
        if messages:
            self._ledger.write_events("polled", [len(messages)])
        return messages

    def commit(self, marks: Sequence[CommitMark], on_result: Callable[[list[CommitResult]], None]) -> None:
        def on_told_result(results: list[CommitResult]) -> None:
            self._tell_results(results)
            on_result(results)

        self._tell_commit(marks)
        self._broker.commit(marks, on_told_result)

    def commit_now(self, marks: Sequence[CommitMark], timeout_s: float) -> list[CommitResult]:
        self._tell_commit(marks)
        results = self._broker.commit_now(marks, timeout_s)
        self._tell_results(results)
        return results

    def _stand_still(self, hang: Event) -> None:
        self._ledger.write_events("hanging", [int(self._hang_ms)])
        time.sleep(self._hang_ms / 1000)
        hang.clear()
        self._ledger.write_events("hung", [int(self._hang_ms)])

    def _tell_commit(self, marks: Sequence[CommitMark]) -> None:
        self._ledger.write_events("turned", [(time.monotonic_ns() - self._turned_ns) // 1_000_000])
        self._ledger.write_places("committing", [(mark.partition.partition, mark.offset) for mark in marks])

    def _tell_results(self, results: Sequence[CommitResult]) -> None:
        for result in results:
            place = (result.mark.partition.partition, result.mark.offset)
            self._ledger.write_places("committed" if result.verdict == "ok" else "refused", [place])


class _WatchedRebalances:
    def __init__(self, rebalances: Rebalances, ledger: Ledger) -> None:
        self._rebalances = rebalances
        self._ledger = ledger

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._tell("assigned", partitions)
        self._rebalances.on_assigned(partitions)

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._tell("revoked", partitions)
        self._rebalances.on_revoked(partitions)

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._tell("lost", partitions)
        self._rebalances.on_lost(partitions)

    def _tell(self, kind: str, partitions: Sequence[TopicPartition]) -> None:
        self._ledger.write_events(kind, [partition.partition for partition in partitions])


class WatchedNotes(Observer):
    """Tells the events what the library tells people: the note's kind in lower case."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_note(self, note: Note) -> None:
        partition = -1 if note.topic_partition is None else note.topic_partition.partition
        place = (partition, -1 if note.offset is None else note.offset)
        self._ledger.write_places(f"note:{note.kind.name.lower()}", [place])
