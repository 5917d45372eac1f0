"""A process that is short of what the system gives. On a real Kafka and a real Redis."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.integration.programs import PROGRAM, ledger_lines
from tests.integration.test_processes import lag, make_topic, produce, spec

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("descriptors", [10, 12])
def test_without_file_descriptors_it_ends_and_nothing_is_settled(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, descriptors: int
) -> None:
    """A23: half a consumer would be worse than none."""
    topic, ledger = make_topic(kafka, 1), tmp_path / "ledger"
    produce(kafka, topic, ["a", "b"])
    its_spec = spec(kafka, redis_server, topic, ledger)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(its_spec)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1, ended.stderr
    assert "Too many open files" in ended.stderr
    assert not ledger.exists() or ledger_lines(ledger) == []
    assert lag(kafka, its_spec["group"], topic, 1) == 2
