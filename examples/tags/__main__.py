"""Delivers everything once, then everything again, and compares: the second time changes nothing.

Run it:  python -m examples.tags     (needs a Kafka: localhost:9092, or KAFKA_BOOTSTRAP)
"""

import json
import random
import sys

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from examples.tags.app import app, tags

KAFKA = {"bootstrap.servers": app.settings.bootstrap_servers}
TAGGINGS = [{"article": f"article-{number % 10}", "tag": f"tag-{number}"} for number in range(100)]


def main() -> None:
    create_topic()
    app.start()
    try:
        send_and_await()
        once = {article: set(its) for article, its in tags.items()}
        send_and_await()
    finally:
        app.stop()
        app.join()
    print(f"{app.stats()['processings']} processings of {len(TAGGINGS)} taggings")
    if tags != once:
        sys.exit("delivering everything again has changed the tags")
    print("delivering everything again has changed nothing")


def create_topic() -> None:
    admin = AdminClient(KAFKA)
    try:
        admin.create_topics([NewTopic("tags", num_partitions=3)])["tags"].result(timeout=30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            sys.exit(f"the topic was not created: {error.args[0].str()}")


def send_and_await() -> None:
    """Every tagging once, in any order; returns when all of them were processed."""
    expected = app.stats()["processings"] + len(TAGGINGS)
    producer = Producer(KAFKA)
    for tagging in random.sample(TAGGINGS, len(TAGGINGS)):
        producer.produce("tags", json.dumps(tagging))
    producer.flush()
    while app.stats()["processings"] < expected:
        if app.join(0.05):
            sys.exit("the app has ended")


if __name__ == "__main__":
    main()
