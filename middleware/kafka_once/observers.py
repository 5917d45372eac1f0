"""Tells people and programs what happened: the log, and observers of the user's own.

An observer never disturbs the work: what it raises is logged and counted, and the work goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kafka_once.errors import ConfigurationError
from kafka_once.log_lines import log, log_note, log_outcome, logs_outcomes

if TYPE_CHECKING:
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.events import Counters, Note, Outcome
    from kafka_once.core.rules import Effects
    from kafka_once.message import Message

__all__ = ["Observer", "Observers"]

_COMPLAIN_EVERY_S = 60.0  # an observer that always raises must not fill the log

Around = Callable[["Message"], AbstractContextManager[object]]


class Observer:
    """Told what happens: `App(…, observers=[…])`. Override what you need; what is not overridden costs nothing.

    What a method raises is logged on `kafka_once` with its traceback (at most once a minute) and counted as
    `observer_failures`; the work goes on as if it had not been called.
    """

    def on_note(self, note: Note) -> None:
        """Something that a person may want to know; the kinds are those of docs/counters.md.

        Called on the consumer's thread: be quick, for nothing else happens meanwhile.
        """

    def on_outcome(self, message: Message, outcome: Outcome) -> None:
        """A delivery has its outcome: called once for each. On the consumer's thread; see `on_note`."""

    def on_run(self, message: Message) -> AbstractContextManager[object]:
        """Gives a context manager that is entered before a handler runs and left when it has ended.

        On the handler's thread, or in its task. `__exit__` is told what the handler raised, and cannot suppress it.
        For a `Consumer` the run is its `with message:` block.
        """
        raise NotImplementedError


class Observers:
    """All of one app: the log, the user's own (`users`), and what is told besides.

    Args:
        observers: the user's; any object with at least one of an `Observer`'s methods.
        tell: called with each note; what it raises stops the consumer.

    Raises:
        ConfigurationError: one of them has no method that is ever called.
    """

    def __init__(self, observers: Sequence[Observer] = (), tell: Sequence[Callable[[Note], None]] = ()) -> None:
        for observer in observers:
            if isinstance(observer, type) or not any(_method(observer, name) for name in _METHODS):
                remedy = f"write objects with at least one of the methods {', '.join(_METHODS)}"
                raise ConfigurationError("observers", type(observer).__name__, remedy)
        self.users = list(observers)
        self._notes = [method for each in observers if (method := _method(each, "on_note"))]
        self._outcomes = [method for each in observers if (method := _method(each, "on_outcome"))]
        self._runs = [method for each in observers if (method := _method(each, "on_run"))]
        self._tell = list(tell)
        self._counters: Counters | None = None
        self._lock = threading.Lock()
        self._complain_again_s: dict[object, float] = {}

    def open(self, counters: Counters) -> None:
        """Where failures are counted. Looks whether the log wants outcomes now."""
        self._counters = counters
        if logs_outcomes():
            self._outcomes = [log_outcome, *self._outcomes]

    @property
    def want_outcomes(self) -> bool:
        return bool(self._outcomes)

    @property
    def around(self) -> Around | None:
        """What stands around each run of a handler; None if nobody asked."""
        return self._around if self._runs else None

    def _around(self, message: Message) -> AbstractContextManager[object]:
        return _Run(self, self._runs, message)

    def tell(self, effects: Effects) -> None:
        """The notes and the outcomes among the effects, to whom it concerns."""
        for note in effects.notes:
            self.note(note)
        for delivery in effects.outcomes:
            self.outcome(delivery)

    def note(self, note: Note) -> None:
        log_note(note)
        for tell in self._tell:
            tell(note)
        for on_note in self._notes:
            try:
                on_note(note)
            except Exception as error:  # noqa: BLE001  (the user's code; told by `failed`)
                self.failed(on_note, error)

    def outcome(self, delivery: Delivery) -> None:
        assert delivery.outcome is not None
        for on_outcome in self._outcomes:
            try:
                on_outcome(delivery.message, delivery.outcome)
            except Exception as error:  # noqa: BLE001  (as above)
                self.failed(on_outcome, error)

    def failed(self, method: Callable[..., Any], error: Exception) -> None:
        """An observer raised: count it, and log it unless that was done within the last minute. From any thread."""
        with self._lock:
            if self._counters is not None:
                self._counters.add("observer_failures")
            now_s = time.monotonic()
            if now_s < self._complain_again_s.get(method, 0.0):
                return
            self._complain_again_s[method] = now_s + _COMPLAIN_EVERY_S
        log.error("an observer raised in %s; the work goes on", _name(method), exc_info=error)


class _Run:
    """Enters the observers' context managers around one run of a handler, and lets none of them change its end."""

    __slots__ = ("_entered", "_message", "_observers", "_runs")

    def __init__(self, observers: Observers, runs: list[Around], message: Message) -> None:
        self._observers = observers
        self._runs = runs
        self._message = message
        self._entered: list[tuple[Around, AbstractContextManager[object]]] = []

    def __enter__(self) -> None:
        for on_run in self._runs:
            try:
                manager = on_run(self._message)
                manager.__enter__()
            except Exception as error:  # noqa: BLE001  (as above)
                self._observers.failed(on_run, error)
            else:
                self._entered.append((on_run, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for on_run, manager in reversed(self._entered):
            try:
                manager.__exit__(kind, error, trace)
            except Exception as own:  # noqa: BLE001  (as above)
                if own is not error:
                    self._observers.failed(on_run, own)


_METHODS = ("on_note", "on_outcome", "on_run")


def _method(observer: object, name: str) -> Callable[..., Any] | None:
    """The observer's own method, None if it has none or only the one that does nothing."""
    found = getattr(observer, name, None)
    if not callable(found) or getattr(found, "__func__", None) is getattr(Observer, name):
        return None
    return found  # type: ignore[no-any-return]


def _name(method: Callable[..., Any]) -> str:
    return getattr(method, "__qualname__", type(method).__name__)
