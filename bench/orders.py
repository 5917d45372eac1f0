"""How many handlers of 5 ms run at once by each order: messages/s, share of what the limit allows, order errors.

    python -m bench.orders                                # async and threads, limits 100 and 1,000
    python -m bench.orders --only 'key/async/*' --runs 5  # some of them, the median of five

Starts a Kafka and a Redis of its own, and a process for each run (`order_run.py`). The messages (300 bytes, 1,000
record keys evenly drawn, an idempotency key of their own in a header) are produced before.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from typing import Any

from confluent_kafka import Producer

from bench.order_books import PARTITIONS, PATIENCE_S
from bench.sizes import Size
from bench.stage import Stage
from bench.tables import Measure, Row
from kafka_once.testing.services import start_kafka, start_redis

__all__ = ["orders"]

OURS = (
    "partition/async/100",
    "key/async/100",
    "key/async/1000",
    "key/threads/100",
    "key/threads/1000",
    "none/async/100",
)
PYRALLEL = ("pyrallel/key/async/100", "pyrallel/key/async/1000")  # 1,000 is its default
BY_HAND = "by_hand/none/async/100"
_PROGRAMS = {"by_hand": "bench.order_by_hand", "pyrallel": "bench.order_peer"}
_FEWER = {"partition": 20, "pyrallel": 4}  # so that the slow ones take no longer than the others
_PAYLOAD_BYTES, _KEYS = 300, 1_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.orders", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=60_000, help="of one run (default 60,000)")
    parser.add_argument("--handler-ms", type=float, default=5.0, help="how long a handler sleeps (default 5)")
    parser.add_argument("--runs", type=int, default=1, help="the median of so many is told (default 1)")
    parser.add_argument("--only", default="*", help=f"a pattern for the names: {', '.join((*OURS, BY_HAND))}")
    options = parser.parse_args()
    names = [name for name in (*OURS, BY_HAND) if fnmatch(name, options.only)]
    with start_kafka("apache") as kafka, start_redis("local", config={"appendonly": "no"}) as redis:
        measure = _measured(Stage(kafka, redis), names, None, options.messages, options.runs, options.handler_ms)
    print(measure.as_markdown())
    print(json.dumps(measure.as_json()))


def orders(stage: Stage, size: Size, peers: str | None) -> Measure:
    names = [*OURS, BY_HAND, *(PYRALLEL if peers else ())] if size.again > 1 else ["key/async/100", "key/threads/100"]
    return _measured(stage, names, peers, size.order_messages, size.again, 5.0)


def _measured(
    stage: Stage, names: list[str], peers: str | None, messages: int, rounds: int, handler_ms: float
) -> Measure:
    rows = {name: Row(name, []) for name in names}
    sizes = {name: messages // _FEWER.get(name.partition("/")[0], 1) for name in names}
    topics = {count: _produced(stage, count) for count in set(sizes.values())}
    for _ in range(rounds):
        for name, row in rows.items():
            stage.redis.client().flushall()
            spec = {"name": name, "bootstrap": stage.kafka.bootstrap, "store": stage.redis.url}
            spec |= {"topic": topics[sizes[name]], "messages": sizes[name], "handler_ms": handler_ms}
            python = peers if name in PYRALLEL and peers else sys.executable
            row.runs.append(_in_a_process(python, spec))
    note = (
        f"Handlers of {handler_ms:g} ms, {messages:,} messages (fewer for slow ones), {_KEYS:,} record keys, "
        f"{PARTITIONS} partitions. The names: order, handlers, limit. The bound: the handlers that may run at once "
        f"(the limit, but {PARTITIONS} with order partition) ÷ the handler's time. The clock runs from the first "
        "handler's start to the last one's end. `buffer` is 1,000, or five times the limit if that is more. "
        "Pyrallel-Consumer has no store and de-duplicates nothing. The loop by hand has neither store nor order: a "
        "task of asyncio for each message, and nothing else."
    )
    columns = (
        ("messages_per_s", "messages/s", 0),
        ("of_bound", "% of the bound", 0),
        ("cpu_us", "client CPU µs/message", 0),
        ("round_trips_per_1000", "round trips/1,000", 0),
        ("order_errors", "order errors", 0),
    )
    return Measure("orders", "Orders", note, columns, list(rows.values()))


def _produced(stage: Stage, messages: int) -> str:
    topic = stage.new_name()
    stage.kafka.create_topic(topic, PARTITIONS)
    producer = Producer({"bootstrap.servers": stage.kafka.bootstrap, "linger.ms": 5, "enable.idempotence": True})
    chance, sent = random.Random(7), Counter[str]()
    for number in range(messages):
        account = f"account-{chance.randrange(_KEYS)}"
        value = f"{sent[account]:010}".ljust(_PAYLOAD_BYTES, ".")
        sent[account] += 1
        producer.produce(topic, value, account, headers=[("idempotency-key", f"work-{number}".encode())])
        producer.poll(0)
        if not number % 10_000:
            producer.flush()
    if producer.flush(60):
        raise SystemExit("Kafka did not take all messages")
    return topic


def _in_a_process(python: str, spec: dict[str, Any]) -> dict[str, Any]:
    program = _PROGRAMS.get(spec["name"].partition("/")[0], "bench.order_run")
    command = [python, "-m", program, json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"{spec['name']} failed:\n{done.stderr[-3000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
