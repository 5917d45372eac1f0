"""Sends charges, kills the consumer with kill -9 between the effect and its answer, and shows what became of it.

Run it:  python -m examples.async_http
(Kafka: localhost:9092 or KAFKA_BOOTSTRAP; Redis: localhost:6379 or REDIS_URL)
"""

import json
import os
import subprocess
import sys
import threading
import uuid

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from examples.async_http.service import Service

KAFKA = {"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092")}
CHARGES, REPEATS = 200, 40
KILL_AT = (50, 120)  # after so many charges, while the consumer waits for the answer to one
PATIENCE_S = 60


class Consumer:
    """The consumer's process, which is killed in the middle and started again."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = os.environ | environment
        self._process = self._start()
        self.kills = 0

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from examples.async_http.app import app; app.run()"]
        return subprocess.Popen(command, env=self._environment)

    def kill(self) -> None:
        """kill -9, and start it again."""
        self._process.kill()
        self._process.wait()
        self.kills += 1
        self._process = self._start()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(PATIENCE_S)


def main() -> None:
    topic = f"charges-{uuid.uuid4().hex[:8]}"
    create_topic(topic)
    done = threading.Event()
    service = Service(on_charged=lambda count: on_charged(count, done, consumers))
    consumers = [Consumer({"SERVICE": service.url, "TOPIC": topic, "GROUP": topic})]
    try:
        send(topic)
        if not done.wait(PATIENCE_S):
            sys.exit(f"only {len(service.charges)} of {CHARGES} cards were charged within {PATIENCE_S} s")
    finally:
        code = consumers[0].stop()
        service.close()
    told(service, consumers[0].kills)
    if code:
        sys.exit(f"the consumer ended with {code}")


def on_charged(count: int, done: threading.Event, consumers: list[Consumer]) -> None:
    """The card is charged, and the consumer does not know yet."""
    if count in KILL_AT:
        consumers[0].kill()
    if count == CHARGES:
        done.set()


def told(service: Service, kills: int) -> None:
    again = [request for request in service.requests if request.known]
    unreported = [request for request in again if not request.in_doubt]
    charged_twice = len(service.charges) - len(set(service.charges.values()))
    print(f"{CHARGES} charges and {REPEATS} repeats sent, consumer killed {kills} times with kill -9")
    print(f"{len(service.requests)} requests reached the service")
    print(f"{len(service.charges)} cards charged, {charged_twice} of them twice")
    print(f"{len(again)} requests for a key that was charged already: the service did nothing")
    print(f"{len(unreported)} of those that kafka-once had not reported as in doubt")
    if charged_twice or unreported or len(service.charges) != CHARGES or len(again) < kills:
        sys.exit("that is not what was promised")


def create_topic(topic: str) -> None:
    admin = AdminClient(KAFKA)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=3)])[topic].result(timeout=30)
    except KafkaException as error:
        sys.exit(f"the topic was not created: {error.args[0].str()}")


def send(topic: str) -> None:
    """Every charge once, some of them again."""
    charges = [{"id": str(uuid.uuid4()), "amount": "9.99"} for _ in range(CHARGES)]
    producer = Producer(KAFKA)
    for charge in [*charges, *charges[:REPEATS]]:
        producer.produce(topic, json.dumps(charge))
    producer.flush()


if __name__ == "__main__":
    main()
