"""A process dies at each named point, one after another, on a real Kafka and a real Redis; an outside ledger judges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.chaos.crash_points import DIED, POINTS, WINDOW
from tests.integration.programs import ledger_lines

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

_PATIENCE_S = 90


def _produce(kafka: KafkaServer, topic: str, number: int) -> None:
    """Two keys of its own, a repeat of one, and one that never works."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
    for key in (f"a{number}", f"b{number}", f"a{number}", f"poison{number}"):
        producer.produce(topic, b"x", headers=[("id", key.encode())])
    assert producer.flush(30) == 0


def _start(spec: dict[str, object], log: Path, point: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "tests.chaos.crash_points", json.dumps({**spec, "dies_at": point})]
    with log.open("ab") as file:
        return subprocess.Popen(arguments, stderr=file)


def _end(program: subprocess.Popen[bytes]) -> None:
    program.kill()
    program.wait(10)


def _read(kafka: KafkaServer, topic: str) -> list[bytes | None]:
    """The ids of everything in a topic of one partition."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "enable.auto.commit": False})
    try:
        place = TopicPartition(topic, 0, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([place])
        ids: list[bytes | None] = []
        while end and len(ids) < end:
            message = consumer.poll(10)
            assert message is not None, f"{len(ids)} of {end} read"
            assert not message.error()
            ids.append(dict(message.headers() or []).get("id"))
        return ids
    finally:
        consumer.close()


def _lag(kafka: KafkaServer, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        place = TopicPartition(topic, 0)
        committed = consumer.committed([place], timeout=10)[0].offset
        return int(consumer.get_watermark_offsets(place, timeout=10)[1] - max(committed, 0))
    finally:
        consumer.close()


def test_a_process_that_dies_anywhere_loses_nothing_and_doubles_only_in_the_window(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    topic, group = f"t-{uuid.uuid4().hex[:8]}", f"g-{uuid.uuid4().hex[:8]}"
    letters = f"{topic}.dead"
    kafka.create_topic(topic, 1)
    kafka.create_topic(letters, 1)
    settings: dict[str, object] = {"commit_every": "50ms", "instance_id": "i", "dead_letter_topic": letters}
    settings |= {"attempts": 20, "backoff": "1ms", "backoff_max": "1ms"}  # so many deaths may hit one key
    spec: dict[str, object] = {
        "bootstrap": kafka.bootstrap,
        "store": redis_server.url,
        "group": group,
        "topic": topic,
        "ledger": str(tmp_path / "ledger"),
        "settings": settings,
    }
    log = tmp_path / "log"

    for number, point in enumerate(POINTS):
        _produce(kafka, topic, number)
        program = _start(spec, log, point)
        try:
            code = program.wait(_PATIENCE_S)
        finally:
            _end(program)
        assert code == DIED, f"{point} was not reached:\n{log.read_text()[-3000:]}"
    last = _start(spec, log, "")
    try:
        pause = threading.Event()
        for _ in range(_PATIENCE_S * 4):
            if not _lag(kafka, group, topic):
                break
            pause.wait(0.25)  # what Kafka has committed can only be asked for again and again
        assert not _lag(kafka, group, topic), log.read_text()[-3000:]
        last.send_signal(signal.SIGTERM)
        assert last.wait(_PATIENCE_S) == 0
    finally:
        _end(last)

    lines = ledger_lines(tmp_path / "ledger")
    runs = Counter(key for key, *_ in lines)
    wanted = {f"{letter}{number}" for number in range(len(POINTS)) for letter in "ab"}
    doubled = {key for key, count in runs.items() if count > 1}
    told = {key for key, _, in_doubt, _ in lines if in_doubt}
    assert set(runs) == wanted, "lost, or made up"
    assert 0 < len(doubled) <= len(WINDOW), runs
    assert max(runs.values()) == 2
    assert doubled <= told
    poison = {f"poison{number}".encode() for number in range(len(POINTS))}
    assert set(_read(kafka, letters)) == poison
