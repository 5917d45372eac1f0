"""confluent-kafka's Consumer with callbacks that never raise, and an end that never hangs.

An end can hang in two ways. Consumer.close() may wait for a coordinator that is away (C28): it has a thread of its own,
which is left behind. And it may stop the whole process: an assignment that arrives while the client ends is answered by
the client, with the GIL held, to a part of librdkafka that has ended meanwhile and never replies (librdkafka 2.16:
`rd_kafka_cgrp_op_serve` drops what comes after the end; its issue 4884). So the group is left before the client ends
(`_leave_group`), and an assignment that arrives even later is never answered (`_park`).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers.kafka_commits import as_partition
from kafka_once.brokers.kafka_errors import error_of
from kafka_once.brokers.kafka_settings import is_secret
from kafka_once.brokers.kafka_start import Troubles
from kafka_once.errors import ConfigurationError
from kafka_once.message import TopicPartition

__all__ = ["Client", "Listener", "as_configuration_error", "known_ends", "wait_for_first"]

log = logging.getLogger("kafka_once.kafka")


def _is_said_once(record: logging.LogRecord) -> bool:
    """Not what librdkafka says of each failed connection, twenty times a second: we say it once a minute."""
    return log.isEnabledFor(logging.DEBUG) or not record.getMessage().startswith("FAIL [")


log.addFilter(_is_said_once)

OnCommit = Callable[[KafkaError | None, list[ClientPartition]], None]
OnError = Callable[[KafkaError], None]

_SLICE_S = 0.1  # how long the client is waited for at a time; then debts and callbacks are looked at
_USERS_CALLBACKS = ("stats_cb", "throttle_cb")
_LEAVE_S = 5.0  # for leaving the group; what takes longer is left to `close`
_QUIET_POLLS = 2  # in a row without partitions: nothing of the group is waiting to be answered


class Listener(Protocol):
    """Is told of rebalances, from inside `consumer.poll` and `consumer.consume`."""

    def assigned(self, partitions: list[TopicPartition]) -> None:
        """They become ours."""

    def revoked(self, partitions: list[TopicPartition]) -> None:
        """They stop being ours when this returns."""

    def lost(self, partitions: list[TopicPartition]) -> None:
        """They stopped being ours."""


class Client:
    """One Consumer's life. A member that joins again under its static id gets a new one.

    Args:
        settings: as `kafka_settings.consumer_settings` makes them.
        listener: is told of rebalances.
        on_commit: is told how an asynchronous commit went.
        on_error: is told of troubles with connections.

    Attributes:
        consumer: the client itself; used by one thread.
        made_at: when, on the monotonic clock, in seconds.
        troubles: what it told about its connections.

    Raises:
        ConfigurationError: librdkafka does not know a setting, or not that value.

    """

    def __init__(
        self, settings: Mapping[str, object], listener: Listener, on_commit: OnCommit, on_error: OnError
    ) -> None:
        self._listener = listener
        self._static = bool(settings.get("group.instance.id"))
        self._leaving = False
        self._closing = False
        self._bug: Exception | None = None
        self.troubles = Troubles()
        self.made_at = time.monotonic()
        config: dict[str, Any] = {"logger": log, **settings}
        for name in _USERS_CALLBACKS:
            if name in config:
                config[name] = self._guarded(config[name])
        users_error_callback = config.get("error_cb", lambda _error: None)
        # Two guards: a bug of the user's does not keep ours from knowing.
        tellings = [self._guarded(tell) for tell in (self.troubles.note, on_error, users_error_callback)]
        config["error_cb"] = lambda error: [tell(error) for tell in tellings]
        config["on_commit"] = self._guarded(self._unless_closing(on_commit))
        try:
            self.consumer = Consumer(config)
        except (KafkaException, TypeError, ValueError) as refused:
            raise as_configuration_error(settings, refused) from None  # the cause may quote a password (H12)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group."""
        self.consumer.subscribe(
            list(topics),
            on_assign=self._told(self._listener.assigned),
            on_revoke=self._told(self._listener.revoked),
            on_lost=self._told(self._listener.lost),
        )

    def raise_bug(self) -> None:
        """Raise what a callback raised, as the bug that it is."""
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise AssertionError(f"a callback raised: {bug!r}") from bug

    def leave(self) -> None:
        """From now on nobody is told of rebalances."""
        self._leaving = True

    def close(self, timeout_s: float) -> bool:
        """End the client; False if it did not end in time. Called by the thread that uses the consumer."""
        deadline = time.monotonic() + timeout_s
        self.leave()
        self._leave_group(min(deadline, time.monotonic() + _LEAVE_S))
        self._closing = True
        closing = threading.Thread(target=self.consumer.close, name="kafka-once-close", daemon=True)
        closing.start()
        closing.join(max(deadline - time.monotonic(), 0.0))
        return not closing.is_alive()

    def _leave_group(self, deadline: float) -> None:
        """Answer what the group still says, and leave it. A static member does not leave: it keeps its partitions."""
        if not self._static:
            self.consumer.unsubscribe()
        quiet = 0
        while quiet < _QUIET_POLLS and time.monotonic() < deadline:
            self.consumer.poll(0.01)  # what it returns is of partitions that are given up
            quiet = 0 if not self._static and self.consumer.assignment() else quiet + 1

    def _unless_closing(self, on_commit: OnCommit) -> OnCommit:
        """What `close` is told comes from its thread, and may look like the answer to a commit of the next client."""
        return lambda error, answers: None if self._closing else on_commit(error, answers)

    def _told(self, tell: Callable[[list[TopicPartition]], None]) -> Callable[[Consumer, list[ClientPartition]], None]:
        def callback(_consumer: Consumer, partitions: list[ClientPartition]) -> None:
            if not self._leaving:
                tell([as_partition(partition) for partition in partitions])
            elif self._closing and tell == self._listener.assigned:
                _park()

        return self._guarded(callback)

    def _guarded(self, callback: Callable[..., object]) -> Callable[..., None]:
        """An exception in a callback would come out of `consume`, which loses the batch (C27, E10)."""

        def guarded(*args: object) -> None:
            try:
                callback(*args)
            except Exception as bug:
                log.exception("a callback raised")
                self._bug = bug

        return guarded


