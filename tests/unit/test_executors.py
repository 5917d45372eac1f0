"""Where handlers run: in threads and in a loop, where they can be cancelled at their deadline."""

import asyncio
import contextvars
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


def cannot_start(*_arguments: object) -> None:
    """As for want of memory."""
    raise RuntimeError("can't start new thread")


class Bench:
    """An executor, and the groups that ended."""

    def __init__(self, handler: Callable[..., Any], sync: Callable[..., Any] | None = None) -> None:
        """`sync`: the handler of a second topic, "sync"."""
        rule = KeyRule(None, None, KeyPolicy.STOP, stop_on_bad_payload=True)
        handlers = {"t": handler, **({"sync": sync} if sync else {})}
        routes = [Route((topic,), rule, each, HandlerSignature.of(each)) for topic, each in handlers.items()]
        self.handlers = Handlers(Routes(routes), 4)
        self._ended = threading.Semaphore(0)
        self.handlers.open(lambda _group: self._ended.release(), time.monotonic)

    def start(self, *values: bytes, topic: str = "t") -> Group:
        partition = Partition(TopicPartition(topic, 0), Pace(2.0, 10), Order.PARTITION)
        messages = [Message(topic, 0, offset, value=value) for offset, value in enumerate(values)]
        deliveries = [Delivery(m, partition.lane_of(m), None) for m in messages]
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


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_task_of_a_handlers_own_that_ends_programs_takes_no_other_handler_with_it(
    end: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def exits() -> None:
        raise end

    async def handle(payload: bytes) -> None:
        if payload == b"exits":
            await asyncio.create_task(exits())

    bench = Bench(handle)
    exiting = bench.start(b"exits")
    bench.wait()
    later = bench.start(b"later")
    bench.wait()
    bench.handlers.close()

    assert [type(result) for result in exiting.results] == [end]
    assert later.results == [None]
    assert "a task ended with what ends programs" in caplog.text


def test_a_handler_that_stops_the_loop_does_not_stop_the_others() -> None:
    async def handle(_payload: bytes) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)

    bench = Bench(handle)
    groups = [bench.start(b"x"), bench.start(b"y")]
    bench.wait()
    bench.wait()
    bench.handlers.close()

    assert [group.results for group in groups] == [[None], [None]]


def test_a_handler_that_cancels_every_task_does_not_cancel_what_has_not_begun() -> None:
    go = threading.Event()

    async def handle(payload: bytes) -> None:
        if payload == b"cancels":
            go.wait(PATIENCE_S)  # holds the loop, until a task for the next one waits there
            await asyncio.sleep(0)
        elif payload == b"is cancelled":
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(3600)

    bench = Bench(handle)
    bench.start(b"cancels")
    cancelling = bench.start(b"is cancelled")
    unbegun = bench.start(b"behind")
    go.set()
    for _ in range(3):
        bench.wait()
    bench.handlers.close()

    assert isinstance(cancelling.results[0], InDoubt)
    assert unbegun.results == [None]


def test_what_a_handler_sets_in_its_context_is_not_there_in_the_one_that_follows_in_its_place() -> None:
    tenant = contextvars.ContextVar("tenant", default="nobody's")
    seen, go = [], threading.Event()

    async def handle(payload: bytes) -> None:
        seen.append(tenant.get())
        tenant.set(payload.decode())
        await asyncio.to_thread(go.wait, PATIENCE_S)

    bench = Bench(handle)
    for number in range(9):  # of which four have a place
        bench.start(b"%d" % number)
    go.set()
    for _ in range(9):
        bench.wait()
    bench.handlers.close()

    assert seen == ["nobody's"] * 9


def test_a_task_factory_of_the_users_has_no_part_in_it() -> None:
    """An eager one would run a handler while the loop's books are written."""
    factories = []

    async def handle(_payload: bytes) -> None:
        loop = asyncio.get_running_loop()
        if hasattr(asyncio, "eager_task_factory"):  # Python 3.12
            loop.set_task_factory(asyncio.eager_task_factory)
        else:
            loop.set_task_factory(lambda *_arguments, **_options: factories.append("asked"))  # type: ignore[arg-type]

    bench = Bench(handle)
    groups = []
    for _ in range(10):
        groups.append(bench.start(b"x"))
        bench.wait()
    bench.handlers.close()

    assert [group.results for group in groups] == [[None]] * 10
    assert factories == []


def test_what_cannot_be_begun_in_the_place_of_another_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An async handler's end lets a sync one begin, for which there is no thread."""
    go = threading.Event()

    async def waits(_payload: bytes) -> None:
        await asyncio.to_thread(go.wait, PATIENCE_S)

    def runs(_payload: bytes) -> None:
        raise AssertionError("it has no thread")

    bench = Bench(waits, runs)
    first = [bench.start(b"x") for _ in range(4)]
    following = [bench.start(b"x", topic="sync") for _ in range(2)]
    monkeypatch.setattr(bench.handlers._threads, "start", cannot_start)
    go.set()
    for _ in range(6):
        bench.wait()
    again = bench.start(b"x")
    bench.wait()
    bench.handlers.close()

    assert [group.results for group in (*first, again)] == [[None]] * 5
    assert [group.results for group in following] == [[], []]


def test_an_event_loop_without_a_thread_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(_payload: bytes) -> None:
        """Nothing."""

    bench = Bench(handle)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", cannot_start)
        with pytest.raises(RuntimeError, match="can't start"):
            bench.start(b"x")
    group = bench.start(b"y")
    bench.wait()
    bench.handlers.close()

    assert group.results == [None]


def test_a_thread_is_not_cancelled() -> None:
    began, go = threading.Event(), threading.Event()

    def handle(_payload: bytes) -> None:
        began.set()
        assert go.wait(PATIENCE_S)

    bench = Bench(handle)
    group = bench.start(b"hangs", b"behind")
    assert began.wait(PATIENCE_S)
    bench.cancel(group, 0)
    assert group.results == []
    go.set()
    bench.wait()
    bench.handlers.close()

    assert group.results == [None]
