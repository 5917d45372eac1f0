"""docker-compose.yml for real: two replicas share the work, one is killed in the middle, and no payment is missing."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from kafka_once.testing.services.docker import docker_answers
from tests.conftest import missing

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.timeout(420)]

ROOT = Path(__file__).parents[2]
PAYMENTS, REPEATS = 20_000, 4_000
PRODUCE = f"python -m examples.payments.produce --count {PAYMENTS} --repeats {REPEATS}".split()
AUDIT = Path(__file__).with_name("audit.py").read_text()


def test_a_killed_replica_loses_nothing(stack):
    stack.compose("up", "--detach", "consumer")
    victim, survivor = stack.containers("consumer")
    stack.compose("run", "--detach", "producer", *PRODUCE)
    before = stack.wait(survivor, lambda books: books["done"] > 0, timeout_s=60)

    stack.docker("kill", victim)

    assert before["done"] < PAYMENTS, "all the work was done before the kill: send more"
    sent = PAYMENTS + REPEATS
    after = stack.wait(survivor, lambda books: books["messages"] == sent and books["lost"] == 0, timeout_s=180)
    assert after["payments"] == PAYMENTS
    assert after["doubled_unreported"] == 0


@pytest.fixture
def stack():
    if not docker_answers():
        missing("no Docker engine answers: start one, or set DOCKER_HOST")
    stack = Stack(f"kafka-once-{os.getpid()}")
    try:
        yield stack
    finally:
        print(stack.compose("logs", "--no-color", "--tail=40"))  # pytest shows it where the test fails
        stack.compose("down", "--volumes", "--timeout=5")


class Stack:
    """One project of docker-compose.yml, under a name of its own."""

    def __init__(self, project: str) -> None:
        self._command = [*compose_command(), "--project-name", project, "--file", str(ROOT / "docker-compose.yml")]
        if "APP_IMAGE" not in os.environ:
            self.compose("build", "consumer")

    def compose(self, *arguments: str) -> str:
        return run([*self._command, *arguments])

    def docker(self, *arguments: str, stdin: str | None = None) -> str:
        return run(["docker", *arguments], stdin)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def wait(self, container: str, condition, timeout_s: float) -> dict:
        """The books, asked for again and again in a container of the example, once they meet the condition."""
        deadline = time.monotonic() + timeout_s
        while True:
            books = json.loads(self.docker("exec", "--interactive", container, "python", "-", stdin=AUDIT))
            if condition(books):
                return books
            assert time.monotonic() < deadline, f"after {timeout_s} s the books still say {books}"


def compose_command() -> list[str]:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if not shutil.which("docker-compose"):
        missing("neither `docker compose` nor `docker-compose` is installed")
    return ["docker-compose"]


def run(command: list[str], stdin: str | None = None) -> str:
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout.strip()
