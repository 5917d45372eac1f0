"""When to commit, and what: the frontier of partitions that are ours, by one writer, one commit at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.calls import CommitMark, FrontierMark
from kafka_once.core.marks import Mark
from kafka_once.core.partition import Tenure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka_once.core.correspondence import Correspondence
    from kafka_once.core.partition import Partition

__all__ = ["Commits"]


class Commits:
    """`due_ms` is when the next commit is looked for; None while one is on its way. `mark` is what the metadata of our
    commits begins with."""

    __slots__ = ("_every_ms", "_mark_name", "_urgent", "due_ms")

    def __init__(self, every_ms: int, mark: str) -> None:
        self._every_ms = every_ms
        self._mark_name = mark
        self._urgent = False
        self.due_ms: int | None = 0

    def urge(self) -> None:
        """Commit as soon as the last commit is answered."""
        self._urgent = True

    def next(self, now_ms: int, partitions: Iterable[Partition], talk: Correspondence | None) -> list[CommitMark]:
        """What to commit now; every frontier that is committed is also marked in the store."""
        if self.due_ms is None or (now_ms < self.due_ms and not self._urgent):
            return []
        self._urgent = False
        marks = self._marks(partitions)
        self.due_ms = None if marks else now_ms + self._every_ms
        if talk is not None:
            _mark_in_store(marks, partitions, talk)
        return marks

    def last(self, partitions: Iterable[Partition], talk: Correspondence | None) -> list[CommitMark]:
        """Every frontier that is ahead of what is committed, whatever is on its way."""
        marks = self._marks(partitions)
        if talk is not None:
            _mark_in_store(marks, partitions, talk)
        return marks

    def on_answered(self, now_ms: int) -> None:
        self.due_ms = now_ms + self._every_ms

    def _marks(self, partitions: Iterable[Partition]) -> list[CommitMark]:
        return [mark for partition in partitions if (mark := _mark(partition, self._mark_name)) is not None]


def _mark(partition: Partition, mark_name: str) -> CommitMark | None:
    """The frontier of a partition that is ours and located (before, it has none), if it is ahead of what is committed.
    Never backwards, but at most once for what waits to be committed before it runs: another owner's frontier may have
    passed it."""
    offset = partition.frontier.next_offset
    if offset is None or partition.tenure not in (Tenure.OWNED, Tenure.LEAVING):
        return None
    passed = offset < partition.floor and not partition.awaiting
    if passed or (partition.committed is not None and offset <= partition.committed):
        return None
    metadata = Mark(partition.topic_id, partition.epoch, offset).text(mark_name) if mark_name else ""
    return CommitMark(partition.name, offset, partition.frontier.leader_epoch, metadata)


def _mark_in_store(marks: list[CommitMark], partitions: Iterable[Partition], talk: Correspondence) -> None:
    committing = {partition.name: partition for partition in partitions}
    for mark in marks:
        partition = committing[mark.partition]
        if partition.ownership is not None:
            number = partition.ownership.number
            talk.mark(FrontierMark(number, mark.offset, mark.leader_epoch, back=partition.rewinds))
