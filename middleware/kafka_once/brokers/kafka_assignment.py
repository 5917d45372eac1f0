"""The partitions that are ours: told by the client, passed on to the caller, and sought back where a seek is owed."""

import logging
import time

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers.kafka_errors import error_of
from kafka_once.brokers.kafka_positions import Position, Positions
from kafka_once.message import TopicPartition
from kafka_once.ports import Rebalances

__all__ = ["Assignment", "as_client_partitions"]

log = logging.getLogger("kafka_once.kafka")

_PATIENCE_S = 0.1  # for the answers of Kafka and the store that say where reading starts


def as_client_partitions(positions: list[Position]) -> list[ClientPartition]:
    """The partitions as the client wants them."""
    return [ClientPartition(*position.partition) for position in positions]


class Assignment:
    """Keeps `Positions` in step with the client's rebalances; each is one `Rebalances` call.

    The client's lists are what changes, in every protocol (C02): all of it for an eager one.

    Attributes:
        was_told: a rebalance was passed on since the caller set it to False.
        patient_until: until then the client is not asked for messages if there is no partition that was started.

    """

    def __init__(self) -> None:
        self.positions = Positions()
        self.was_told = False
        self.patient_until = 0.0
        self._rebalances: Rebalances | None = None
        self._fresh: list[Position] = []

    def pass_on_to(self, rebalances: Rebalances) -> None:
        """Tell these from now on."""
        self._rebalances = rebalances

    def assigned(self, partitions: list[TopicPartition]) -> None:
        """The client's on_assign; it assigns them when this returns."""
        if partitions:
            self._fresh += self.positions.add(partitions)
            self.patient_until = time.monotonic() + _PATIENCE_S
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

    def waits_for_starts(self) -> bool:
        """Whether all partitions were just assigned, and the caller is about to say where they start.

        What the client would give now had to be thrown away, and asked for again.
        """
        if time.monotonic() >= self.patient_until:
            return False
        positions = self.positions.all()
        return bool(positions) and all(position.next is None for position in positions)

    def greet_fresh(self, consumer: Consumer) -> None:
        """A pause before the client had assigned them had no effect: repeat it."""
        fresh, self._fresh = self._fresh, []
        paused = [p for p in fresh if p.paused and self.positions.get(p.partition) is p]
        if paused:
            consumer.pause(as_client_partitions(paused))

    def pay_seeks(self, consumer: Consumer) -> None:
        """Do the seeks that are owed. What the client cannot do yet stays owed, and nothing is taken meanwhile."""
        for position in self.positions.all():
            if position.owed is None or position.paused:
                continue
            leader_epoch = -1 if position.leader_epoch is None else position.leader_epoch
            try:
                consumer.seek(ClientPartition(*position.partition, position.owed, "", leader_epoch))
            except KafkaException as early:  # _STATE, mostly: the client does not read it yet (E07)
                log.debug("cannot seek %s yet: %s", position.partition, error_of(early).name())
            else:
                position.paid()

    def _told(self) -> Rebalances:
        assert self._rebalances is not None, "the broker was not started"
        self.was_told = True
        return self._rebalances
