"""The payments that are sent, and the books of what Kafka acknowledged."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from kafka_once.testing.campaign.history import Sent

__all__ = ["KEY_HEADER", "Payment", "Sender", "plan_payments"]

KEY_HEADER = "idempotency-key"

# Half of the repeats come this soon after the first copy, while that may still be running; the others any time later.
_SOON = 40


class Payment(NamedTuple):
    """A message to be sent. Its repeats have the same key and coordinates of their own."""

    key: str
    partition: int


def plan_payments(distinct: int, repeats: int, partitions: int, seed: int) -> list[Payment]:
    """All messages in the order in which they are sent: a repeat comes after the first copy, mostly elsewhere.

    Args:
        distinct: how many different keys.
        repeats: how many messages more, each with a key that was sent before.
        partitions: of the topic; drawn anew for each message.
        seed: the same seed gives the same plan.
    """
    rng = random.Random(seed)
    # Positions between the first copies; 12.5 is between the 12th and the 13th.
    places = [(float(number), f"payment-{number:06d}") for number in range(distinct)]
    for number in rng.choices(range(distinct), k=repeats):
        last = min(distinct, number + _SOON) if rng.random() < 0.5 else distinct
        places.append((rng.uniform(number + 0.01, last), f"payment-{number:06d}"))
    places.sort()
    return [Payment(key, rng.randrange(partitions)) for _, key in places]


class Sender:
    """Sends payments and keeps the coordinates of each. `sent` is the book."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.sent: list[Sent] = []
        self._topic = topic
        self._failed: list[KafkaError] = []
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2, "log_level": 2}
        )

    def send(self, payments: Sequence[Payment]) -> None:
        """Send them; return when Kafka has acknowledged every one. Raises RuntimeError if it has not."""
        for payment in payments:
            self._producer.produce(
                self._topic,
                partition=payment.partition,
                key=payment.key.encode(),
                value=f'{{"id": "{payment.key}", "amount": "12.50"}}'.encode(),
                headers=[(KEY_HEADER, payment.key.encode())],
                on_delivery=self._keep(payment),
            )
        unsent = self._producer.flush(30)
        if unsent or self._failed:
            raise RuntimeError(f"Kafka did not acknowledge {unsent + len(self._failed)} payments: {self._failed[:1]}")

    def _keep(self, payment: Payment) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            if error is not None or offset is None:
                self._failed.append(error or KafkaError(KafkaError.UNKNOWN))
            else:
                self.sent.append(Sent(payment.key, payment.partition, offset, time.monotonic_ns()))

        return on_delivery
