"""The demo, shortened, as a program of its own."""

import subprocess
import sys

import pytest

from kafka_once.testing.services import KafkaServer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


def test_the_demo_keeps_its_promises_and_says_so(kafka: KafkaServer):
    if kafka.kind == "mock":
        pytest.skip("no real Kafka here: the demo on the mock takes minutes under load")
    command = [sys.executable, "-m", "examples.demo", "--messages", "2000", "--repeats", "400"]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Every promise was kept." in demo.stdout
    assert "repeats processed" in demo.stdout
