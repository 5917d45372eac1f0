"""The contenders, each a function that consumes a topic to its end and says what it did.

Those of confluent-kafka and redis-py alone are written as well as a good engineer would: explicit commits, pipelines,
hiredis, scripts where they help. Their names say what they give up; see bench/README.md.

The clock of each runs from the moment that Kafka assigns the partitions, before anything is fetched, to the moment that
the last message is settled: so nobody finds messages that the client fetched before the clock ran.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaException

from bench.process_books import cpu_of_threads_s
from bench.workload import HEADER

__all__ = ["CONTENDERS", "DEDUPLICATE", "Task"]

_BATCH = 500
_DAY_S = 86_400


@dataclass(slots=True)
class Task:
    """What to consume, and what was seen of it: `began` is called at the assignment, `ended` when all is settled."""

    bootstrap: str
    store: str
    topics: list[str]
    group: str
    count: int
    handler_s: float = 0.0
    stop_after: int = 0  # so many are enough; 0: all
    concurrency: int = 100
    settings: dict[str, Any] = field(default_factory=dict)  # of the App
    figures: dict[str, Any] = field(default_factory=dict)  # what a contender adds to what is measured of all
    began_s: float = 0.0
    began_cpu_s: float = 0.0
    began_threads_s: dict[str, float] = field(default_factory=dict)
    ended_s: float = 0.0
    ended_cpu_s: float = 0.0
    ended_threads_s: dict[str, float] = field(default_factory=dict)
    deliveries: int = 0
    processings: int = 0

    def began(self) -> None:
        if not self.began_s:
            self.began_threads_s = cpu_of_threads_s()
            self.began_s, self.began_cpu_s = time.perf_counter(), time.process_time()

    def ended(self) -> None:
        self.ended_s, self.ended_cpu_s = time.perf_counter(), time.process_time()
        self.ended_threads_s = cpu_of_threads_s()

    def consumer(self) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
            }
        )
        consumer.subscribe(self.topics, on_assign=lambda *_: self.began())
        return consumer


def _do_nothing(_value: bytes) -> None:
    """The handler of loops by hand."""


def _handle(message: Any) -> None:
    """What every loop does with a message."""
    if message.error():
        raise KafkaException(message.error())
    _do_nothing(message.value())


def _handle_all(batch: list[Any]) -> int:
    for message in batch:
        _handle(message)
    return len(batch)


def _key(message: Any) -> str:
    return "dedup:" + dict(message.headers())[HEADER].decode()


# ----------------------------------------------------------------------------------------------- without de-duplication


def poll_loop(task: Task) -> None:
    """A bare poll() loop that commits every 500 messages: at least once."""
    consumer, deliveries = task.consumer(), 0
    while deliveries < task.count:
        message = consumer.poll(1.0)
        if message is None:
            continue
        deliveries += 1
        _handle(message)
        if task.handler_s:
            time.sleep(task.handler_s)
        if deliveries % _BATCH == 0 or deliveries == task.count:
            consumer.commit(message=message, asynchronous=deliveries < task.count)
    task.ended()
    task.deliveries = task.processings = deliveries
    consumer.close()


def batch_loop(task: Task) -> None:
    """consume() of 500, then a commit: at least once."""
    _by_batches(task, _handle_all)


def _by_batches(task: Task, handle: Callable[[list[Any]], int]) -> None:
    consumer, deliveries, processings = task.consumer(), 0, 0
    first = None
    while first is None:  # consume() of many waits for many
        first = consumer.poll(1.0)
    batch = [first]
    while True:
        deliveries += len(batch)
        processings += handle(batch)
        for message in {message.partition(): message for message in batch}.values():
            consumer.commit(message=message, asynchronous=deliveries < task.count)
        if deliveries >= task.count:
            break
        batch = consumer.consume(_BATCH, 0.05)
    task.ended()
    task.deliveries, task.processings = deliveries, processings
    consumer.close()


# ------------------------------------------------------------------------------------------------------------- by hand


def setnx_loop(task: Task) -> None:
    """SET NX for each message, then the handler: the way most people write it. A crash loses what was marked."""
    import redis

    client = redis.Redis.from_url(task.store)
    consumer, deliveries, processings = task.consumer(), 0, 0
    while deliveries < task.count:
        message = consumer.poll(1.0)
        if message is None:
            continue
        deliveries += 1
        if client.set(_key(message), "1", nx=True, ex=_DAY_S):
            _handle(message)
            processings += 1
        if deliveries % _BATCH == 0 or deliveries == task.count:
            consumer.commit(message=message, asynchronous=deliveries < task.count)
    task.ended()
    task.deliveries, task.processings = deliveries, processings
    consumer.close()


def batch_check_after(task: Task) -> None:
    """Look 500 up in one pipeline, handle those that are new, mark them in another: the fastest by hand, and not safe.

    A crash runs up to 500 again; two members that have the same key at once both run it.
    """
    import redis

    client = redis.Redis.from_url(task.store)

    def handle(batch: list[Any]) -> int:
        keys = [_key(message) for message in batch]
        known = set()
        for key, value in zip(keys, client.mget(keys), strict=True):
            if value is not None:
                known.add(key)
        fresh = []
        for key, message in zip(keys, batch, strict=True):
            if key not in known:
                known.add(key)
                _handle(message)
                fresh.append(key)
        if fresh:
            pipeline = client.pipeline(transaction=False)
            for key in fresh:
                pipeline.set(key, "1", ex=_DAY_S)
            pipeline.execute()
        return len(fresh)

    _by_batches(task, handle)


def batch_check_after_gc(task: Task) -> None:
    """The same in a program that lets Python's garbage collector look less often."""
    gc.set_threshold(20_000, 10, 10)
    batch_check_after(task)


