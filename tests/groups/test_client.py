"""What the client does, and what must not be done to it (R3, R21, R22, R26; A14, A16, E10)."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import TopicPartition

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.groups.members import PATIENCE_S, names, once, scene, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.groups]


def test_offsets_stored_for_a_partition_that_is_not_ours_vanish_without_a_word(kafka: KafkaServer) -> None:
    """R22, and the reason why kafka-once commits explicit offsets: the client drops what is not its own, and says
    nothing, as long as one of them is."""
    topic = f"t-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, 2)
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "enable.auto.offset.store": False}
    consumer = PlainConsumer({**settings, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    consumer.poll(1)

    stored = consumer.store_offsets(offsets=[TopicPartition(topic, 0, 5), TopicPartition(topic, 1, 5)])
    consumer.commit(asynchronous=False)

    places = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=20)
    consumer.close()
    assert stored is None
    assert [place.offset for place in places] == [5, -1001]


SIGNALLED = textwrap.dedent(
    """
    import json, logging, os, signal, sys
    from kafka_once import App, header

    logging.basicConfig(level="INFO", stream=sys.stderr)
    spec = json.loads(sys.argv[1])
    app = App(spec["bootstrap"], group=spec["group"], store=spec["store"], lease="2s", commit_every="50ms")
    armed = False

    class Alarm(Exception):
        pass

    def raise_alarm(*_):
        global armed
        if armed:
            armed = False
            raise Alarm

    signal.signal(signal.SIGUSR1, raise_alarm)
    ledger = os.open(spec["ledger"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @app.handler(spec["topic"], key=header("id"))
    def handle(payload: bytes) -> None:
        os.write(ledger, b"x\\n")

    app.start()
    alarms = 0
    while app.stats()["completed"] < spec["messages"]:
        try:
            armed = True
            app.join(0.05)
            armed = False
        except Alarm:
            alarms += 1
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    app.stop()
    app.join()
    print(json.dumps({"alarms": alarms, **app.stats()}))
    """
)


def test_a_signal_handler_that_raises_loses_nothing(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """R3: raised inside the client it would throw away what had been dequeued. The client is not on the main thread."""
    with scene(kafka, tmp_path) as group:
        group.produce(names(0, 4_000))
        ledger = tmp_path / "runs"
        spec = {"bootstrap": kafka.bootstrap, "group": group.group, "store": redis_server.url, "topic": group.topic}
        spec = json.dumps({**spec, "ledger": str(ledger), "messages": 4_000})
        with subprocess.Popen([sys.executable, "-c", SIGNALLED, spec], stdout=subprocess.PIPE, text=True) as process:
            try:
                wait_until(ledger.exists, "at work")
                while process.poll() is None and len(ledger.read_text().splitlines()) < 4_000:
                    os.kill(process.pid, signal.SIGUSR1)
                printed, _ = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert process.returncode == 0
        assert group.lag() == 0

    counters = json.loads(printed)
    assert counters["alarms"] > 0
    assert len(ledger.read_text().splitlines()) == 4_000 == counters["completed"]


def test_two_signals_in_the_middle_of_a_batch_drain_once(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """R21: the second one changes nothing; what was not begun is another's, exactly."""
    with scene(kafka, tmp_path) as group:
        group.produce(names(0, 400))
        first = group.member("cooperative", store=redis_server.url, handler_s=0.01)
        wait_until(lambda: len(group.ledger()) > 50, "at work")
        first.signal(signal.SIGTERM)
        first.signal(signal.SIGTERM)
        code, counters = first.end()
        assert (code, counters["completed"]) == (0, len(group.ledger()))
        assert group.lag() == 400 - counters["completed"]
        group.member("cooperative", store=redis_server.url)
        group.wait_for(names(0, 400))

    assert group.runs() == once(names(0, 400))


FORKED = textwrap.dedent(
    """
    import json, os, signal, sys, threading
    from kafka_once import App, ConfigurationError, header

    spec = json.loads(sys.argv[1])
    app = App(spec["bootstrap"], group=spec["group"], store=spec["store"])
    ran = threading.Event()

    @app.handler(spec["topic"], key=header("id"))
    def handle(payload: bytes) -> None:
        ran.set()

    app.start()
    assert ran.wait(30)
    child = os.fork()
    if child == 0:
        said = []
        for call in (app.join, app.start, app.run):
            try:
                call()
            except ConfigurationError as error:
                said.append(str(error))
            except SystemExit:  # `run` tells it on standard error
                said.append("exit")
        print(json.dumps(said), flush=True)
        sys.exit(7)  # in the ordinary way: what the child inherited is torn down
    _, status = os.waitpid(child, 0)
    app.stop()
    app.join()
    print(json.dumps({"child": os.waitstatus_to_exitcode(status), **app.stats()}))
    """
)


def test_a_forked_child_is_told_and_disturbs_nobody(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """R26: neither client survives a fork."""
    with scene(kafka, tmp_path) as group:
        group.produce(names(0, 20))
        spec = {"bootstrap": kafka.bootstrap, "group": group.group, "store": redis_server.url, "topic": group.topic}
        done = subprocess.run(
            [sys.executable, "-c", FORKED, json.dumps(spec)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        group.member("cooperative", store=redis_server.url)
        group.wait_for_lag_0()

    said, counters = map(json.loads, done.stdout.splitlines())
    assert len(said) == 3
    assert all("was forked from it" in text for text in said[:2])
    assert "was forked from it" in done.stderr
    assert counters["child"] == 7
    assert counters["completed"] > 0
