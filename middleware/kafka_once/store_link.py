"""Between the runner and a store: calls leave without waiting, answers come back as something to tell the engine."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Protocol

from kafka_once.core.calls import Session
from kafka_once.core.engine import Engine
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import StoreError, StoreUnavailable
from kafka_once.ports import PipelinedStore, Store, StorePipe

__all__ = ["PipeLink", "StoreLink", "ThreadLink", "link_to"]

log = logging.getLogger("kafka_once")

Answer = Callable[[Engine], None]
_CLOSE_S = 5.0  # for what is on its way and for the goodbye; the lease ends the session if it takes longer


class StoreLink(Protocol):
    """Used by the runner's thread. Answers come in the order of the calls; a silence stands for all that are away."""

    depth: int
    """How many calls may be away at once."""

    def open(self, post: Callable[[Answer], None]) -> None:
        """`post` gets what to tell the engine, from any thread."""
        ...

    def send(self, call: StoreCall) -> None: ...

    def descriptor(self) -> int:
        """What becomes readable when an answer is there; -1 if answers are posted without being asked for."""
        ...

    def receive(self) -> None:
        """Post the answers that are there."""
        ...

    def report(self, counters: Mapping[str, int]) -> None:
        """Keep the counters for `kafka-once stats`. Nothing depends on them, so a failure is only logged."""
        ...

    def close(self, counters: Mapping[str, int]) -> None:
        """Say goodbye: the session ends."""
        ...


def link_to(store: Store) -> StoreLink:
    """The fastest link that the store allows."""
    return PipeLink(store) if isinstance(store, PipelinedStore) else ThreadLink(store)


class PipeLink:
    """Writes calls to the store's connection and reads the answers on the runner's own thread: no hand-over to another
    thread, and a completion is on the wire the moment that the engine knows of it."""

    depth = 16  # bounds what is unread when the process is killed: what was written then still arrives

    def __init__(self, store: PipelinedStore) -> None:
        self._store = store
        self._pipe: StorePipe = store.pipe()
        self._away: deque[tuple[StoreCall, float]] = deque()
        self._failed = False  # and the engine has not heard of it yet
        self._post: Callable[[Answer], None] = lambda _answer: None
        self._session: Session | None = None

    def open(self, post: Callable[[Answer], None]) -> None:
        self._post = post

    def send(self, call: StoreCall) -> None:
        if self._failed:  # the silence that the engine is about to hear of stands for this call, too
            return
        self._away.append((call, time.monotonic()))
        try:
            self._pipe.send(self._session, call)
        except BaseException as error:  # noqa: BLE001  (silence, a refusal or a bug: the engine says what it means)
            self._fail(error)

    def descriptor(self) -> int:
        """-1 also while no answer is to come: a connection that the server has closed is readable all the time."""
        return self._pipe.descriptor() if self._away else -1

    def receive(self) -> None:
        try:
            while self._away and self._pipe.readable():
                call, _ = self._away[0]
                reply = self._pipe.receive(self._session, call)
                self._away.popleft()
                self._remember(reply)
                self._post(_answer(call, reply))
        except BaseException as error:  # noqa: BLE001  (as above)
            self._fail(error)
        if self._away and time.monotonic() - self._away[0][1] > self._pipe.timeout_s:
            self._fail(StoreUnavailable(f"no answer from the store within {self._pipe.timeout_s:g} s"))

    def _remember(self, reply: object) -> None:
        if isinstance(reply, Session):
            self._session = reply

    def _fail(self, error: BaseException) -> None:
        self._away.clear()
        self._pipe.drop()
        self._failed = True
        told = _failure(error)

        def tell(engine: Engine) -> None:
            self._failed = False
            told(engine)

        self._post(tell)

    def report(self, counters: Mapping[str, int]) -> None:
        _report(self._store, self._session, counters)

    def close(self, counters: Mapping[str, int]) -> None:
        self._pipe.drop()
        _say_goodbye(self._store, self._session, counters)


class ThreadLink:
    """Any store: a thread performs one call at a time."""

    depth = 1

    def __init__(self, store: Store) -> None:
        self._store = store
        self._post: Callable[[Answer], None] = lambda _answer: None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._session: Session | None = None
        self._counters: Mapping[str, int] = {}
        self._thread = threading.Thread(target=self._work, name="kafka-once-store", daemon=True)

    def open(self, post: Callable[[Answer], None]) -> None:
        self._post = post
        self._thread.start()

    def send(self, call: StoreCall) -> None:
        self._calls.put(lambda: self._perform(call))

    def descriptor(self) -> int:
        return -1

    def receive(self) -> None:
        """Answers are posted by the thread."""

    def report(self, counters: Mapping[str, int]) -> None:
        self._calls.put(lambda: _report(self._store, self._session, counters))

    def close(self, counters: Mapping[str, int]) -> None:
        self._counters = counters
        self._calls.put(None)
        self._thread.join(_CLOSE_S)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
        _say_goodbye(self._store, self._session, self._counters)

    def _perform(self, call: StoreCall) -> None:
        try:
            reply = self._ask(call)
            if isinstance(reply, Session):
                self._session = reply
            answer = _answer(call, reply)
        except BaseException as error:  # noqa: BLE001  (silence, a refusal or a bug: the engine says what it means)
            answer = _failure(error)
        self._post(answer)

    def _ask(self, call: StoreCall) -> object:
        store = self._store
        if isinstance(call, OpenSession):
            return store.open_session(call.token, call.instance, call.previous)
        if isinstance(call, TakeOwnerships):
            assert self._session is not None
            return store.take_ownerships(self._session, call.call, call.asks)
        return store.exchange(call)


def _answer(call: StoreCall, reply: object) -> Answer:
    if isinstance(call, OpenSession):
        return lambda engine: engine.on_session(call, reply)  # type: ignore[arg-type]
    if isinstance(call, TakeOwnerships):
        return lambda engine: engine.on_ownerships(call, reply)  # type: ignore[arg-type]
    return lambda engine: engine.on_exchanged(call, reply)  # type: ignore[arg-type]


def _failure(error: BaseException) -> Answer:
    if isinstance(error, StoreUnavailable):
        return lambda engine: engine.on_silence(error)
    return lambda engine: engine.on_refusal(error)


def _report(store: Store, session: Session | None, counters: Mapping[str, int]) -> None:
    if session is None:
        return
    try:
        store.report(session, counters)
    except StoreError as error:
        log.warning("the counters were not kept: %s", error)


def _say_goodbye(store: Store, session: Session | None, counters: Mapping[str, int]) -> None:
    _report(store, session, counters)
    try:
        if session is not None:
            store.close_session(session)
        store.close()
    except StoreError as error:
        log.warning("the session was not closed and ends with its lease: %s", error)
