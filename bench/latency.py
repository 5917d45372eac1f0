"""Latency at 100 messages a second: from just before `produce` to the handler's start, by one clock of the machine.

The consumer is a process of its own. This one produces at a steady pace, and between two messages measures a PING of
Redis at the same pace: a machine that dozes between messages answers later than one that is busy.

    python -m bench.latency '<spec as JSON>'         # the consumer; started by `latency`
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from confluent_kafka import Consumer, Producer

from bench.sizes import Size
from bench.stage import Stage
from bench.tables import Measure, Row
from bench.workload import HEADER

__all__ = ["latency"]

_PER_S = 100
_WARM_UP = 100
_PARTITIONS = 4
_BYTES = 300
_PATIENCE_S = 60
_CONSUMERS = ("poll_loop", "at_least_once", "effectively_once")
PING = "PING of Redis"


def latency(stage: Stage, size: Size) -> Measure:
    rows = {name: Row(name, []) for name in (*_CONSUMERS, PING)}
    for _ in range(size.again):
        pings: list[float] = []
        for name in _CONSUMERS:
            rows[name].runs.append(_percentiles(_run(stage, name, size.latency_messages, pings)))
        rows[PING].runs.append(_percentiles(pings))
    bare = rows["poll_loop"].runs
    for name in _CONSUMERS:
        for run, other in zip(rows[name].runs, bare, strict=True):
            run["added_p50_ms"] = run["p50_ms"] - other["p50_ms"]
    note = (
        f"{_PER_S} messages a second, {size.latency_messages} of them counted in each run. From just before "
        "`produce` to the handler's start; added: against the bare loop of the same round. PING between the messages."
    )
    columns = (("p50_ms", "p50 ms", 2), ("p99_ms", "p99 ms", 2), ("added_p50_ms", "p50 added, ms", 2))
    return Measure("latency", "Latency added", note, columns, list(rows.values()))


def _percentiles(values_ms: list[float]) -> dict[str, Any]:
    ordered = sorted(values_ms)
    return {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[int(len(ordered) * 0.99)], "count": len(ordered)}


# ------------------------------------------------------------------------------------------------------- the producer


def _run(stage: Stage, name: str, messages: int, pings: list[float]) -> list[float]:
    topic = stage.new_name()
    stage.kafka.create_topic(topic, _PARTITIONS)
    stage.redis.client().flushall()
    spec = {"name": name, "bootstrap": stage.kafka.bootstrap, "store": stage.redis.url, "topic": topic}
    spec |= {"group": stage.new_name(), "last": _WARM_UP + messages - 1}
    command = [sys.executable, "-m", "bench.latency", json.dumps(spec)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        _await_start(process.stdout, stage, topic)
        _produce(stage, topic, range(_WARM_UP + messages), pings)
        told: list[float] = json.loads(process.stdout.readline())
        process.wait(_PATIENCE_S)
    finally:
        process.kill()
    if len(told) != messages:
        raise RuntimeError(f"{name} saw {len(told)} of {messages} messages")
    return told


def _await_start(told: TextIO, stage: Stage, topic: str) -> None:
    """Until a first message, which is not counted, has gone all the way."""
    _produce(stage, topic, [-1], [])
    assert told.readline().strip() == "began"


def _produce(stage: Stage, topic: str, numbers: Any, pings: list[float]) -> None:
    producer = Producer({"bootstrap.servers": stage.kafka.bootstrap, "linger.ms": 0})
    producer.list_topics(topic)  # it connects
    redis = stage.redis.client()
    redis.ping()
    began_s = time.monotonic()
    for sent, number in enumerate(numbers):
        _sleep_until(began_s + sent / _PER_S)
        value = f"{number} {time.monotonic_ns()} ".ljust(_BYTES, "x")
        headers: Any = [(HEADER, f"work-{number}".encode())]
        producer.produce(topic, value, partition=sent % _PARTITIONS, headers=headers)
        producer.poll(0)
        _sleep_until(began_s + (sent + 0.5) / _PER_S)
        before_ns = time.perf_counter_ns()
        redis.ping()
        if number >= _WARM_UP:
            pings.append((time.perf_counter_ns() - before_ns) / 1e6)
    producer.flush(_PATIENCE_S)


def _sleep_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.monotonic()))


# ------------------------------------------------------------------------------------------------------- the consumer


class _Times:
    """How long each message took to come here."""

    def __init__(self, last: int) -> None:
        self.taken_ms: list[float] = []
        self.done = threading.Event()
        self._last = last
        self._seen = 0

    def take(self, value: bytes) -> None:
        now_ns = time.monotonic_ns()
        number, sent_ns = map(int, value.split(b" ", 2)[:2])
        if number < 0:
            print("began", flush=True)
        else:
            self._seen += 1
        if number >= _WARM_UP:
            self.taken_ms.append((now_ns - sent_ns) / 1e6)
        if self._seen > self._last:
            self.done.set()


def main() -> None:
    spec = json.loads(sys.argv[1])
    times = _Times(spec["last"])
    consume: Callable[[dict[str, Any], _Times], None] = _bare if spec["name"] == "poll_loop" else _ours
    consume(spec, times)
    print(json.dumps(times.taken_ms), flush=True)


def _bare(spec: dict[str, Any], times: _Times) -> None:
    settings = {"bootstrap.servers": spec["bootstrap"], "group.id": spec["group"], "auto.offset.reset": "earliest"}
    consumer = Consumer(settings | {"enable.auto.commit": False})
    consumer.subscribe([spec["topic"]])
    counted = 0
    while not times.done.is_set():
        message = consumer.poll(1.0)
        if message is None:
            continue
        times.take(message.value())
        counted += 1
        if counted % 50 == 0:  # twice a second, as ours does
            consumer.commit(message=message, asynchronous=True)
    consumer.close()


def _ours(spec: dict[str, Any], times: _Times) -> None:
    from kafka_once import App, header

    protects = spec["name"] == "effectively_once"
    store = spec["store"] if protects else None
    app = App(spec["bootstrap"], group=spec["group"], store=store, semantics=spec["name"])

    def handle(payload: bytes) -> None:
        times.take(payload)

    app.handler(spec["topic"], key=header(HEADER) if protects else None)(handle)
    app.start()
    times.done.wait(_PATIENCE_S)
    app.stop()
    app.join(_PATIENCE_S)


if __name__ == "__main__":
    main()
