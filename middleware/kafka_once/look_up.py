"""Which partitions are still to be looked up, and how many at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kafka_once.errors import BrokerUnavailable

if TYPE_CHECKING:
    from kafka_once.message import TopicPartition
    from kafka_once.ports import Broker, Committed, LogBounds

__all__ = ["LookUp"]

log = logging.getLogger("kafka_once")

_AGAIN_S = 0.1
_ALL = 1 << 30


class LookUp:
    """All are asked for at once. Where that gives no answer, half of them, and so on: a partition that has no leader
    must not keep the others from starting."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._fresh: list[TopicPartition] = []
        self._most = _ALL
        self._due_s = 0.0

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """These are assigned, or to be looked up once more."""
        self._fresh += partitions

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """These are gone."""
        gone = set(partitions)
        self._fresh = [partition for partition in self._fresh if partition not in gone]

    def due(self, now_s: float) -> bool:
        """Whether something is to be looked up now."""
        return bool(self._fresh) and now_s >= self._due_s

    def find(self, now_s: float) -> list[tuple[TopicPartition, LogBounds, Committed | None]]:
        """Where these stand; empty if Kafka did not say, then it is asked again a little later.

        The logs are asked last: they hold what was committed by then, or were truncated.
        """
        asked, others = self._fresh[: self._most], self._fresh[self._most :]
        try:
            committed, logs = self._broker.committed(asked), self._broker.log_bounds(asked)
        except BrokerUnavailable as error:
            log.warning("asked again where reading starts: %s", error)
            self._fresh = others + asked
            self._most = max(len(asked) // 2, 1)
            self._due_s = now_s + _AGAIN_S
            return []
        self._fresh = others
        self._most = _ALL if not others else self._most * 2
        return [(partition, logs[partition], committed[partition]) for partition in asked]
