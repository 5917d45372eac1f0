"""Messages whose holder vanished run one at a time per process, so that the one that kills its process is found exactly
and its neighbours are not blamed (hole 17)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kafka_once.core.delivery import Event
from kafka_once.core.partition import Tenure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka_once.core.delivery import Delivery
    from kafka_once.core.partition import Partition

__all__ = ["Suspects"]


class Suspects:
    """Their claims are held. When its turn comes, one is claimed once more, marked as alone, and then runs."""

    def __init__(self, *, exclusive: bool) -> None:
        self._exclusive = exclusive
        self._queue: deque[Delivery] = deque()
        self._alone: Delivery | None = None

    def add(self, delivery: Delivery) -> None:
        self._queue.append(delivery)

    def choose(self) -> Delivery | None:
        """The one to claim as alone now, if none runs alone already. In an exclusive lane it must be the only open one:
        the others of its group are on their way back."""
        if self._alone is not None:
            return None
        for delivery in self._queue:
            if delivery.partition.tenure is Tenure.OWNED and (not self._exclusive or delivery.lane.open == 1):
                self._queue.remove(delivery)
                self._alone = delivery
                delivery.alone = True
                delivery.step(Event.CLAIM)
                return delivery
        return None

    def leave(self, delivery: Delivery) -> None:
        """It has ended, or will not run now: the next one may."""
        delivery.alone = False
        if self._alone is delivery:
            self._alone = None

    def leave_all(self, deliveries: Iterable[Delivery]) -> None:
        """These have ended. Only the one that runs alone is marked."""
        if self._alone is not None:
            for delivery in deliveries:
                self.leave(delivery)

    def withdraw(self, partition: Partition | None = None) -> list[Delivery]:
        """Take out those of a partition (all, if None) that have not had their turn."""
        withdrawn = [d for d in self._queue if partition is None or d.partition is partition]
        for delivery in withdrawn:
            self._queue.remove(delivery)
        return withdrawn
