"""How many handlers of 5 ms run at once by each order: messages/s, share of what the limit allows, order errors.

    python bench/orders.py                                # async and threads, limits 100 and 1,000
    python bench/orders.py --only 'key/async/*' --runs 5  # some of them, the median of five

Starts a Kafka and a Redis of its own, and a process for each run. The messages (300 bytes, 1,000 record keys evenly
drawn, an idempotency key of their own in a header) are produced before. The handler sleeps and keeps books: whether the
messages of a record key ran one after another and in their order. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from fnmatch import fnmatch
from typing import Any

from confluent_kafka import Producer

from kafka_once import App, Message, header
from kafka_once.testing.services import KafkaServer, start_kafka, start_redis

CONTENDERS = (
    "partition/async/100",
    "key/async/100",
    "key/async/1000",
    "key/threads/100",
    "key/threads/1000",
    "none/async/100",
)
PARTITIONS, PAYLOAD_BYTES = 4, 300
PATIENCE_S = 300


def main() -> None:
    options = arguments()
    if options.one is not None:
        print(json.dumps(Run(json.loads(options.one)).measure()))
        return
    names = [name for name in CONTENDERS if fnmatch(name, options.only)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with start_kafka(options.kafka) as kafka, start_redis(options.redis, config={"appendonly": "no"}) as redis:
        topics = {size: produced(kafka, size, options) for size in {sized(name, options) for name in names}}
        for _ in range(options.runs):  # interleaved, so that a busy minute of the machine falls on all of them
            for name in names:
                spec = {
                    "name": name,
                    "bootstrap": kafka.bootstrap,
                    "store": redis.url,
                    "topic": topics[sized(name, options)],
                    "messages": sized(name, options),
                    "handler_ms": options.handler_ms,
                }
                results[name].append(in_a_process(spec))
                print(f"{name}: {results[name][-1]}", file=sys.stderr)
        servers = {"kafka": str(kafka), "redis": redis.version}
    medians = {name: median_of(runs) for name, runs in results.items()}
    print(table(medians))
    told = {"handler_ms": options.handler_ms, "servers": servers, "cpus": os.cpu_count(), "results": medians}
    print(json.dumps(told))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=60_000, help="of one run (default 60,000)")
    parser.add_argument("--keys", type=int, default=1_000, help="record keys (default 1,000)")
    parser.add_argument("--handler-ms", type=float, default=5.0, help="how long a handler sleeps (default 5)")
    parser.add_argument("--runs", type=int, default=1, help="the median of so many is told (default 1)")
    parser.add_argument("--only", default="*", help=f"a pattern for the names: {', '.join(CONTENDERS)}")
    parser.add_argument("--kafka", default=None, help="apache, mock, docker; default: the best that is to be had")
    parser.add_argument("--redis", default=None, help="local, embedded, docker; default: the best that is to be had")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def sized(name: str, options: argparse.Namespace) -> int:
    """By partition a hundred times fewer run at once."""
    return int(options.messages) // 20 if name.startswith("partition") else options.messages


def produced(kafka: KafkaServer, messages: int, options: argparse.Namespace) -> str:
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5, "enable.idempotence": True})
    chance, sent = random.Random(7), Counter[str]()
    for number in range(messages):
        account = f"account-{chance.randrange(options.keys)}"
        value = f"{sent[account]:010}".ljust(PAYLOAD_BYTES, ".")
        sent[account] += 1
        producer.produce(topic, value, account, headers=[("idempotency-key", f"work-{number}".encode())])
        producer.poll(0)
        if not number % 10_000:
            producer.flush()
    if producer.flush(60):
        raise SystemExit("Kafka did not take all messages")
    return topic


def in_a_process(spec: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", json.dumps(spec)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S + 60, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


class Run:
    """One consumer, until every message has run."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._order, self._kind, limit = spec["name"].split("/")
        self._limit = int(limit)
        self._sleep_s = spec["handler_ms"] / 1000
        self._lock = threading.Lock()
        self._running: dict[bytes, float] = {}  # record key → when it began
        self._busy_s = 0.0
        self._last: dict[bytes, int] = {}
        self.runs = self.errors = 0
        self._first_s = self._last_s = 0.0
        self._done = threading.Event()

    def measure(self) -> dict[str, Any]:
        spec = self._spec
        app = App(
            spec["bootstrap"],
            group=f"g-{uuid.uuid4().hex[:8]}",
            store=spec["store"],
            order=self._order,
            concurrency=self._limit,
            buffer=max(1_000, 5 * self._limit),
        )
        app.handler(spec["topic"], key=header("idempotency-key"))(self._async if self._kind == "async" else self._sync)
        app.start()
        finished = self._done.wait(PATIENCE_S)
        cpu_s = time.process_time()
        app.stop()
        app.join(60)
        seconds = self._last_s - self._first_s
        rate = self.runs / seconds
        bound = min(self._limit, PARTITIONS if self._order == "partition" else self._limit) / self._sleep_s
        stats = app.stats()
        return {
            "finished": finished,
            "messages": self.runs,
            "per_s": round(rate),
            "of_bound": round(rate / bound, 3),
            "cpu_us": round(cpu_s / self.runs * 1e6, 1),
            "calls_per_1000": round(stats["store_calls"] / self.runs * 1000),
            "order_errors": self.errors,
            "at_once": round(self._busy_s / seconds, 1),
            "handler_ms": round(self._busy_s / self.runs * 1000, 2),
            "outcomes": {name: stats[name] for name in ("completed", "redelivery", "repeat") if stats[name]},
        }

    # ----------------------------------------------------------------------------------------------------- the handlers

    async def _async(self, message: Message) -> None:
        self._begin(message)
        await asyncio.sleep(self._sleep_s)
        self._end(message)

    def _sync(self, message: Message) -> None:
        with self._lock:
            self._begin(message)
        time.sleep(self._sleep_s)
        with self._lock:
            self._end(message)

    def _begin(self, message: Message) -> None:
        account, value = message.key, message.value
        assert account is not None
        assert value is not None
        number = int(value[:10])
        if self._order == "none":  # each by itself
            account = value[:10] + account
        elif number != self._last.get(account, -1) + 1 or account in self._running:
            self.errors += 1
        self._running[account] = time.perf_counter()
        self._last[account] = number
        if not self._first_s:
            self._first_s = time.perf_counter()

    def _end(self, message: Message) -> None:
        account = message.key or b""
        if self._order == "none":
            account = (message.value or b"")[:10] + account
        self._busy_s += time.perf_counter() - self._running.pop(account)
        self.runs += 1
        if self.runs == self._spec["messages"]:
            self._last_s = time.perf_counter()
            self._done.set()


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run in the middle by messages/s, with the spread of all; an error in any of them is kept."""
    ordered = sorted(runs, key=lambda run: run["per_s"])
    middle = dict(ordered[len(ordered) // 2])
    middle["per_s_from_to"] = [ordered[0]["per_s"], ordered[-1]["per_s"]]
    middle["order_errors"] = sum(run["order_errors"] for run in runs)
    middle["finished"] = all(run["finished"] for run in runs)
    middle["cpu_us"] = statistics.median(run["cpu_us"] for run in runs)
    return middle


def table(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        "| order / handlers / limit | messages/s | of limit ÷ handler time | CPU µs/message | calls/1,000 | errors |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        low, high = result["per_s_from_to"]
        rows.append(
            f"| {name} | {result['per_s']:,} ({low:,} to {high:,}) | {result['of_bound']:.0%} | {result['cpu_us']} "
            f"| {result['calls_per_1000']} | {result['order_errors']} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
