"""Runs inside a container of the example: compares the ledger with the topic, and prints one line of JSON.

It has its own books: what was sent is read from Kafka, what was done from the ledger; kafka-once is asked nothing.
"""

import json
import os
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
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


def done() -> dict[str, list[bool]]:
    """Payment's id → for each time it was made, in this order, whether it was in doubt then."""
    runs: dict[str, list[bool]] = defaultdict(list)
    if Path(os.environ["LEDGER"]).exists():
        with closing(sqlite3.connect(os.environ["LEDGER"], timeout=30)) as ledger:
            if ledger.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
                for payment, in_doubt in ledger.execute("SELECT id, in_doubt FROM runs ORDER BY rowid"):
                    runs[payment].append(bool(in_doubt))
    return runs


if __name__ == "__main__":
    in_topic, in_ledger = sent(), done()
    books = {
        "messages": in_topic.total(),
        "payments": len(in_topic),
        "done": len(in_ledger),
        "lost": len(in_topic.keys() - in_ledger.keys()),
        "doubled": sum(len(runs) > 1 for runs in in_ledger.values()),
        "doubled_unreported": sum(not all(runs[1:]) for runs in in_ledger.values()),
    }
    print(json.dumps(books))
