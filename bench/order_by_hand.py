"""The same as `order_run.py` by hand: a loop that polls, and a task for each message. It keeps no order, has no store
and commits nothing while it runs: what asyncio itself leaves of the bound.

python -m bench.order_by_hand '<spec as JSON>'
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

from confluent_kafka import Consumer, Message

from bench.order_books import PATIENCE_S, Books


def main() -> None:
    spec = json.loads(sys.argv[1])
    books = Books(spec)
    asyncio.run(asyncio.wait_for(consume(spec, books), PATIENCE_S))
    print(json.dumps(books.told()))


async def consume(spec: dict[str, Any], books: Books) -> None:
    group = f"g-{uuid.uuid4().hex[:8]}"
    consumer = Consumer(
        {"bootstrap.servers": spec["bootstrap"], "group.id": group, "auto.offset.reset": "earliest"}
        | {"enable.auto.commit": False}
    )
    consumer.subscribe([spec["topic"]])
    places, tasks = asyncio.Semaphore(books.limit), set[asyncio.Task[None]]()

    async def work(message: Message) -> None:
        try:
            books.begin(message.key() or b"", message.value() or b"")
            await asyncio.sleep(books.sleep_s)
            books.end(message.key() or b"", message.value() or b"")
        finally:
            places.release()

    while not books.done.is_set():
        messages = consumer.consume(500, 0)
        if not messages:
            await asyncio.sleep(0.001)
        for message in messages:
            if message.error():
                continue
            await places.acquire()
            task = asyncio.create_task(work(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    consumer.close()


if __name__ == "__main__":
    main()
