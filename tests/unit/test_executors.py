"""Where handlers run: in threads and in a loop, where they can be cancelled at their deadline."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kafka_once.core.delivery import Delivery
from kafka_once.core.lane import Group
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition
from kafka_once.core.semantics import KeyPolicy
from kafka_once.errors import InDoubt
from kafka_once.executors import Handlers
from kafka_once.intake import KeyRule, Route, Routes
from kafka_once.message import Message, TopicPartition
from kafka_once.signatures import HandlerSignature

PATIENCE_S = 20
FOR_EVER_MS = 10**15


class Bench:
    """An executor, and the groups that ended."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        rule = KeyRule(None, None, KeyPolicy.STOP, stop_on_bad_payload=True)
        routes = Routes([Route(("t",), rule, handler, HandlerSignature.of(handler))])
        self.handlers = Handlers(routes, 4)
        self._ended = threading.Semaphore(0)
        self.handlers.open(lambda _group: self._ended.release(), time.monotonic)
        self._partition = Partition(TopicPartition("t", 0), Pace(2.0, 10), Order.PARTITION)

    def start(self, *values: bytes) -> Group:
        messages = [Message("t", 0, offset, value=value) for offset, value in enumerate(values)]
        deliveries = [Delivery(m, self._partition.lane_of(m), None) for m in messages]
        group = Group(deliveries[0].lane, deliveries, FOR_EVER_MS)
        self.handlers.start([group])
        return group

    def cancel(self, group: Group, message: int) -> None:
        group.overdue, group.begin_before_ms = message, 0
        self.handlers.cancel(group)

    def wait(self) -> None:
        assert self._ended.acquire(timeout=PATIENCE_S)


def test_an_overdue_async_handler_is_cancelled_in_doubt_and_the_rest_of_its_group_comes_back() -> None:
    began = threading.Event()

    async def handle(payload: bytes) -> None:
        if payload == b"hangs":
            began.set()
            await asyncio.sleep(3600)

    bench = Bench(handle)
    group = bench.start(b"quick", b"hangs", b"behind")
    assert began.wait(PATIENCE_S)
    bench.cancel(group, 1)
    bench.wait()
    bench.handlers.close()

    first, second = group.results
    assert first is None
    assert isinstance(second, InDoubt)
    assert "at its deadline" in str(second)
    assert group.ended


def test_a_message_that_ended_meanwhile_is_not_cancelled_in_the_place_of_another() -> None:
    began, go = threading.Event(), threading.Event()

    async def handle(payload: bytes) -> None:
        if payload == b"second":
            began.set()
            await asyncio.to_thread(go.wait, PATIENCE_S)

    bench = Bench(handle)
    group = bench.start(b"first", b"second")
    assert began.wait(PATIENCE_S)
    bench.cancel(group, 0)
    go.set()
    bench.wait()
    bench.handlers.close()

    assert group.results == [None, None]


@pytest.mark.parametrize("cancels", ["itself", "what it waits for"])
def test_a_handler_that_cancels_itself_is_in_doubt_too(cancels: str) -> None:
    async def handle(_payload: bytes) -> None:
        if cancels == "itself":
            raise asyncio.CancelledError
        waited_for = asyncio.ensure_future(asyncio.sleep(3600))
        asyncio.get_running_loop().call_soon(waited_for.cancel)
        await waited_for

    bench = Bench(handle)
    group = bench.start(b"x")
    bench.wait()
    bench.handlers.close()

    assert isinstance(group.results[0], InDoubt)


def test_a_thread_is_not_cancelled() -> None:
    began, go = threading.Event(), threading.Event()

    def handle(_payload: bytes) -> None:
        began.set()
        assert go.wait(PATIENCE_S)

    bench = Bench(handle)
    group = bench.start(b"hangs", b"behind")
    assert began.wait(PATIENCE_S)
    bench.cancel(group, 0)
    assert not group.ended
    go.set()
    bench.wait()
    bench.handlers.close()

    assert group.results == [None]
