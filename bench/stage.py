"""A Kafka and a Redis of the benchmark's own, and one run of a contender in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

from bench.workload import Workload
from kafka_once.testing.services import KafkaServer, RedisServer

__all__ = ["Stage"]

_TIMEOUT_S = 900


class Stage:
    """Everything runs on loopback of one machine: broker, store and contender share its cores."""

    def __init__(self, kafka: KafkaServer, redis: RedisServer) -> None:
        self.kafka = kafka
        self.redis = redis

    @staticmethod
    def new_name() -> str:
        """Of a topic or a group that nobody has used."""
        return f"bench-{uuid.uuid4().hex[:8]}"

    def produce(self, count: int, partitions: int = 4, topics: int = 1) -> Workload:
        """New topics with so many messages in all."""
        workload = Workload([self.new_name() for _ in range(topics)], count, partitions)
        workload.produce(self.kafka)
        return workload

    def run(
        self,
        contender: str,
        workload: Workload,
        *,
        keep: bool = False,
        on_disk: bool = False,
        python: str = sys.executable,
        watched: Sequence[str] = (),
        **task: Any,
    ) -> dict[str, Any]:
        """Let one contender consume the topic to its end, with an empty store unless `keep`.

        Args:
            contender: its name in `bench.contenders`.
            workload: the topic.
            keep: leave what the store remembers.
            on_disk: the store writes its append-only file; it does not otherwise.
            python: of the environment that has what the contender needs.
            watched: a command that starts the process and looks on.
            task: what else `Task` is told.

        Returns:
            What `bench.run_one` measured, and what Redis did meanwhile: CPU per message, bytes more than before.

        Raises:
            RuntimeError: it failed, or processed a key twice or not at all.
        """
        client = self.redis.client()
        if not keep:
            client.flushall()
        self._keep_file(client, on_disk=on_disk)
        before, memory = client.info("cpu"), client.info("memory")["used_memory"]
        figures = self._measured([*watched, python], self._spec(contender, workload, task))
        after = client.info("cpu")
        self._keep_file(client, on_disk=False)
        spent_s = sum(after[name] - before[name] for name in ("used_cpu_sys", "used_cpu_user"))
        figures["redis_us"] = spent_s / workload.count * 1e6
        figures["redis_bytes"] = client.info("memory")["used_memory"] - memory
        client.close()
        expected = workload.distinct if figures["deduplicates"] else workload.count
        if "stop_after" not in task and figures["processings"] != expected:
            raise RuntimeError(f"{contender} processed {figures['processings']} messages, {expected} were to be")
        return figures

    @staticmethod
    def _keep_file(client: Any, *, on_disk: bool) -> None:
        """Whether Redis writes its append-only file from now on; the first one is written when this returns."""
        client.config_set("appendonly", "yes" if on_disk else "no")
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)

    def _spec(self, contender: str, workload: Workload, task: dict[str, Any]) -> dict[str, Any]:
        return {
            "contender": contender,
            "bootstrap": self.kafka.bootstrap,
            "store": self.redis.url,
            "topics": workload.topics,
            "group": self.new_name(),
            "count": workload.count,
            **task,
        }

    def _measured(self, python: list[str], spec: dict[str, Any]) -> dict[str, Any]:
        command = [*python, "-m", "bench.run_one", json.dumps(spec)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            raise RuntimeError(f"{spec['contender']} failed:\n{done.stderr[-3000:]}")
        told = next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{"))
        figures: dict[str, Any] = json.loads(told)
        return figures
