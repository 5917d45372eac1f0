"""Threads that run handlers: what one raises becomes a result, whatever it is, and the thread is free for the next."""

import asyncio
import time
from queue import SimpleQueue

import pytest

from kafka_once.core.delivery import Delivery
from kafka_once.core.lane import Group
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition
from kafka_once.core.semantics import KeyPolicy
from kafka_once.errors import ConfigurationError
from kafka_once.executors import Handlers
from kafka_once.intake import KeyRule, Route, Routes
from kafka_once.message import Message, TopicPartition
from kafka_once.signatures import HandlerSignature

PATIENCE_S = 20
RULE = KeyRule(None, None, KeyPolicy.STOP, stop_on_bad_payload=True)


def group_of(*offsets: int, begin_before_ms: int = 2**53) -> Group:
    lane = Partition(TopicPartition("t", 0), Pace(2.0, 500), Order.PARTITION).lane_of(Message("t", 0, 0))
    return Group(lane, [Delivery(Message("t", 0, offset), lane, None) for offset in offsets], begin_before_ms)


class Stand:
    """One executor with one place, and the groups that have ended."""

    def __init__(self, handler) -> None:
        route = Route(("t",), RULE, handler, HandlerSignature.of(handler))
        self.ended: SimpleQueue[Group] = SimpleQueue()
        self.handlers = Handlers(Routes([route]), limit=1)
        self.handlers.open(self.ended.put, time.monotonic)

    def run(self, group: Group) -> Group:
        self.handlers.start([group])
        return self.ended.get(timeout=PATIENCE_S)


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, ValueError])
def test_whatever_a_handler_raises_is_a_result_and_its_thread_goes_on(raised: type[BaseException]) -> None:
    """A17: none of these is a success, and none takes the thread with it."""

    def handle(message: Message) -> None:
        if message.offset == 0:
            raise raised

    stand = Stand(handle)
    try:
        first, second = stand.run(group_of(0, 1)), stand.run(group_of(1, 2))
    finally:
        stand.handlers.close()
    assert [type(result) for result in first.results] == [raised]  # what stood behind it did not run
    assert second.results == [None, None]


def test_a_handler_that_returns_what_nobody_awaits_is_no_success() -> None:
    """F07: a plain function that hands on what an async one gave it; nothing has run."""
    ran = []

    async def work(message: Message) -> None:
        ran.append(message.offset)

    def handle(message: Message) -> None:
        return work(message)

    stand = Stand(handle)
    try:
        group = stand.run(group_of(0, 1))
    finally:
        stand.handlers.close()
    assert [type(result) for result in group.results] == [ConfigurationError]
    assert ran == []


@pytest.mark.parametrize("returned", ["a coroutine", "a task", "a task that has ended"])
def test_an_async_handler_is_done_when_what_it_returns_is_done(returned: str) -> None:
    """F07: `return work(message)`, where `await` was forgotten or a task was made."""
    ran = []

    async def work(message: Message) -> None:
        await asyncio.sleep(0)
        ran.append(message.offset)
        if message.offset == 1:
            raise ValueError

    async def handle(message: Message) -> object:
        if returned == "a coroutine":
            return work(message)
        task = asyncio.ensure_future(work(message))
        if returned == "a task that has ended":
            await asyncio.wait([task])
        return task

    stand = Stand(handle)
    try:
        group = stand.run(group_of(0, 1, 2))
    finally:
        stand.handlers.close()
    assert ran == [0, 1]
    assert [type(result) for result in group.results] == [type(None), ValueError]


def test_nothing_is_begun_when_the_lease_is_not_trusted_any_more() -> None:
    """A10, A11: a process that was stopped in the middle of a group begins none of the rest."""
    ran = []

    def handle(message: Message) -> None:
        ran.append(message.offset)

    stand = Stand(handle)
    try:
        group = stand.run(group_of(0, 1, begin_before_ms=int(time.monotonic() * 1000) - 1))
    finally:
        stand.handlers.close()
    assert (ran, group.results) == ([], [])
