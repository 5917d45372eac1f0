"""One consumer of the table of orders, in a process of its own; its handler sleeps and keeps books.

python -m bench.order_run '<spec as JSON>'
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import uuid
from typing import Any

from bench.order_books import PATIENCE_S, Books
from kafka_once import App, Message, header


def main() -> None:
    spec = json.loads(sys.argv[1])
    books = Books(spec)
    stats = consume(spec, books)
    print(json.dumps(books.told() | {"round_trips_per_1000": stats["store_calls"] / books.runs * 1000}))


def consume(spec: dict[str, Any], books: Books) -> dict[str, int]:
    lock = threading.Lock()
    settings = {"order": books.order, "concurrency": books.limit, "buffer": max(1_000, 5 * books.limit)}
    app = App(spec["bootstrap"], group=f"g-{uuid.uuid4().hex[:8]}", store=spec["store"], **settings)

    async def in_the_loop(message: Message) -> None:
        books.begin(*_parts(message))
        await asyncio.sleep(books.sleep_s)
        books.end(*_parts(message))

    def in_a_thread(message: Message) -> None:
        with lock:
            books.begin(*_parts(message))
        time.sleep(books.sleep_s)
        with lock:
            books.end(*_parts(message))

    app.handler(spec["topic"], key=header("idempotency-key"))(in_the_loop if books.kind == "async" else in_a_thread)
    app.start()
    books.done.wait(PATIENCE_S)
    app.stop()
    app.join(60)
    return app.stats()


def _parts(message: Message) -> tuple[bytes, bytes]:
    return message.key or b"", message.value or b""


if __name__ == "__main__":
    main()
