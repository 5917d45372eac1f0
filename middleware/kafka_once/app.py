"""The decorator: handlers registered on an app, run effectively once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from kafka_once.core.events import Counters, Stall
from kafka_once.core.order import Order
from kafka_once.core.semantics import HungPolicy, Semantics
from kafka_once.deserializers import Deserializer
from kafka_once.errors import ConfigurationError, KafkaOnceError
from kafka_once.executors import Handlers
from kafka_once.intake import Route, Routes
from kafka_once.keys import KeyLike
from kafka_once.member import Adapters, Member, key_rule
from kafka_once.settings import Settings
from kafka_once.signatures import HandlerSignature

__all__ = ["App", "signals_told"]

HandlerFunction = TypeVar("HandlerFunction", bound=Callable[..., Any])


class App:
    """Handlers of one consumer group.

    Args:
        bootstrap_servers: Kafka's addresses.
        group: the consumer group.
        store: URL of the Redis that holds the claims; needed for `effectively_once`.
        settings: every other setting by its name; see the table in the README. What is not said here, these three too,
            is taken from environment variables and from a `settings_file`.

    Raises:
        ConfigurationError: a setting is wrong. Nothing was consumed; correct it.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        group: str | None = None,
        store: str | None = None,
        adapters: Adapters | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings.of(bootstrap_servers=bootstrap_servers, group=group, store=store, **settings)
        self._adapters = adapters or Adapters()
        self._routes: list[Route] = []
        self._member: Member | None = None
        self._counters = Counters()

    def handler(
        self,
        *topics: str,
        key: KeyLike | None = None,
        idempotent: bool = False,
        payload: Deserializer | None = None,
        order: Order | Literal["partition", "key", "none"] | None = None,
        deadline: object = None,
    ) -> Callable[[HandlerFunction], HandlerFunction]:
        """Register a handler; the function itself is returned unchanged.

        Args:
            topics: names, or patterns that begin with ^.
            key: where the idempotency key stands; needed unless the handler is idempotent or the app at_least_once.
            idempotent: the handler declares that running it again changes nothing (adding to a set): it runs without
                a claim, and every repeat is processed. Default False.
            payload: a confluent-kafka `Deserializer` object that makes the payload (a schema registry's, say), instead
                of the annotation. A `field` key is read from what it makes. Default None.
            order: which of its messages run one after another. Default: the app's `order`.
            deadline: how long it may run, as a duration; default: what `handler_deadline` says. Past it its message is
                in doubt and `on_hung` decides.

        Raises:
            ConfigurationError: the handler, its key or its topics do not fit the settings.
        """
        self._check_handler(topics, key, idempotent=idempotent)
        own_order = self.settings.order_of_handler(order)
        deadline_ms = None if deadline is None else self.settings.deadline_ms(deadline)

        def register(function: HandlerFunction) -> HandlerFunction:
            if self._member is not None:
                raise ConfigurationError("handler", function.__name__, "register handlers before the app is started")
            rule = key_rule(self.settings, None if idempotent else key, payload)
            signature = HandlerSignature.of(function, payload)
            route = Route(topics, rule, function, signature, own_order, deadline_ms)
            Routes([*self._routes, route])  # refuses a topic that has a handler already
            self._routes.append(route)
            return function

        return register

    def _check_handler(self, topics: tuple[str, ...], key: KeyLike | None, *, idempotent: bool) -> None:
        self.settings.check_topics(topics)
        semantics = self.settings.semantics
        if idempotent and key is not None:
            raise ConfigurationError("key", key, "an idempotent handler needs no key: leave out one of the two")
        deduplicates = semantics is Semantics.EFFECTIVELY_ONCE or self.settings.store is not None
        if deduplicates and key is None and not idempotent:
            remedy = 'say what identifies the work: key=header("…"), field("…"), record_key() or coordinates()'
            raise ConfigurationError("key", None, f"{semantics} needs one; {remedy}")

    # ------------------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Consume until SIGTERM or SIGINT, then drain and return. For scripts and the command line.

        An error ends the process with exit code 1 and one sentence on standard error; set KAFKA_ONCE_TRACEBACK=1 for
        the traceback. Use `start`, `stop` and `join` to have it raised instead.
        """
        try:
            with signals_told(self._on_signal):  # before the start: somebody may end us at once
                self.start()
                while not self.join(1.0):
                    pass
        except KafkaOnceError as error:
            if os.environ.get("KAFKA_ONCE_TRACEBACK"):
                raise
            print(f"kafka-once: {error}", file=sys.stderr)  # noqa: T201  (a script's last word)
            raise SystemExit(1) from None

    def start(self) -> None:
        """Begin to consume on a thread of its own. What goes wrong is raised by `join`."""
        if self._member is not None:
            self._member.refuse_fork()
            raise ConfigurationError(
                "app", self.settings.group, "it was started already; make a new App to start again"
            )
        if not self._routes:
            raise ConfigurationError(
                "handler", None, 'no handler is registered: decorate one with @app.handler("topic")'
            )
        self._check_deadlines()
        routes = Routes(self._routes)
        executor = Handlers(routes, self.settings.concurrency)
        self._member = Member(self.settings, routes, executor, exclusive=True, adapters=self._adapters)
        self._counters = self._member.counters
        self._member.start()

    def _check_deadlines(self) -> None:
        deadlines = [self.settings.handler_deadline, *(route.deadline_ms for route in self._routes)]
        if self.settings.on_hung is HungPolicy.STOP and not any(deadlines):
            remedy = "no handler has a deadline, so none can pass it; set handler_deadline"
            raise ConfigurationError("on_hung", "stop", remedy)

    def stop(self) -> None:
        """Stop the intake; running handlers end within `drain`. Safe from any thread and in signal handlers."""
        if self._member is not None:
            self._member.stop()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended; False if it has not within the time-out.

        Raises:
            KafkaOnceError: why it stopped by itself. What was not settled is not committed and comes again.
        """
        return True if self._member is None else self._member.join(timeout_s)

    def stats(self) -> dict[str, int]:
        """Deliveries, processings, one count per outcome, and what else is counted (docs/counters.md)."""
        return self._counters.as_dict()

    def stalls(self) -> list[Stall]:
        """The messages whose handlers have been running for longer than `stalled_after`, the longest first: their
        partitions wait. From any thread."""
        return [] if self._member is None else self._member.stalls

    def _on_signal(self, number: int) -> None:
        """Set a flag and nothing else; a second one changes nothing. In a forked child: what it would do without us."""
        if self._member is not None and self._member.forked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.stop()


@contextmanager
def signals_told(tell: Callable[[int], None]) -> Iterator[None]:
    """SIGTERM and SIGINT, as long as this lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    earlier = {number: signal.signal(number, lambda number, _frame: tell(number)) for number in signals}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
