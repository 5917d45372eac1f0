"""Runs handlers: sync ones in threads, async ones in an event loop of their own.

An executor takes a group (messages of one lane), runs it in order, stops at the first that raises, and posts it. It
decides nothing: what an exception means is the engine's business.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import Protocol

from kafka_once.core.delivery import Delivery
from kafka_once.core.lane import Group
from kafka_once.errors import ConfigurationError, InDoubt
from kafka_once.handler_loop import HandlerLoop
from kafka_once.intake import Route, Routes
from kafka_once.message import Message, TopicPartition

__all__ = ["Executor", "Handlers", "is_late"]

Post = Callable[[Group], None]
Around = Callable[[Message], AbstractContextManager[object]]

log = logging.getLogger("kafka_once")

_NOTHING = nullcontext()


class Executor(Protocol):
    """Where groups run. `post` is called with a group when it has ended, from any thread."""

    def open(self, post: Post, clock_s: Callable[[], float]) -> None: ...

    def start(self, groups: Sequence[Group]) -> None:
        """Run these, each by itself: all that one turn of the runner has, so that they share a hand-over."""
        ...

    def room(self) -> int:
        """How many more messages it takes now; only asked when lanes are not exclusive."""
        ...

    def withdraw(self, partitions: Collection[TopicPartition] | None) -> None:
        """End the groups of these partitions (all, if None) that nobody has begun, without results."""
        ...

    def cancel(self, group: Group) -> None:
        """The message `group.overdue` has passed its deadline: end its run if that can be done."""
        ...

    def close(self) -> None:
        """Take nothing more. Running handlers cannot be stopped; their threads do not keep the process alive."""
        ...


class Handlers:
    """The executor of an app: each topic's handler, in a thread or in the loop, `limit` groups at once in all.

    What is claimed a little ahead waits here for a place, and whoever ends a group goes on with the next one: so places
    are not empty while the engine and the store are busy with what has ended.

    Args:
        routes: which handler a topic has.
        limit: groups at once.
        around: gives what is entered around each run; None for nothing.
    """

    def __init__(self, routes: Routes, limit: int, around: Around | None = None) -> None:
        self._routes = routes
        self._around = around
        self._places = _Places(limit)
        self._threads = _Threads(self._work, limit)
        self._loop = HandlerLoop(self._work_async)
        self._post: Post = lambda _group: None
        self._clock_s = time.monotonic

    def open(self, post: Post, clock_s: Callable[[], float]) -> None:
        self._post = post
        self._clock_s = clock_s

    def start(self, groups: Sequence[Group]) -> None:
        self._begin(self._places.take(groups))

    def room(self) -> int:
        raise AssertionError("lanes of handlers are exclusive")

    def withdraw(self, partitions: Collection[TopicPartition] | None) -> None:
        for group in self._places.withdraw(partitions):
            self._post(group)

    def cancel(self, group: Group) -> None:
        """Tasks can be cancelled, threads cannot."""
        self._loop.cancel(group)

    def close(self) -> None:
        self._places.close()
        self._threads.close()
        self._loop.close()

    def _begin(self, groups: Sequence[Group]) -> None:
        tasks = []
        for group in groups:
            if self._is_async(group):
                tasks.append(group)
            else:
                self._threads.start(group)
        if tasks:
            self._loop.start(tasks)

    def _is_async(self, group: Group) -> bool:
        signature = self._route(group).signature
        assert signature is not None
        return signature.is_async

    def _work(self, group: Group) -> Group | None:
        """In a thread: returns the group that the thread goes on with."""
        self._run_sync(group)
        following = self._places.next()
        self._post(group)
        if following is not None and self._is_async(following):
            self._go_on(following)
            return None
        return following

    async def _work_async(self, group: Group) -> None:
        try:
            await self._run_async(group)
        finally:
            self._loop.forget(group)
        following = self._places.next()
        self._post(group)
        if following is not None:
            self._go_on(following)

    def _go_on(self, following: Group | None) -> None:
        """In the place of a group that has ended. One that cannot be begun comes back without results."""
        while following is not None:
            try:
                self._begin([following])
            except (RuntimeError, OSError):  # no thread, no event loop: for want of memory or of descriptors
                log.exception("a handler could not be started")
                self._post(following)
                following = self._places.next()
            else:
                return

    def _route(self, group: Group) -> Route:
        return self._routes.of(group.lane.partition.name.topic)

    def _is_late(self, group: Group) -> bool:
        return is_late(group, self._clock_s())

    def _run_sync(self, group: Group) -> None:
        route = self._route(group)
        assert route.handler is not None
        assert route.signature is not None
        results, handler, arguments = group.results, route.handler, route.signature.arguments
        around, clock_s = self._around, self._clock_s
        started_ns = _began(group)
        for delivery in group.deliveries:
            if is_late(group, clock_s()):
                break
            try:
                message = _told(delivery)
                if around is None:
                    returned = handler(*arguments(message))
                else:
                    with around(message):
                        returned = handler(*arguments(message))
                if returned is not None and inspect.isawaitable(returned):
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
        started_ns = _began(group)
        for delivery in group.deliveries:
            if self._is_late(group):
                break
            try:
                message = _told(delivery)
                with self._around(message) if self._around else _NOTHING:
                    returned = await route.handler(*route.signature.arguments(message))  # type: ignore[misc]
                    while returned is not None and inspect.isawaitable(returned):  # it is not done before that is
                        returned = await returned
            except asyncio.CancelledError:  # in the middle of something, by us or by its own making
                late = "at its deadline" if group.overdue is not None else "by itself"
                group.results.append(InDoubt(f"the handler was cancelled {late}"))
                break
            except BaseException as error:  # noqa: BLE001  (the engine says what it means)
                group.results.append(error)
                break
            group.results.append(None)
        _end(group, started_ns)


def is_late(group: Group, now_s: float) -> bool:
    """Whether the lease, or the membership, is not trusted any more, so that nothing of the group may be begun."""
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


def _began(group: Group) -> int:
    group.began = True
    return time.perf_counter_ns()


def _end(group: Group, started_ns: int) -> None:
    group.took_ms = (time.perf_counter_ns() - started_ns) / 1e6


class _Places:
    """How many groups may run at once, and those that wait for it. From any thread."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[Group] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def take(self, groups: Sequence[Group]) -> Sequence[Group]:
        """Those that may begin now; the others wait."""
        with self._lock:
            now = min(self._free, len(groups))
            self._free -= now
            self._waiting.extend(groups[now:])
        return groups[:now]

    def next(self) -> Group | None:
        """One has ended: what may begin in its place."""
        with self._lock:
            if self._waiting and not self._closed:
                return self._waiting.popleft()
            self._free += 1
        return None

    def withdraw(self, partitions: Collection[TopicPartition] | None) -> list[Group]:
        """Those of these partitions (all, if None) that wait, which do not any more."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            back: list[Group] = []
            for group in waiting:
                ours = partitions is None or group.lane.partition.name in partitions
                (back if ours else self._waiting).append(group)
        return back

    def close(self) -> None:
        """Whoever waits begins no more."""
        self._closed = True


class _Threads:
    """Threads made as they are needed, up to a limit. `work` runs a group and says what the thread goes on with."""

    def __init__(self, work: Callable[[Group], Group | None], limit: int) -> None:
        self._run = work
        self._limit = limit
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()

    def start(self, group: Group) -> None:
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < self._limit:  # else one that ends now takes it
                name = f"kafka-once-handler-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)
        self._queue.put(group)

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        while (group := self._queue.get()) is not None:
            while group is not None:
                group = self._run(group)
            with self._lock:
                self._idle += 1
