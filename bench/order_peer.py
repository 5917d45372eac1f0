"""The same as `order_run.py` with Pyrallel-Consumer from PyPI, in the environment of the peers. It has no store:
nothing is de-duplicated here."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import uuid
from typing import Any

from pyrallel_consumer import ExecutionMode, KafkaConfig, OrderingMode, PyrallelConsumer

from bench.order_books import PATIENCE_S, Books


def main() -> None:
    spec = json.loads(sys.argv[1])
    books = Books(spec)
    logging.disable(logging.INFO)
    asyncio.run(consume(spec, books))
    print(json.dumps(books.told()))


async def consume(spec: dict[str, Any], books: Books) -> None:
    config = KafkaConfig(BOOTSTRAP_SERVERS=[spec["bootstrap"]], CONSUMER_GROUP=f"g-{uuid.uuid4().hex[:8]}")
    config.dlq_enabled = False
    config.parallel_consumer.ordering_mode = OrderingMode.KEY_HASH
    config.parallel_consumer.execution.mode = ExecutionMode.ASYNC
    config.parallel_consumer.execution.max_in_flight = books.limit

    async def work(item: Any) -> None:
        books.begin(item.key, item.payload)
        await asyncio.sleep(books.sleep_s)
        books.end(item.key, item.payload)

    consumer = PyrallelConsumer(config=config, worker=work, topic=spec["topic"])
    await consumer.start()
    await asyncio.to_thread(books.done.wait, PATIENCE_S)
    await consumer.stop()


if __name__ == "__main__":
    main()
