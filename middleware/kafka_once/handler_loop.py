"""The event loop in which async handlers run, whatever they do to it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kafka_once.core.lane import Group

__all__ = ["HandlerLoop"]

log = logging.getLogger("kafka_once")


class _Task(asyncio.Task[None]):
    """Of one group. It is not cancelled before its first step (a handler may cancel all tasks that it finds), for then
    nothing of it would run, not even what says that it has ended. The loop's task factory, perhaps an eager one, is not
    asked.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        if inspect.getcoroutinestate(self.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
            return False
        return super().cancel(msg)


class HandlerLoop:
    """One event loop in one thread, made when the first async handler is to run."""

    def __init__(self, work: Callable[[Group], Coroutine[Any, Any, None]]) -> None:
        self._run = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: dict[Group, _Task] = {}  # a loop keeps weak references only
        self._lock = threading.Lock()
        self._closed = False

    def start(self, groups: Sequence[Group]) -> None:
        """From any thread; from the loop's own without a hand-over."""
        if threading.current_thread() is self._thread:
            self._begin(groups)
            return
        with self._lock:
            if self._closed:
                return
            if self._loop is None:
                self._loop, self._thread = self._made()
            self._loop.call_soon_threadsafe(self._begin, groups)

    def _made(self) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        """Both or neither."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._serve, args=(loop,), name="kafka-once-loop", daemon=True)
        try:
            thread.start()
        except BaseException:
            loop.close()
            raise
        return loop, thread

    def cancel(self, group: Group) -> None:
        with self._lock:
            if self._loop is not None and not self._closed:
                self._loop.call_soon_threadsafe(self._cancel, group)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closed:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # Raised by a task that a handler has made. Whoever awaits that task gets it too; the others go on.
                log.exception("a task ended with what ends programs; if its handler awaits it, the process ends")
        with self._lock:  # `close` has said both that it is closed and that it is to stop
            if not self._tasks:  # else handlers outlast the drain: the process ends with them
                loop.close()

    def _begin(self, groups: Sequence[Group]) -> None:
        """Each in a context of its own: what it sets there is nobody else's."""
        for group in groups:
            self._tasks[group] = _Task(self._run(group), loop=self._loop, context=contextvars.Context())

    def forget(self, group: Group) -> None:
        """Its handler has ended; called by its own task, for a callback would cost one more turn of the loop."""
        del self._tasks[group]

    def _cancel(self, group: Group) -> None:
        """Unless that message has ended meanwhile."""
        task = self._tasks.get(group)
        if task is not None and group.overdue == len(group.results):
            task.cancel()
