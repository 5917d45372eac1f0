"""What the runner shows to other threads: when its loop last turned, how things stand, how long handlers take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kafka_once.handler_times import HandlerTimes
from kafka_once.ports import KnowsEnds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kafka_once.core.engine import Engine
    from kafka_once.core.lane import Group
    from kafka_once.core.standing import EngineStatus
    from kafka_once.message import TopicPartition
    from kafka_once.ports import Broker

__all__ = ["Picture", "Status"]

_EVERY_S = 0.25  # how fresh the status is


@dataclass(frozen=True, slots=True)
class Status:
    """How things stood a moment ago.

    Attributes:
        running: groups in handlers, one for each lane that is at work.
        ends: partition → the offset that its next message will have, as far as the client knows.
    """

    engine: EngineStatus
    running: int
    ends: Mapping[TopicPartition, int]


class Picture:
    """Painted by the runner's thread, looked at by any.

    Attributes:
        status: replaced as a whole; None before the first.
        handler_times: a histogram.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._turned_s: float | None = None
        self._due_s = 0.0
        self.status: Status | None = None
        self.handler_times = HandlerTimes()

    def still_s(self) -> float | None:
        """Since the loop's last turn; None before the first."""
        turned_s = self._turned_s
        return None if turned_s is None else max(0.0, self._clock_s() - turned_s)

    # ------------------------------------------------------------------------------------------------ the runner's side

    def turned(self, now_s: float) -> None:
        self._turned_s = now_s

    def look(self, engine: Engine, broker: Broker, running: int) -> None:
        """A few times a second; cheap when it is not due."""
        now_s = self._clock_s()
        if now_s < self._due_s:
            return
        self._due_s = now_s + _EVERY_S
        standing = engine.status()
        names = [partition.name for partition in standing.partitions]
        ends = broker.ends(names) if isinstance(broker, KnowsEnds) else {}
        self.status = Status(standing, running, ends)

    def ran(self, group: Group) -> None:
        """A group has ended. One that the user's own loop took has no time of its own."""
        if group.results and group.took_ms:
            self.handler_times.observe(group.lane.partition.name.topic, len(group.results), group.took_ms)
