"""The frontier of a partition: the first delivered offset that is not settled. The only thing ever committed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kafka_once.message import Message

__all__ = ["Frontier"]


class Frontier:
    """Keeps the order of delivery, never `offset + 1` arithmetic: logs have gaps (transaction markers, compaction).

    `next_offset` is what may be committed: the first offset that is not settled or, when all are, the one behind the
    last delivered, or where reading began. None before it began.
    """

    __slots__ = ("_epochs", "_open", "_position", "_settled")

    def __init__(self) -> None:
        self._open: deque[int] = deque()  # delivered and not passed by the frontier, in order
        self._settled: set[int] = set()  # of those, settled out of order
        self._position: int | None = None
        self._epochs: deque[tuple[int, int | None]] = deque()  # (first offset, leader epoch), where it changed

    def begin(self, offset: int, leader_epoch: int | None = None) -> None:
        """Where reading starts, before anything is delivered; with the leader epoch of the message before it."""
        assert not self._open, "begun with deliveries open"
        self._position = offset
        self._epochs = deque([(offset, leader_epoch)])

    def pass_to(self, offset: int) -> None:
        """The log holds nothing more below `offset`: markers, aborted and compacted records are passed (D08)."""
        if self._position is not None:
            self._position = max(offset, self._position)

    def deliver_all(self, messages: Sequence[Message]) -> None:
        """Messages in the order of delivery."""
        delivered, epochs = self._open, self._epochs
        position = self._position
        for message in messages:
            offset, leader_epoch = message.offset, message.leader_epoch
            if position is not None and offset < position:
                raise AssertionError(f"offset {offset} delivered behind position {position}")
            delivered.append(offset)
            position = offset + 1
            if not epochs or epochs[-1][1] != leader_epoch:
                epochs.append((offset, leader_epoch))
        self._position = position

    def settle(self, offset: int) -> None:
        """Settle a delivered offset, once."""
        self.settle_all((offset,))

    def settle_all(self, offsets: Iterable[int]) -> None:
        """Settle delivered offsets, each once."""
        delivered, settled = self._open, self._settled
        for offset in offsets:
            if not delivered or offset < delivered[0] or offset in settled:
                raise AssertionError(f"offset {offset} settled twice, or never delivered")
            if offset > delivered[0]:
                settled.add(offset)
                continue
            delivered.popleft()
            while settled and delivered[0] in settled:
                settled.remove(delivered.popleft())

    @property
    def next_offset(self) -> int | None:
        return self._open[0] if self._open else self._position

    @property
    def position(self) -> int | None:
        """The offset behind the last delivered one."""
        return self._position

    @property
    def leader_epoch(self) -> int | None:
        """Of the last message before `next_offset`: what has to be committed with it (KIP-320)."""
        following = self.next_offset
        if following is None:
            return None
        while len(self._epochs) > 1 and self._epochs[1][0] < following:
            self._epochs.popleft()
        return self._epochs[0][1]

    @property
    def span(self) -> int:
        """Delivered messages from the first that is not settled to the last."""
        return len(self._open)

    def unsettled(self) -> int:
        return len(self._open) - len(self._settled)
