"""One member of a consumer group in this process: wires the parts together and runs them on a thread of their own.

`App` and `Consumer` are two faces of it. Adapters are made here and nowhere else.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING

from kafka_once.core.engine import Engine
from kafka_once.core.events import Stall
from kafka_once.core.rules import Rules
from kafka_once.core.semantics import DoubtPolicy, FailurePolicy, HungPolicy, KeyPolicy, Semantics
from kafka_once.deserializers import Deserialized, Deserializer
from kafka_once.errors import ConfigurationError
from kafka_once.intake import Intake, KeyRule, Routes
from kafka_once.keys import KeyLike, key_for
from kafka_once.observers import Observers
from kafka_once.ports import Broker, Namespace, Store, TellsGroupTimes
from kafka_once.runner import Runner, RunnerSettings
from kafka_once.serving import Probes
from kafka_once.setting_checks import check_lease, stall_ms
from kafka_once.store_link import link_to
from kafka_once.view import View

if TYPE_CHECKING:
    from kafka_once.executors import Executor
    from kafka_once.settings import Settings

__all__ = ["Adapters", "Member", "key_rule", "mark_of", "open_broker", "open_store"]

log = logging.getLogger("kafka_once")


def open_broker(settings: Settings) -> Broker:
    """The broker of these settings, not yet a member of its group."""
    from kafka_once.brokers.kafka import KafkaBroker

    return KafkaBroker(
        settings.librdkafka(),
        on_warning=lambda text: log.warning("%s", text),
        answer_timeout_s=_answer_s(settings),
    )


def _answer_s(settings: Settings) -> float:
    """How long Kafka may take to answer while nothing else goes on: the lease must be renewed in time, and the process
    must not stand still for so long that it takes itself for lost."""
    patience_ms = settings.stall_ms if settings.store is None else min(settings.lease_ms, settings.stall_ms)
    return min(10.0, patience_ms * 0.4 / 1000)


def open_store(settings: Settings, namespace: Namespace) -> Store:
    """The store of these settings, unchecked."""
    assert settings.store is not None
    url = settings.store.get_secret_value()
    if url.startswith("memory:"):
        from kafka_once.stores.memory import MemoryStore, shared_state

        return MemoryStore(namespace, settings.lease_ms, settings.remember_for_ms, state=shared_state())
    from kafka_once.stores.redis import open_shards

    return open_shards(
        url,
        namespace,
        settings.shards,
        lease_ms=settings.lease_ms,
        remember_ms=settings.remember_for_ms,
        allow_eviction=settings.allow_eviction,
    )


@dataclass(frozen=True, slots=True)
class Adapters:
    """How the edge is made; tests put other things here."""

    broker: Callable[[Settings], Broker] = open_broker
    store: Callable[[Settings, Namespace], Store] = open_store


def mark_of(namespace: Namespace) -> str:
    """What the metadata of our commits begins with: offsets without it were committed by others (core/marks.py)."""
    name = blake2b(repr(tuple(namespace)).encode(), digest_size=8).hexdigest()
    return f"kafka-once:1:{name}"


def key_rule(settings: Settings, key: KeyLike | None, payload: Deserializer | None = None) -> KeyRule:
    """How keys are found under these settings.

    Args:
        settings: checked.
        key: None means that nothing is de-duplicated.
        payload: makes the objects that a `field` key is read from. Default None: it is read from JSON.
    """
    found = None if key is None else key_for(key, settings.max_key_bytes)
    return KeyRule(
        key=found,
        decoder=None if payload is None or found is None or not found.reads_object else Deserialized(payload),
        scope=settings.scope,
        on_missing=KeyPolicy(settings.on_missing_key),
        stop_on_bad_payload=settings.on_bad_payload is FailurePolicy.STOP,
    )


class Member:
    """Started once, stopped once.

    Args:
        settings: checked.
        routes: which handler a topic has.
        executor: where messages run.
        exclusive: lanes run one group at a time; False for messages that the user's own loop takes.
        adapters: how the edge is made.
        intake: reads keys. Default: as the routes say.
        observers: who is told what happens. Default: the log.
        view: what others see of it, filled here. Default: one of its own.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        executor: Executor,
        *,
        exclusive: bool,
        adapters: Adapters,
        intake: Intake | None = None,
        observers: Observers | None = None,
        view: View | None = None,
    ) -> None:
        self.view = view or View(settings)
        self._settings = settings
        self._routes = routes
        self._executor = executor
        self._adapters = adapters
        self._intake = intake or Intake(routes)
        self._observers = observers or Observers()
        self._rules = _rules(settings, routes, exclusive=exclusive)
        self._runner: Runner | None = None
        self._engine: Engine | None = None
        self._probes: Probes | None = None
        self._stop_asked = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._main, name="kafka-once-consumer", daemon=True)
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self._end: SimpleQueue[None] = SimpleQueue()

    def start(self) -> None:
        """Begin on a thread of its own. What goes wrong is raised by `join`.

        Raises:
            ConfigurationError: `health_port` cannot be listened at; nothing was consumed.
        """
        self._pid = os.getpid()
        if self._settings.health_port is not None:
            self._probes = self._open_probes(self._settings.health_port)
        self._observers.open(self.view.counters)
        self.view.started = True
        self._thread.start()

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that started it: nothing of it runs here."""
        return os.getpid() != self._pid

    def refuse_fork(self) -> None:
        """Raise ConfigurationError in a forked child: its connections are the parent's."""
        if self.forked:
            remedy = (
                f"process {self._pid} started it and this one, {os.getpid()}, was forked from it: the consumer does "
                'not live here. Make and start it in the child, or start children with multiprocessing\'s "spawn"'
            )
            raise ConfigurationError("group", self._settings.group, remedy)

    @property
    def stalls(self) -> list[Stall]:
        """Handlers that run for longer than `stalled_after` now, the longest first; from any thread."""
        engine = self._engine
        return [] if engine is None else list(engine.stalls)

    def _open_probes(self, port: int) -> Probes:
        metrics = _metrics()
        probes = Probes(
            self._settings.health_host, port, self.view.health, None if metrics is None else metrics.exposition
        )
        if metrics is not None:
            metrics.watch(self)
        return probes

    def _close_probes(self) -> None:
        """When somebody knows that it has ended. Until then its health tells it."""
        metrics, probes = _metrics(), self._probes
        if probes is not None:
            self._probes = None
            probes.close()
            if metrics is not None:
                metrics.unwatch(self)

    @property
    def health_address(self) -> tuple[str, int] | None:
        """Where its health is served; None if it is not."""
        return None if self._probes is None else self._probes.address

    def stop(self) -> None:
        """Ask it to drain and end; safe in a signal handler, and a second time."""
        self._stop_asked = True
        runner = self._runner
        if runner is not None:
            runner.stop()

    def wake(self) -> None:
        """The executor takes more, or has ended something."""
        runner = self._runner
        if runner is not None:
            runner.wake()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended; False if it has not within the time-out.

        Raises:
            KafkaOnceError: why it stopped by itself.
        """
        self.refuse_fork()
        if not self.ended.is_set() and not self._await_end(timeout_s):
            return False
        self._thread.join()
        self._close_probes()
        if self.error is not None:
            raise self.error
        return True

    def _await_end(self, timeout_s: float | None) -> bool:
        """On the main thread a signal handler may raise in the middle of it (Ctrl-C does). An Event's wait is Python
        code and can be left with its lock in disorder by that; a queue's is one piece."""
        try:
            self._end.get(timeout=timeout_s)
        except Empty:
            return False
        self._end.put(None)  # for whoever else waits
        return True

    def _main(self) -> None:
        try:
            self._run()
        except ConfigurationError as error:
            self.error = self._settings.placed(error)
        except BaseException as error:  # noqa: BLE001  (raised by join, on the caller's thread)
            self.error = self.view.error = error
        finally:
            self.view.ended = True
            self.ended.set()
            self._end.put(None)

    def _run(self) -> None:
        settings = self._settings
        broker = self._adapters.broker(settings)
        try:
            namespace = Namespace(settings.cluster or broker.cluster_id(), settings.group)
            rules = self._rules_in_group(broker)
            store = self._checked_store(namespace)
        except BaseException:
            broker.close(0)
            raise
        link = None if store is None else link_to(store)
        depth = 1 if link is None else link.depth
        outcomes = self._observers.want_outcomes
        rules = replace(rules, store_depth=depth, mark=mark_of(namespace), tell_outcomes=outcomes)
        self._engine = Engine(rules, self.view.counters, lambda topic: self._routes.of(topic).order)
        self._runner = Runner(
            self._engine,
            broker,
            link,
            self._executor,
            self._intake,
            self._runner_settings(),
            observers=self._observers,
        )
        self.view.picture = self._runner.picture
        if self._stop_asked:
            self._runner.stop()
        self._runner.run()

    def _rules_in_group(self, broker: Broker) -> Rules:
        """Where the broker decides how long it waits for a member, that counts and not what is usual."""
        times = broker.group_times() if isinstance(broker, TellsGroupTimes) else None
        if times is None:
            return self._rules
        check_lease(self._settings, times, "the group's consumer.session.timeout.ms")
        return replace(self._rules, stall_ms=stall_ms(self._settings.kafka, times))

    def _checked_store(self, namespace: Namespace) -> Store | None:
        if self._settings.store is None:
            return None
        store = self._adapters.store(self._settings, namespace)
        try:
            for warning in store.check():
                log.warning("%s", warning)
        except BaseException:
            store.close()
            raise
        return store

    def _runner_settings(self) -> RunnerSettings:
        settings = self._settings
        report_ms = settings.report_every_ms
        return RunnerSettings(
            topics=self._routes.topics(),
            group=settings.group,
            drain_s=settings.drain_ms / 1000,
            answer_s=_answer_s(settings),
            dead_letter_topic=settings.dead_letter_topic,
            report_every_s=None if report_ms is None else report_ms / 1000,
        )


