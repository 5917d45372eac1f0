"""Runs handlers: sync ones in threads, async ones in an event loop of their own.

An executor takes a group (messages of one lane), runs it in order, stops at the first that raises, and posts it. It
decides nothing: what an exception means is the engine's business.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Collection
from queue import SimpleQueue
from typing import Protocol

from kafka_once.core.delivery import Delivery
from kafka_once.core.lane import Group
from kafka_once.errors import ConfigurationError
from kafka_once.intake import Route, Routes
from kafka_once.message import Message, TopicPartition

__all__ = ["Executor", "Handlers", "is_late"]

Post = Callable[[Group], None]


class Executor(Protocol):
    """Where groups run. `post` is called with a group when it has ended, from any thread."""

    def open(self, post: Post, clock_s: Callable[[], float]) -> None: ...

    def start(self, group: Group) -> None: ...

    def room(self) -> int:
        """How many more messages it takes now; only asked when lanes are not exclusive."""
        ...

    def withdraw(self, partitions: Collection[TopicPartition] | None) -> None:
        """End the groups of these partitions (all, if None) that nobody has begun, without results."""
        ...

    def close(self) -> None:
        """Take nothing more. Running handlers cannot be stopped; their threads do not keep the process alive."""
        ...


class Handlers:
    """The executor of an app: each topic's handler, in a thread or in the loop."""

    def __init__(self, routes: Routes, threads: int) -> None:
        self._routes = routes
        self._threads = _Threads(self._run_sync, threads)
        self._loop = _Loop(self._run_async)
        self._clock_s = time.monotonic

    def open(self, post: Post, clock_s: Callable[[], float]) -> None:
        self._threads.post = self._loop.post = post
        self._clock_s = clock_s

    def start(self, group: Group) -> None:
        route = self._routes.of(group.lane.partition.name.topic)
        assert route.signature is not None
        executor: _Threads | _Loop = self._loop if route.signature.is_async else self._threads
        executor.start(group)

    def room(self) -> int:
        raise AssertionError("lanes of handlers are exclusive")

    def withdraw(self, partitions: Collection[TopicPartition] | None) -> None:
        """There is a thread for every lane that may run, so none waits to begin."""

    def close(self) -> None:
        self._threads.close()
        self._loop.close()

    def _route(self, group: Group) -> Route:
        return self._routes.of(group.lane.partition.name.topic)

    def _is_late(self, group: Group) -> bool:
        return is_late(group, self._clock_s())

    def _run_sync(self, group: Group) -> None:
        route = self._route(group)
        assert route.handler is not None
        assert route.signature is not None
        results, handler, arguments = group.results, route.handler, route.signature.arguments
        started_ns = time.perf_counter_ns()
        for delivery in group.deliveries:
            if self._is_late(group):
                break
            try:
                returned = handler(*arguments(_told(delivery)))
                if inspect.isawaitable(returned):
                    _refuse_awaitable(route, returned)
            except BaseException as error:  # noqa: BLE001  (the engine says what it means)
                results.append(error)
                break
            results.append(None)
        _end(group, started_ns)

    async def _run_async(self, group: Group) -> None:
        route = self._route(group)
        assert route.handler is not None
        assert route.signature is not None
        started_ns = time.perf_counter_ns()
        for delivery in group.deliveries:
            if self._is_late(group):
                break
            try:
                await route.handler(*route.signature.arguments(_told(delivery)))  # type: ignore[misc]
            except asyncio.CancelledError:  # of the handler's own making: nothing of ours cancels it
                group.results.append(RuntimeError("the handler was cancelled"))
                break
            except BaseException as error:  # noqa: BLE001  (the engine says what it means)
                group.results.append(error)
                break
            group.results.append(None)
        _end(group, started_ns)


def is_late(group: Group, now_s: float) -> bool:
    """Whether the lease is not trusted any more, so that nothing of the group may be begun."""
    return group.begin_before_ms is not None and now_s * 1000 >= group.begin_before_ms


def _told(delivery: Delivery) -> Message:
    """The message with what the claim says about it."""
    message = delivery.message
    message.attempt = delivery.attempts + 1
    message.in_doubt = delivery.doubt
    message.fence = delivery.fence
    return message


def _refuse_awaitable(route: Route, returned: object) -> None:
    if inspect.iscoroutine(returned):
        returned.close()
    assert route.signature is not None
    raise ConfigurationError(
        "handler", route.signature.name, "it returned an awaitable, so nothing has run; write `async def`"
    )


def _end(group: Group, started_ns: int) -> None:
    group.took_ms = (time.perf_counter_ns() - started_ns) / 1e6
    group.ended = True


class _Threads:
    """Threads made as they are needed, up to a limit, which the engine keeps."""

    def __init__(self, run: Callable[[Group], None], limit: int) -> None:
        self.post: Post = lambda _group: None
        self._run = run
        self._limit = limit
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)

    def start(self, group: Group) -> None:
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._limit:
            name = f"kafka-once-handler-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(group)

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        while (group := self._queue.get()) is not None:
            self._run(group)
            self._idle.release()
            self.post(group)


class _Loop:
    """One event loop in one thread, made when the first async handler is to run."""

    def __init__(self, run: Callable[[Group], object]) -> None:
        self.post: Post = lambda _group: None
        self._run = run
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # a loop keeps weak references only

    def start(self, group: Group) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="kafka-once-loop", daemon=True).start()
        self._loop.call_soon_threadsafe(self._begin, group)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _begin(self, group: Group) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._work(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, group: Group) -> None:
        await self._run(group)  # type: ignore[misc]
        self.post(group)
