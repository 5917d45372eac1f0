"""The examples as their READMEs say to run them, each in processes of its own, on a real Kafka and a real Redis."""

import difflib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from kafka_once.cli.onlooker import looking_at
from kafka_once.settings import Settings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
TOPICS = ("payments", "tags", "orders")


class Examples:
    """Runs an example's modules with the addresses of the servers; kills what still runs at the end."""

    def __init__(self, kafka, redis_server, folder):
        self.ledger = folder / "payments.db"
        self._bootstrap = kafka.bootstrap
        self._environment = os.environ | {
            "KAFKA_BOOTSTRAP": kafka.bootstrap,
            "REDIS_URL": redis_server.url,
            "LEDGER": str(self.ledger),
        }
        self._processes = []

    def start(self, module):
        process = subprocess.Popen(
            [sys.executable, "-m", f"examples.{module}"],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def run(self, module, *arguments, code=0):
        result = subprocess.run(
            [sys.executable, "-m", f"examples.{module}", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == code, f"{module}: {result.stdout}\n{result.stderr}"
        return result.stdout

    def wait_until_read(self, group, topic, timeout_s=60):
        """Until the group has committed everything that is in the topic."""
        settings = Settings(bootstrap_servers=self._bootstrap, group=group, semantics="at_least_once")
        with looking_at(settings) as kafka:
            ends = {each: kafka.ends(each) for each in kafka.partitions([topic])}
            expected = {each: end for each, (first, end) in ends.items() if end > first}
            self._until(
                lambda: (
                    {each: held and held.offset for each, held in kafka.committed(list(expected)).items()} == expected
                ),
                timeout_s,
            )

    def wait_until_at_work(self):
        """Until some payments are in the ledger."""
        self._until(lambda: self.ledger.exists() and self.runs() > 20, 30)

    def runs(self):
        with sqlite3.connect(self.ledger, timeout=30) as ledger:
            return ledger.execute("SELECT count(*) FROM runs").fetchone()[0]

    def _until(self, condition, timeout_s):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {self._said()}"
            ended = [process for process in self._processes if process.poll() not in (None, -signal.SIGKILL, 0)]
            assert not ended, self._said()

    def _said(self):
        self.close()
        return "\n".join(process.stderr.read() for process in self._processes)

    def close(self):
        for process in self._processes:
            process.kill()
            process.wait()


def ended(process, with_signal=signal.SIGTERM):
    """What it had printed when it ended in good order."""
    process.send_signal(with_signal)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def examples(kafka, redis_server, tmp_path):
    admin = kafka.admin()
    for deletion in admin.delete_topics(list(TOPICS)).values():
        try:
            deletion.result(30)
        except KafkaException:  # it was not there
            continue
    running = Examples(kafka, redis_server, tmp_path)
    yield running
    running.close()
    for process in running._processes:
        process.stdout.close()
        process.stderr.close()


def test_payments_are_made_once(examples):
    assert examples.run("payments.produce", "--count", "300", "--repeats", "60") == "sent 300 payments and 60 repeats\n"
    consumer = examples.start("payments")
    examples.wait_until_read("payments", "payments")
    ended(consumer)
    report = examples.run("payments.audit").split("\n")
    assert [int(line.split()[0]) for line in report if line] == [360, 300, 0, 0, 0, 0]
    with sqlite3.connect(examples.ledger) as ledger:
        assert ledger.execute("SELECT sum(cents) FROM accounts").fetchone() == (0,)


def test_payments_survive_a_kill(examples):
    examples.run("payments.produce", "--count", "1000", "--repeats", "100")
    victim, survivor = examples.start("payments"), examples.start("payments")
    examples.wait_until_at_work()
    victim.kill()
    examples.wait_until_read("payments", "payments")
    ended(survivor)
    examples.run("payments.audit")  # exits with 1 if something was lost, or ran twice and was not in doubt


def test_the_audit_finds_what_is_wrong(examples):
    examples.run("payments.produce", "--count", "20", "--repeats", "5")
    assert "    20 lost" in examples.run("payments.audit", code=1)
    consumer = examples.start("payments")
    examples.wait_until_read("payments", "payments")
    ended(consumer)
    examples.run("payments.audit")

    def change(statement):
        with sqlite3.connect(examples.ledger) as ledger:
            ledger.execute(statement)

    change("INSERT INTO runs SELECT id, coordinates, attempt, 1 FROM runs WHERE rowid = 1")
    assert "     1   of these after a crash, marked as in doubt" in examples.run("payments.audit")
    change("INSERT INTO runs SELECT id, 'elsewhere', attempt, 0 FROM runs WHERE rowid = 2")
    assert "     1 repeats processed" in examples.run("payments.audit", code=1)
    change("DELETE FROM runs WHERE rowid > 20 OR rowid = 3")
    assert "     1 lost" in examples.run("payments.audit", code=1)


def test_tags_are_the_same_when_everything_comes_twice(examples):
    said = examples.run("tags")
    assert said == "200 processings of 100 taggings\ndelivering everything again has changed nothing\n"


def test_two_lines_of_the_existing_loop_change():
    before, after = ((ROOT / "examples/existing_loop" / f"{name}.py").read_text() for name in ("before", "after"))
    store = 'store=os.environ.get("REDIS_URL", "redis://localhost:6379/0")'
    key = 'key=header("idempotency-key")'
    changes = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert changes == [
        "- from confluent_kafka import Consumer",
        "+ from kafka_once import Consumer, header",
        "- consumer = Consumer(conf)",
        f"+ consumer = Consumer(conf, {store}, {key})",
    ]


def test_the_existing_loop_processes_repeats_before_and_not_after(examples):
    examples.run("existing_loop.produce")
    before = examples.start("existing_loop.before")
    examples.wait_until_read("charges", "orders")
    assert len(ended(before, signal.SIGINT).splitlines()) == 13

    examples.run("existing_loop.produce")
    after = examples.start("existing_loop.after")
    examples.wait_until_read("charges", "orders")
    charged = ended(after, signal.SIGINT).splitlines()
    assert len(charged) == len(set(charged)) == 10


def test_a_service_that_takes_the_key_charges_once_through_kill_9(examples):
    said = [line.split() for line in examples.run("async_http").splitlines()]
    assert said[0][-5:] == ["2", "times", "with", "kill", "-9"]
    requests, charged, again, unreported = (int(words[0]) for words in said[1:])
    assert (charged, unreported) == (200, 0)
    assert requests == charged + again
    assert 2 <= again <= 6
