"""Sends ten orders, and three of them again with the same idempotency key."""

import json
import os
import sys
import uuid

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

KAFKA = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092")}


def main() -> None:
    create_topic()
    orders = [{"id": str(uuid.uuid4()), "amount": 10 + number} for number in range(10)]
    producer = Producer(KAFKA | {"enable.idempotence": True})
    for order in orders + orders[:3]:
        producer.produce("orders", json.dumps(order), headers={"idempotency-key": order["id"]})
    if producer.flush(30):
        sys.exit("Kafka did not acknowledge all orders")
    print("sent 10 orders and 3 repeats")


def create_topic() -> None:
    admin = AdminClient(KAFKA)
    try:
        admin.create_topics([NewTopic("orders", num_partitions=3)])["orders"].result(timeout=30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            sys.exit(f"the topic was not created: {error.args[0].str()}")


if __name__ == "__main__":
    main()