def _metrics() -> ModuleType | None:
    """The module, None without its extra."""
    try:
        from kafka_once import metrics
    except ImportError:
        return None
    return metrics


# Without a claim nothing is in doubt after a crash; what a group costs then is only how late its results are seen.
_GROUP_MS = {Semantics.EFFECTIVELY_ONCE: 2.0, Semantics.AT_LEAST_ONCE: 10.0, Semantics.AT_MOST_ONCE: 2.0}


def _rules(settings: Settings, routes: Routes, *, exclusive: bool) -> Rules:
    def deadline_ms_of(topic: str) -> int | None:
        own = routes.of(topic).deadline_ms
        return settings.handler_deadline_ms if own is None else own

    return Rules(
        semantics=settings.semantics,
        store=settings.store is not None,
        exclusive=exclusive,
        order=settings.order,
        concurrency=settings.concurrency,
        buffer=settings.buffer,
        buffer_bytes=settings.buffer_bytes,
        group_ms=_GROUP_MS[settings.semantics],
        attempts=settings.attempts,
        backoff_ms=settings.backoff_ms,
        backoff_most_ms=settings.backoff_max_ms,
        dead_letter_failures=settings.on_failure is FailurePolicy.DEAD_LETTER,
        dead_letter_payloads=settings.on_bad_payload is FailurePolicy.DEAD_LETTER,
        dead_letter_doubts=settings.on_doubt is DoubtPolicy.DEAD_LETTER,
        lease_ms=settings.lease_ms,
        commit_every_ms=settings.commit_every_ms,
        instance=settings.instance_id,
        stall_ms=settings.stall_ms,
        stalled_after_ms=settings.stalled_after_ms,
        deadline_ms_of=deadline_ms_of,
        stop_on_hung=settings.on_hung is HungPolicy.STOP,
        start_reset=settings.start_reset,
        on_position_conflict=settings.on_position_conflict,
    )
