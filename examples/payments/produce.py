"""Sends payments, some of them again, as a producer does that was not sure whether the first send arrived."""

import argparse
import json
import os
import random
import sys
import uuid

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

KAFKA = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092")}
TOPIC = "payments"
ACCOUNTS = [f"account-{number}" for number in range(100)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.payments.produce", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="different payments (default 1000)")
    parser.add_argument(
        "--repeats", type=int, default=200, help="how many are sent again with the same id (default 200)"
    )
    options = parser.parse_args()

    create_topic()
    payments = [new_payment() for _ in range(options.count)]
    messages = payments + random.choices(payments, k=options.repeats if payments else 0)
    random.shuffle(messages)
    send(messages)
    print(f"sent {len(payments)} payments and {len(messages) - len(payments)} repeats")


def create_topic() -> None:
    """If this user may. Whoever runs Kafka may have made it already, or be the only one who can."""
    admin = AdminClient(KAFKA)
    try:
        admin.create_topics([NewTopic(TOPIC, num_partitions=6)])[TOPIC].result(timeout=30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            print(f"topic {TOPIC!r} was not created: {error.args[0].str()}", file=sys.stderr)


def new_payment() -> dict[str, str]:
    from_account, to_account = random.sample(ACCOUNTS, 2)
    amount = f"{random.randint(1, 10_000) / 100:.2f}"
    return {"id": str(uuid.uuid4()), "amount": amount, "from_account": from_account, "to_account": to_account}


def send(payments: list[dict[str, str]]) -> None:
    """Returns when Kafka has acknowledged every one of them."""
    producer = Producer(KAFKA | {"enable.idempotence": True})
    refused: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    for payment in payments:
        producer.produce(TOPIC, json.dumps(payment), key=payment["from_account"], on_delivery=on_delivery)
        producer.poll(0)
    producer.flush()
    if refused:
        sys.exit(f"{len(refused)} messages were not sent: {refused[0].str()}")


if __name__ == "__main__":
    main()
