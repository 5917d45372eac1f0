"""The way of docs/shadow.md on real servers: shadow beside a running group, on, off again, and no offset is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import Producer as PlainProducer
from confluent_kafka import TopicPartition

from kafka_once import App, Message, header
from kafka_once.ports import Namespace
from kafka_once.stores.redis_wire import key_prefix
from kafka_once.testing.services import KafkaServer, RedisServer

pytestmark = pytest.mark.integration

PATIENCE_S = 60
PARTITIONS = 2


class Pipeline:
    """A group that runs without kafka-once: plain confluent-kafka, committing what it processed."""

    def __init__(self, kafka: KafkaServer) -> None:
        self.kafka = kafka
        self.topic = f"payments-{uuid.uuid4().hex[:8]}"
        self.group = f"billing-{self.topic}"
        self.processed: list[str] = []
        kafka.create_topic(self.topic, PARTITIONS)
        self._sent = 0

    def produce(self, *ids: str) -> None:
        """Each id to the partition of its number, in this order."""
        producer = PlainProducer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 0})
        for name in ids:
            producer.produce(self.topic, name.encode(), headers={"id": name}, partition=int(name) % PARTITIONS)
            self._sent += 1
        assert producer.flush(PATIENCE_S) == 0

    def open(self) -> PlainConsumer:
        settings = {
            "bootstrap.servers": self.kafka.bootstrap,
            "group.id": self.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
        }
        consumer = PlainConsumer(settings)
        consumer.subscribe([self.topic])
        return consumer

    def process(self, consumer: PlainConsumer, count: int) -> list[str]:
        """Process so many messages and commit each."""
        processed = []
        deadline = time.monotonic() + PATIENCE_S
        while len(processed) < count and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None:
                assert not message.error()
                processed.append(message.value().decode())
                consumer.commit(message, asynchronous=False)
        assert len(processed) == count
        return processed

    def committed(self, group: str) -> list[int]:
        consumer = PlainConsumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": group})
        try:
            places = consumer.committed([TopicPartition(self.topic, n) for n in range(PARTITIONS)], timeout=10)
            return [max(place.offset, 0) for place in places]
        finally:
            consumer.close()

    def wait_for(self, group: str, sent: int) -> None:
        """Until the group has committed so many messages in all."""
        pause = threading.Event()
        for _ in range(PATIENCE_S * 10):
            if sum(self.committed(group)) >= sent:
                return
            pause.wait(0.1)
        raise AssertionError(f"{group} committed {self.committed(group)} of {sent}")


@pytest.fixture
def pipeline(kafka: KafkaServer) -> Pipeline:
    if kafka.kind == "mock":
        pytest.skip("needs a real Kafka")
    return Pipeline(kafka)


def keys_of(pipeline: Pipeline, redis_server: RedisServer, group: str) -> list[bytes]:
    """What the store holds of a group."""
    cluster = pipeline.kafka.admin().list_topics(timeout=10).cluster_id or ""
    client = redis.Redis.from_url(redis_server.url)
    try:
        prefix = key_prefix(Namespace(cluster, group)).replace("{", "[{]")
        return list(client.scan_iter(match=f"{prefix}*", count=10_000))
    finally:
        client.close()


def watch(pipeline: Pipeline, redis_server: RedisServer, folder: Path) -> dict[str, object]:
    """`kafka-once shadow` in a process of its own, until it has read all that is there; what it says at its end."""
    (folder / "billing.py").write_text(f"""
from kafka_once import App, Message, header
app = App({pipeline.kafka.bootstrap!r}, group={pipeline.group!r}, store={redis_server.url!r})

@app.handler({pipeline.topic!r}, key=header("id"))
def charge(message: Message) -> None:
    raise SystemExit("a shadow calls no handler")
""")
    process = subprocess.Popen(
        [sys.executable, "-m", "kafka_once.cli", "shadow", "billing:app", "--json"],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        pipeline.wait_for(f"{pipeline.group}.shadow", pipeline._sent)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    shown = json.loads(said)
    assert isinstance(shown, dict)
    return shown


def test_shadow_then_on_then_off_again_without_losing_an_offset(
    pipeline: Pipeline, redis_server: RedisServer, tmp_path: Path
) -> None:
    first = [str(number) for number in range(20)]
    pipeline.produce(*first, "3", "3", "8")

    # Beside the running group: its member stays in the group, its offsets stand, its namespace stays empty.
    running = pipeline.open()
    processed = pipeline.process(running, 10)
    before = pipeline.committed(pipeline.group)
    said = watch(pipeline, redis_server, tmp_path)
    assert (said["deliveries"], said["would_process"], said["would_skip"]) == (23, 20, 3)
    assert (said["other_payload"], said["missing_keys"], said["read_again"]) == (0, 0, 0)
    assert pipeline.committed(pipeline.group) == before
    assert sum(before) == 10
    assert len(running.assignment()) == PARTITIONS
    assert keys_of(pipeline, redis_server, f"{pipeline.group}.shadow")
    assert keys_of(pipeline, redis_server, pipeline.group) == []
    processed += pipeline.process(running, 2)
    running.close()

    # On: the same group goes on from the offsets that stand there, and repeats of what it processed are skipped.
    pipeline.produce("20", "21", "20", "21")
    app = App(pipeline.kafka.bootstrap, group=pipeline.group, store=redis_server.url)
    by_app: list[str] = []

    @app.handler(pipeline.topic, key=header("id"))
    def charge(message: Message) -> None:
        by_app.append((message.value or b"").decode())
        if len(by_app) == 8:
            app.stop()  # off again in the middle of its work

    app.start()
    assert app.join(PATIENCE_S)
    stats = app.stats()
    settled = stats["completed"] + stats["repeat"]
    assert sum(pipeline.committed(pipeline.group)) == 12 + settled
    assert stats["memory_lost"] == stats["in_doubt"] == 0

    # Off: the old consumer goes on from there, and nothing was passed by or comes again.
    plain = pipeline.open()
    after = pipeline.process(plain, 27 - 12 - settled)
    assert plain.poll(1.0) is None
    plain.close()
    assert sum(pipeline.committed(pipeline.group)) == 27
    runs = Counter([*processed, *by_app, *after])
    assert set(runs) == {str(number) for number in range(22)}, "a message was lost"
    assert sum(runs.values()) == 27 - stats["repeat"], "a message came to both"

    # On once more: what was committed without us is the start, and what the store knew is known still.
    pipeline.produce(processed[0], by_app[-1])  # the store knows the second of the two
    again = App(pipeline.kafka.bootstrap, group=pipeline.group, store=redis_server.url)

    @again.handler(pipeline.topic, key=header("id"))
    def charge_again(message: Message) -> None:
        by_app.append((message.value or b"").decode())

    again.start()
    pipeline.wait_for(pipeline.group, 29)
    again.stop()
    assert again.join(PATIENCE_S)
    counted = again.stats()
    assert (counted["deliveries"], counted["repeat"], counted["memory_lost"]) == (2, 1, 0)
