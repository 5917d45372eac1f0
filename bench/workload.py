"""The messages of a benchmark: 300-byte JSON payments, the key in a header, every fifth one a repeat."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from confluent_kafka import Producer

if TYPE_CHECKING:
    from kafka_once.testing.services import KafkaServer

__all__ = ["HEADER", "Workload", "payload_of"]

HEADER = "idempotency-key"
_BYTES = 300


def payload_of(number: int) -> bytes:
    record = {"id": f"{number:032x}", "amount": "12.34", "account": number % 1000, "note": ""}
    record["note"] = "x" * (_BYTES - len(json.dumps(record)))
    return json.dumps(record).encode()


class Workload:
    """Topics with `count` messages in all, a fifth of them repeats of earlier ones of the same topic.

    Attributes:
        topics: their names.
        partitions: of each topic.
        distinct: how many different keys there are, which is how often a handler that is de-duplicated runs.
    """

    def __init__(self, topics: Sequence[str], count: int, partitions: int) -> None:
        self.topics = list(topics)
        self.count = count
        self.partitions = partitions
        self.distinct = 0

    def produce(self, server: KafkaServer, seed: int = 1) -> None:
        for topic in self.topics:
            server.create_topic(topic, self.partitions)
        settings = {"bootstrap.servers": server.bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        producer, rng = Producer(settings), random.Random(seed)
        known = [0] * len(self.topics)
        for sent in range(self.count):
            position, place = divmod(sent, len(self.topics))
            number = known[place]
            if number and position % 5 == 4:
                number = rng.randrange(number)
            else:
                known[place] += 1
            producer.produce(
                self.topics[place],
                payload_of(number),
                key=b"%d" % (number % 1000),
                partition=position % self.partitions,
                headers=[(HEADER, f"{number:032x}".encode())],
            )
            if sent % 1000 == 0:
                producer.poll(0)
        assert producer.flush(120) == 0
        self.distinct = sum(known)
