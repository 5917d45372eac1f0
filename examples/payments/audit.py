"""Compares the ledger with the topic: was each payment made, and was it made once?

Asks kafka-once nothing: what was ordered is read from Kafka, what was done from the ledger.
"""

import json
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from examples.payments.ledger import LEDGER
from examples.payments.produce import KAFKA, TOPIC

Run = tuple[str, bool]  # coordinates, in doubt


def main() -> None:
    ordered = Counter(json.loads(value)["id"] for value in whole_topic())
    runs = all_runs()
    lost = [payment for payment in ordered if payment not in runs]
    more_than_once = {payment: made for payment, made in runs.items() if len(made) > 1}
    undoubted = {payment: made for payment, made in more_than_once.items() if not was_in_doubt(made)}
    repeats = [payment for payment, made in undoubted.items() if len({coordinates for coordinates, _ in made}) > 1]

    print(f"{ordered.total():6} messages in the topic")
    print(f"{len(ordered):6} payments among them, the others are repeats")
    print(f"{len(lost):6} lost")
    print(f"{len(more_than_once):6} run more than once")
    print(f"{len(more_than_once) - len(undoubted):6}   of these after a crash, marked as in doubt")
    print(f"{len(repeats):6} repeats processed")
    sys.exit(1 if lost or undoubted else 0)


def was_in_doubt(runs: list[Run]) -> bool:
    """Every run but the first said that an earlier one may have happened."""
    return all(in_doubt for _, in_doubt in runs[1:])


def whole_topic() -> Iterator[bytes]:
    """Every message's value, from the beginning to the end as it is now. Joins no group."""
    consumer = Consumer(
        KAFKA | {"group.id": "payments-audit", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    try:
        unread = set(consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions)
        consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in unread])
        while unread:
            message = consumer.poll(10)
            if message is None:
                sys.exit(f"Kafka stopped answering in the middle of topic {TOPIC!r}")
            if message.error() is None:
                yield message.value()
            elif message.error().code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()


def all_runs() -> dict[str, list[Run]]:
    """Payment → its runs, in the order in which they were written."""
    runs: dict[str, list[Run]] = defaultdict(list)
    if LEDGER.exists():
        with sqlite3.connect(LEDGER, timeout=30) as database:
            for payment, coordinates, in_doubt in database.execute(
                "SELECT id, coordinates, in_doubt FROM runs ORDER BY rowid"
            ):
                runs[payment].append((coordinates, bool(in_doubt)))
    return runs


if __name__ == "__main__":
    main()
