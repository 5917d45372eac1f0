"""Runs inside a container of the example: compares the ledger with the topic, and prints one line of JSON.

It has its own books: what was sent is read from Kafka, what was done from the ledger; kafka-once is asked nothing.
"""

import json
import os
import sqlite3
from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

TOPIC = "payments"


def sent() -> Counter[str]:
    """How often each payment's id is in the topic now."""
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"],
            "group.id": "audit",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    partitions = consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
    ids: Counter[str] = Counter()
    for number in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(TOPIC, number), timeout=10)
        consumer.assign([TopicPartition(TOPIC, number, low)])
        ids.update(json.loads(message.value())["id"] for message in consumer.consume(high - low, timeout=20))
    consumer.close()
    return ids


def done() -> Counter[str]:
    """How often each payment's id is in the ledger."""
    path = Path(os.environ["LEDGER"])
    if not path.exists():
        return Counter()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as ledger:
        try:
            return Counter(str(row[0]) for row in ledger.execute("SELECT id FROM payments"))
        except sqlite3.OperationalError:  # the table is made by the first consumer
            return Counter()


if __name__ == "__main__":
    in_topic, in_ledger = sent(), done()
    print(
        json.dumps(
            {
                "messages": in_topic.total(),
                "payments": len(in_topic),
                "done": len(in_ledger),
                "lost": sorted(set(in_topic) - set(in_ledger))[:10],
                "doubled": sorted(payment for payment, times in in_ledger.items() if times > 1),
            }
        )
    )
