"""The store's thread: performs one call at a time and posts the answer, so that nothing waits for the store's reply."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue

from kafka_once.core.calls import Session
from kafka_once.core.engine import Engine
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import StoreError, StoreUnavailable
from kafka_once.ports import Store

__all__ = ["StoreLink"]

log = logging.getLogger("kafka_once")

Answer = Callable[[Engine], None]
_CLOSE_S = 5.0  # for what is on its way and for the goodbye; the lease ends the session if it takes longer


class StoreLink:
    """Between the runner and a store. `post` gets what to tell the engine, from the store's thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._post: Callable[[Answer], None] = lambda _answer: None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._session: Session | None = None
        self._thread = threading.Thread(target=self._work, name="kafka-once-store", daemon=True)

    def open(self, post: Callable[[Answer], None]) -> None:
        self._post = post
        self._thread.start()

    def send(self, call: StoreCall) -> None:
        self._calls.put(lambda: self._perform(call))

    def report(self, counters: Mapping[str, int]) -> None:
        """Keep the counters for `kafka-once stats`. Nothing depends on them, so a failure is only logged."""
        self._calls.put(lambda: self._report(counters))

    def is_new(self) -> bool:
        return self._store.is_new()

    def close(self, counters: Mapping[str, int]) -> None:
        self._calls.put(lambda: self._report(counters))
        self._calls.put(None)
        self._thread.join(_CLOSE_S)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
        self._close()

    def _perform(self, call: StoreCall) -> None:
        try:
            answer = self._ask(call)
        except StoreUnavailable as error:
            answer = _silence(error)
        except BaseException as error:  # noqa: BLE001  (a refusal or a bug: the consumer stops with it)
            answer = _refusal(error)
        self._post(answer)

    def _ask(self, call: StoreCall) -> Answer:
        store = self._store
        if isinstance(call, OpenSession):
            session = self._session = store.open_session(call.token, call.instance, call.previous)
            return lambda engine: engine.on_session(session)
        if isinstance(call, TakeOwnerships):
            assert self._session is not None
            ownerships = store.take_ownerships(self._session, call.call, call.asks)
            return lambda engine: engine.on_ownerships(ownerships)
        reply = store.exchange(call)
        return lambda engine: engine.on_exchanged(reply)

    def _report(self, counters: Mapping[str, int]) -> None:
        if self._session is not None:
            try:
                self._store.report(self._session, counters)
            except StoreError as error:
                log.warning("the counters were not kept: %s", error)

    def _close(self) -> None:
        try:
            if self._session is not None:
                self._store.close_session(self._session)
            self._store.close()
        except StoreError as error:
            log.warning("the session was not closed and ends with its lease: %s", error)


def _silence(error: StoreUnavailable) -> Answer:
    return lambda engine: engine.on_silence(error)


def _refusal(error: BaseException) -> Answer:
    return lambda engine: engine.on_refusal(error)
