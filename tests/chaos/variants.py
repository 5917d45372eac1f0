"""What people write by hand, as workers of the same campaign, to show that it bites. Never a part of the library.

naive-setnx: mark with SET NX, then handle. A kill in between loses the payment: its mark survives.
mark-after: look which of a batch are marked, handle the others, mark them. A kill doubles what it had handled.
"""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from confluent_kafka import Consumer, Message

from kafka_once.testing.campaign.ledger import Ledger
from kafka_once.testing.campaign.payments import KEY_HEADER
from kafka_once.testing.campaign.worker import WorkerSpec

BATCH = 500


class Shop:
    """What both loops have in common: a consumer, the marks in Redis, and the handler."""

    def __init__(self, spec: WorkerSpec) -> None:
        settings = spec.settings
        self.ledger = Ledger(Path(spec.folder), spec.life)
        self.marks: Any = redis.Redis.from_url(settings["store"])
        assert urlsplit(settings["store"]).scheme == "redis"
        self._group = settings["group"]
        self._handler_s = spec.handler_ms / 1000
        conf = {
            **settings["kafka"],
            "bootstrap.servers": settings["bootstrap_servers"],
            "group.id": settings["group"],
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
            "auto.commit.interval.ms": 500,
        }
        if "instance_id" in settings:
            conf["group.instance.id"] = settings["instance_id"]
        self.consumer = Consumer(conf)
        self.consumer.subscribe([spec.topic], on_assign=self._on_assign)

    def mark_of(self, message: Message) -> str:
        return f"mark:{self._group}:{key_of(message)}"

    def charge(self, message: Message) -> None:
        place = (key_of(message), message.partition() or 0, message.offset() or 0, 1)
        self.ledger.write_start(*place, in_doubt=False)
        time.sleep(self._handler_s)
        self.ledger.write_run(*place, in_doubt=False)

    def _on_assign(self, _consumer: Consumer, partitions: list[Any]) -> None:
        self.ledger.write_events("assigned", [partition.partition for partition in partitions])


def key_of(message: Message) -> str:
    key = dict(message.headers() or [])[KEY_HEADER]
    assert isinstance(key, bytes)
    return key.decode()


def naive_setnx(shop: Shop) -> None:
    message = shop.consumer.poll(0.1)
    if message is None or message.error():
        return
    shop.ledger.write_events("polled", [1])
    if shop.marks.set(shop.mark_of(message), 1, nx=True, ex=3600):
        shop.charge(message)
    shop.consumer.store_offsets(message)


def mark_after(shop: Shop) -> None:
    batch = [message for message in shop.consumer.consume(BATCH, 0.1) if not message.error()]
    if not batch:
        return
    shop.ledger.write_events("polled", [len(batch)])
    known = shop.marks.mget([shop.mark_of(message) for message in batch])
    handled = {key_of(message) for message, mark in zip(batch, known, strict=True) if mark}
    pipeline = shop.marks.pipeline(transaction=False)
    for message in batch:
        if key_of(message) not in handled:
            shop.charge(message)
            handled.add(key_of(message))
            pipeline.set(shop.mark_of(message), 1, ex=3600)
    pipeline.execute()
    for message in batch:
        shop.consumer.store_offsets(message)


VARIANTS: dict[str, Callable[[Shop], None]] = {"naive-setnx": naive_setnx, "mark-after": mark_after}


def program_of(variant: str) -> tuple[str, ...]:
    """What runs it as a worker."""
    return ("tests.chaos.variants", variant)


def main() -> None:
    step, spec = VARIANTS[sys.argv[1]], WorkerSpec.from_json(sys.argv[2])
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    shop = Shop(spec)
    while not stopping:
        step(shop)
    shop.consumer.close()


if __name__ == "__main__":
    main()
