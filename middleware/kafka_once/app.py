"""The decorator: handlers registered on an app, run effectively once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, TypeVar

from kafka_once.core.events import Stall
from kafka_once.core.order import Order
from kafka_once.core.semantics import HungPolicy, Semantics
from kafka_once.deserializers import Deserializer
from kafka_once.errors import ConfigurationError, KafkaOnceError
from kafka_once.executors import Handlers
from kafka_once.health import Health
from kafka_once.intake import Route, Routes
from kafka_once.keys import KeyLike
from kafka_once.member import Adapters, Member, key_rule
from kafka_once.observers import Observer, Observers
from kafka_once.settings import Settings
from kafka_once.signatures import HandlerSignature
from kafka_once.view import View

__all__ = ["App", "signals_told"]

_OF_HANDLERS = {"scope", "max_key_bytes", "on_missing_key", "on_bad_payload", "semantics"}

HandlerFunction = TypeVar("HandlerFunction", bound=Callable[..., Any])


class App:
    """Handlers of one consumer group.

    Args:
        bootstrap_servers: Kafka's addresses.
        group: the consumer group.
        store: URL of the Redis that holds the claims; needed for `effectively_once`.
        observers: told what happens, see `Observer`. Default none.
        settings: every other setting by its name; see the table in the README. What is not said here (the first three
            too) is taken from environment variables and from a `settings_file`.

    Raises:
        ConfigurationError: a setting is wrong. Nothing was consumed; correct it.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        group: str | None = None,
        store: str | None = None,
        observers: Sequence[Observer] = (),
        adapters: Adapters | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings.of(bootstrap_servers=bootstrap_servers, group=group, store=store, **settings)
        self._adapters = adapters or Adapters()
        self._routes: list[Route] = []
        self._member: Member | None = None
        self._signalled = False
        self._observers = Observers(observers)
        self.view = View(self.settings)

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

    def twin(
        self,
        settings: Mapping[str, Any],
        *,
        topics: Mapping[str, str] | None = None,
        observers: Sequence[Observer] = (),
        adapters: Adapters | None = None,
    ) -> App:
        """Another app with the same handlers, not started: so tests run yours elsewhere (docs/testing.md).

        Args:
            settings: what is different, by name. Settings that handlers were registered with stay as they are.
            topics: other names for topics, by the name that a handler is registered for. Default: the same.
            observers: told besides those that this app has.
            adapters: how the edge is made. Default: as here.

        Raises:
            ConfigurationError: a setting is wrong, or decides about keys, which the handlers have already.
        """
        for name in _OF_HANDLERS & set(settings):
            raise ConfigurationError(name, settings[name], "the handlers are registered with it: make the app with it")
        renamed = topics or {}
        other = App(
            **(_given(self.settings) | dict(settings)),
            observers=[*self._observers.users, *observers],
            adapters=adapters or self._adapters,
        )
        routes = [replace(each, topics=tuple(renamed.get(t, t) for t in each.topics)) for each in self._routes]
        for route in routes:
            other.settings.check_topics(route.topics)
        other._routes = routes
        return other

    @property
    def topics(self) -> list[str]:
        """The names and patterns that handlers are registered for."""
        return Routes(self._routes).topics()

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
        executor = Handlers(routes, self.settings.concurrency, self._observers.around)
        member = Member(
            self.settings,
            routes,
            executor,
            exclusive=True,
            adapters=self._adapters,
            observers=self._observers,
            view=self.view,
        )
        self._member = member  # before it starts: a signal that comes meanwhile must find it
        if self._signalled:  # it came earlier
            member.stop()
        try:
            member.start()
        except ConfigurationError:
            self._member = None
            raise

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
        return self.view.stats()

    def health(self) -> Health:
        """Whether all is well and, if not, why: what /healthz and /readyz tell (docs/observing.md)."""
        return self.view.health()

    @property
    def health_address(self) -> tuple[str, int] | None:
        """Host and port where `health_port` is served; None if it is not, or not any more."""
        return None if self._member is None else self._member.health_address

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
        self._signalled = True
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


def _given(settings: Settings) -> dict[str, Any]:
    """What was set, by name, so that other settings can be made from it. Holds passwords: never print it."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    if settings.store is not None:
        given["store"] = settings.store.get_secret_value()
    return given
