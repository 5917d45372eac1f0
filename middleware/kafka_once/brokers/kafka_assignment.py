"""The partitions that are ours: told by the client, passed on to the caller, and sought back where a seek is owed."""

import logging
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers.kafka_errors import error_of
from kafka_once.brokers.kafka_positions import START, Position, Positions
from kafka_once.message import TopicPartition
from kafka_once.ports import Rebalances

__all__ = ["Assignment", "as_client_partitions"]

log = logging.getLogger("kafka_once.kafka")


def as_client_partitions(positions: list[Position]) -> list[ClientPartition]:
    """The partitions as the client wants them."""
    return [ClientPartition(*position.partition) for position in positions]


class Assignment:
    """Keeps `Positions` in step with the client's rebalances; each is one `Rebalances` call.

    The client's lists are what changes, in every protocol (C02): all of it for an eager one.

    Attributes:
        was_told: a rebalance was passed on since the caller set it to False.

    """

    def __init__(self) -> None:
        self.positions = Positions()
        self.was_told = False
        self._rebalances: Rebalances | None = None
        self._fresh: list[Position] = []

    def pass_on_to(self, rebalances: Rebalances) -> None:
        """Tell these from now on."""
        self._rebalances = rebalances

    def assigned(self, partitions: list[TopicPartition]) -> None:
        """The client's on_assign; it assigns them when this returns."""
        if partitions:
            self._fresh += self.positions.add(partitions)
            self._told().on_assigned(partitions)

    def revoked(self, partitions: list[TopicPartition]) -> None:
        """The client's on_revoke; they are still ours until this returns. Unknown ones are passed over (C26)."""
        owned = [partition for partition in partitions if self.positions.get(partition) is not None]
        if owned:
            try:
                self._told().on_revoked(owned)
            finally:
                self.positions.remove(owned)

    def lost(self, partitions: list[TopicPartition]) -> None:
        """The client's on_lost; somebody else may own them already."""
        owned = [partition for partition in partitions if self.positions.get(partition) is not None]
        self.positions.remove(owned)
        if owned:
            self._told().on_lost(owned)

    def greet_fresh(self, consumer: Consumer) -> None:
        """The caller knows of them by now. A pause before the client had assigned them had no effect: repeat it."""
        fresh, self._fresh = self._fresh, []
        for position in fresh:
            position.fresh = False
        paused = [p for p in fresh if p.paused and self.positions.get(p.partition) is p]
        if paused:
            consumer.pause(as_client_partitions(paused))

    def pay_seeks(self, consumer: Consumer, start_of: Callable[[TopicPartition], int | None]) -> None:
        """Do the seeks that are owed. What the client cannot do yet stays owed, and nothing is taken meanwhile.

        Args:
            consumer: the client.
            start_of: where reading a partition started; None: there is nothing to repeat.

        """
        for position in self.positions.all():
            if position.owed is None or position.paused or position.fresh:
                continue
            offset = start_of(position.partition) if position.owed == START else position.owed
            try:
                if offset is not None:
                    consumer.seek(ClientPartition(*position.partition, offset))
            except KafkaException as early:  # _STATE, mostly: the client does not read it yet (E07)
                log.debug("cannot seek %s yet: %s", position.partition, error_of(early).name())
            else:
                position.paid()

    def _told(self) -> Rebalances:
        assert self._rebalances is not None, "the broker was not started"
        self.was_told = True
        return self._rebalances
