"""The worker that `kills.py` kills, and what can be read from its book.

python -m bench.kill_worker '<spec as JSON>'
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import redis
from confluent_kafka import Consumer

from bench.workload import HEADER
from kafka_once import App, Message, header
from kafka_once.keys import digest

__all__ = ["RECORD", "Life"]

RECORD = Struct("<B?6xq16s")
"""Kind, in doubt, time in ns, digest of the key. Its size divides a page: it is there as a whole or not at all."""
BEGAN, ENDED, TOTALS = 0, 1, 2
_TELL_EVERY_S = 0.1


@dataclass(slots=True)
class Life:
    """What one worker did, by its book."""

    begun: set[bytes] = field(default_factory=set)
    ended: set[bytes] = field(default_factory=set)
    in_doubt: set[bytes] = field(default_factory=set)
    _first_ns: int = 0  # when it began with what is not in doubt
    _last_ns: int = 0
    _settled: int = 0  # since then
    _totals: list[tuple[int, int]] = field(default_factory=list)  # calls to the store, messages that have an outcome

    def add(self, kind: int, doubt: object, time_ns: int, what: bytes) -> None:
        if kind == TOTALS:
            self._totals.append((int.from_bytes(what[:8], "little"), int.from_bytes(what[8:], "little")))
            return
        if kind == BEGAN:
            self.begun.add(what)
            if doubt:
                self.in_doubt.add(what)
                self._first_ns = 0
            return
        self.ended.add(what)
        if not self._first_ns:
            self._first_ns, self._settled = time_ns, 0
        self._last_ns = time_ns
        self._settled += 1

    def worked_for(self, seconds: float) -> bool:
        """Whether it has gone on for so long since the last message that was in doubt."""
        return self._first_ns > 0 and self._last_ns - self._first_ns >= seconds * 1e9

    def rates(self) -> dict[str, float]:
        """Messages/s of new keys, and what the store was asked for 1,000 messages."""
        per_s = self._settled / max(1e-9, (self._last_ns - self._first_ns) / 1e9)
        told = {"messages_per_s": per_s}
        if len(self._totals) > 1:
            (calls, messages), (all_calls, all_messages) = self._totals[0], self._totals[-1]
            told["round_trips_per_1000"] = (all_calls - calls) / max(1, all_messages - messages) * 1000
        return told


def main() -> None:
    spec = json.loads(sys.argv[1])
    book = os.open(spec["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    if spec["by_hand"]:
        batch_check_after(spec, book)
        return
    app = _app(spec, book)
    threading.Thread(target=_tell, args=(app, book), daemon=True).start()
    app.run()


def batch_check_after(spec: dict[str, Any], book: int) -> None:
    """The fastest loop by hand, as in `contenders.py`: what it leaves."""
    client, [topic] = redis.Redis.from_url(spec["store"]), spec["topics"]
    settings = {"bootstrap.servers": spec["bootstrap"], "group.id": spec["group"], "group.instance.id": "worker"}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    handler_s = spec["handler_ms"] / 1000
    while True:
        batch = consumer.consume(500, 0.05)
        keys = [digest(topic, dict(message.headers())[HEADER]) for message in batch]
        known = {key for key, value in zip(keys, client.mget(keys), strict=True) if value} if keys else set()
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            if key not in known:
                known.add(key)
                _write(book, BEGAN, key)
                if handler_s:
                    time.sleep(handler_s)
                _write(book, ENDED, key)
                pipeline.set(key, "1", ex=86_400)
        pipeline.execute()
        for message in {message.partition(): message for message in batch}.values():
            consumer.commit(message=message, asynchronous=True)


def _app(spec: dict[str, Any], book: int) -> App:
    app = App(
        spec["bootstrap"],
        group=spec["group"],
        store=spec["store"],
        cluster=spec["cluster"],
        instance_id="worker",
        attempts=1_000,
        on_failure="stop",
        **({"order": "none", "concurrency": spec["at_once"]} if spec["at_once"] else {}),
    )
    handler_s, topic = spec["handler_ms"] / 1000, spec["topics"][0]

    def handle(message: Message) -> None:
        what = digest(topic, message.idempotency_key or b"")
        _write(book, BEGAN, what, in_doubt=message.in_doubt)
        if handler_s:
            time.sleep(handler_s)
        _write(book, ENDED, what, in_doubt=message.in_doubt)

    async def handle_async(message: Message) -> None:
        what = digest(topic, message.idempotency_key or b"")
        _write(book, BEGAN, what, in_doubt=message.in_doubt)
        await asyncio.sleep(handler_s)
        _write(book, ENDED, what, in_doubt=message.in_doubt)

    app.handler(topic, key=header(HEADER))(handle_async if spec["at_once"] else handle)
    return app


def _write(book: int, kind: int, what: bytes, *, in_doubt: bool = False) -> None:
    os.write(book, RECORD.pack(kind, in_doubt, time.monotonic_ns(), what))


def _tell(app: App, book: int) -> None:
    """Now and then: how often the store was asked, and for how many messages."""
    while True:
        time.sleep(_TELL_EVERY_S)
        stats = app.stats()
        settled = sum(stats[name] for name in ("completed", "redelivery", "repeat"))
        totals = stats["store_calls"].to_bytes(8, "little") + settled.to_bytes(8, "little")
        _write(book, TOTALS, totals)


if __name__ == "__main__":
    main()
