"""What is to be looked at again at a given time."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.lane import Lane

__all__ = ["Timer"]


class Timer:
    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Lane | Delivery]] = []
        self._order = count()  # so that equal times never compare lanes

    def add(self, due_ms: int, item: Lane | Delivery) -> None:
        heapq.heappush(self._heap, (due_ms, next(self._order), item))

    def due(self, now_ms: int) -> bool:
        return bool(self._heap) and self._heap[0][0] <= now_ms

    def take_due(self, now_ms: int) -> list[Lane | Delivery]:
        items = []
        while self.due(now_ms):
            items.append(heapq.heappop(self._heap)[2])
        return items

    def next_due_ms(self) -> int | None:
        return self._heap[0][0] if self._heap else None