def powertools(task: Task) -> None:
    """AWS Lambda Powertools with its Redis layer, in a plain loop; in an environment of its own."""
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
    from aws_lambda_powertools.utilities.idempotency.persistence.redis import RedisCachePersistenceLayer

    processings = 0

    @idempotent_function(
        data_keyword_argument="key",
        persistence_store=RedisCachePersistenceLayer(url=task.store),
        config=IdempotencyConfig(expires_after_seconds=_DAY_S),
    )
    def process(message: Any, key: str) -> str:
        nonlocal processings
        _handle(message)
        processings += 1
        return key

    consumer, deliveries = task.consumer(), 0
    while deliveries < task.count:
        message = consumer.poll(1.0)
        if message is None:
            continue
        deliveries += 1
        process(message, key=_key(message))
        if deliveries % _BATCH == 0 or deliveries == task.count:
            consumer.commit(message=message, asynchronous=deliveries < task.count)
    task.ended()
    task.deliveries, task.processings = deliveries, processings
    consumer.close()


# ---------------------------------------------------------------------------------------------------------------- ours


class _Assignment:
    """An observer: the clock runs from here."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def on_note(self, note: Any) -> None:
        from kafka_once import Kind

        if note.kind is Kind.ASSIGNED:
            self._task.began()


def _app(task: Task, *, semantics: str) -> None:
    from kafka_once import App, header

    protects = semantics == "effectively_once"
    app = App(
        task.bootstrap,
        group=task.group,
        store=task.store if protects else None,
        semantics=semantics,
        report_every=None,
        observers=[_Assignment(task)],
        **task.settings,
    )

    def handle(_payload: bytes) -> None:
        if task.handler_s:
            time.sleep(task.handler_s)

    for topic in task.topics:  # a handler each
        app.handler(topic, key=header(HEADER) if protects else None)(handle)
    app.start()
    wanted = task.stop_after or task.count
    while sum(app.stats()[name] for name in ("completed", "redelivery", "repeat")) < wanted:
        if app.join(0.01):
            break
    task.ended()
    app.stop()
    app.join(60)
    stats = app.stats()
    task.deliveries, task.processings = stats["deliveries"], stats["processings"]
    task.figures["round_trips_per_1000"] = stats["store_calls"] / wanted * 1000


def at_least_once(task: Task) -> None:
    """kafka-once without a store: the bare engine."""
    _app(task, semantics="at_least_once")


def effectively_once(task: Task) -> None:
    """kafka-once as it comes."""
    _app(task, semantics="effectively_once")


def effectively_once_gc(task: Task) -> None:
    """kafka-once in a program that lets Python's garbage collector look less often, as docs/performance.md advises."""
    gc.set_threshold(20_000, 10, 10)
    _app(task, semantics="effectively_once")


CONTENDERS: dict[str, Callable[[Task], None]] = {
    "poll_loop": poll_loop,
    "batch_loop": batch_loop,
    "setnx_loop": setnx_loop,
    "batch_check_after": batch_check_after,
    "batch_check_after_gc": batch_check_after_gc,
    "powertools": powertools,
    "at_least_once": at_least_once,
    "effectively_once": effectively_once,
    "effectively_once_gc": effectively_once_gc,
}

DEDUPLICATE = {
    *("setnx_loop", "batch_check_after", "batch_check_after_gc", "powertools"),
    *("effectively_once", "effectively_once_gc"),
}