def _park() -> None:
    """Never return. The thread is that of `Client.close`, which does not wait for it longer than it may."""
    log.debug("an assignment arrived while the client ended; it is not answered")
    threading.Event().wait()


def as_configuration_error(settings: Mapping[str, object], refused: Exception) -> ConfigurationError:
    """What the client said of its settings. The text of librdkafka names the setting, and sometimes the value."""
    text = error_of(refused).str() if isinstance(refused, KafkaException) else str(refused)
    named = [name for name in settings if f'"{name}"' in text or name in text.split()]
    for name, value in settings.items():
        if is_secret(name):
            text = text.replace(str(value), "***")
    setting = max(named, key=len, default="settings")
    # A name that nobody knows may be a password's, misspelt.
    hidden = is_secret(setting) or text.startswith("No such")
    return ConfigurationError(setting, "***" if hidden else settings.get(setting, "..."), text)


def known_ends(consumer: Consumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the partitions end as of their last fetch; without those that were not fetched yet."""
    ends = {}
    for partition in partitions:
        try:
            _low, high = consumer.get_watermark_offsets(ClientPartition(*partition), cached=True)
        except (KafkaException, RuntimeError):  # RuntimeError: the consumer is closed
            continue
        if high >= 0:
            ends[partition] = high
    return ends


def wait_for_first(consumer: Consumer, max_messages: int, deadline: float) -> list[Any]:
    """Wait for one slice of time; then the first message and what came with it.

    Not consume(n, timeout): that waits for n messages.
    """
    first = consumer.poll(max(min(_SLICE_S, deadline - time.monotonic()), 0.0))
    if first is None:
        return []
    return [first, *consumer.consume(max_messages - 1, 0)] if max_messages > 1 else [first]
