"""The drop-in: the methods of confluent-kafka's Consumer that a loop uses, on the same engine as the decorator.

Not a subclass: its C methods would go round the engine. What the engine owns (seek, pause, assign, explicit offsets)
raises with the remedy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from confluent_kafka import TopicPartition

from kafka_once.core.events import Kind, Note
from kafka_once.core.semantics import HungPolicy, Semantics
from kafka_once.deserializers import Deserializer
from kafka_once.errors import ConfigurationError, KafkaOnceError, NeverCompleted
from kafka_once.handout import HandOut
from kafka_once.health import Health
from kafka_once.intake import Route, Routes
from kafka_once.keys import KeyLike
from kafka_once.member import Adapters, Member, key_rule
from kafka_once.message import Message
from kafka_once.observers import Observer, Observers
from kafka_once.settings import Settings
from kafka_once.view import View

__all__ = ["Consumer", "ConsumerMessage"]

_CREATE_TIME = 1  # confluent_kafka.TIMESTAMP_CREATE_TIME
_ANSWER_S = 0.002  # between looks at an answer that a synchronous commit waits for

RebalanceCallback = Callable[["Consumer", list[TopicPartition]], None]


class ConsumerMessage:
    """A message with confluent-kafka's methods, and what the claim says about it.

    As a context manager it completes on normal exit; an exception is recorded, and the message comes again after a
    back-off (`KeyboardInterrupt` and the like go on).

    Attributes:
        idempotency_key, attempt, in_doubt, fence: see `Message`.
    """

    __slots__ = ("_consumer", "_message", "_run")

    def __init__(self, consumer: Consumer, message: Message) -> None:
        self._consumer = consumer
        self._message = message
        self._run: AbstractContextManager[object] | None = None

    def topic(self) -> str:
        return self._message.topic

    def partition(self) -> int:
        return self._message.partition

    def offset(self) -> int:
        return self._message.offset

    def key(self) -> bytes | None:
        return self._message.key

    def value(self) -> bytes | None:
        return self._message.value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self._message.headers) or None

    def timestamp(self) -> tuple[int, int]:
        """Type and milliseconds; (0, 0) if the record has none."""
        stamp = self._message.timestamp_ms
        return (0, 0) if stamp is None else (_CREATE_TIME, stamp)

    def leader_epoch(self) -> int | None:
        return self._message.leader_epoch

    def error(self) -> None:
        """Always None: errors are raised by `poll`."""

    def __len__(self) -> int:
        return len(self._message.value or b"")

    @property
    def idempotency_key(self) -> bytes | None:
        return self._message.idempotency_key

    @property
    def attempt(self) -> int:
        return self._message.attempt

    @property
    def in_doubt(self) -> bool:
        return self._message.in_doubt

    @property
    def fence(self) -> int:
        return self._message.fence

    def __enter__(self) -> Self:
        around = self._consumer._observers.around
        if around is not None:
            self._run = around(self._message)
            self._run.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._run is not None:
            self._run.__exit__(kind, error, trace)
            self._run = None
        self._consumer._end(self, error)
        return isinstance(error, Exception)

    def __repr__(self) -> str:
        return repr(self._message)


class Consumer:
    """`poll` returns only what needs processing; `commit(message=…)` completes it, and the offsets follow when safe.

    Args:
        conf: confluent-kafka's settings, `bootstrap.servers` and `group.id` among them. Those that would break the
            promise are refused by name.
        store: URL of the Redis that holds the claims.
        key: where the idempotency key stands.
        payload: a confluent-kafka `Deserializer` object; a `field` key is read from what it makes of the payload. The
            loop is given the bytes all the same. Default None: the payload is JSON for such a key.
        observers: told what happens, see `Observer`. Default none.
        settings: every other setting by its name; see the table in the README. What is said nowhere here is taken from
            environment variables and from a `settings_file`.

    Raises:
        ConfigurationError: a setting is wrong; correct it, nothing was consumed.
    """

    def __init__(
        self,
        conf: Mapping[str, Any],
        *,
        store: str | None = None,
        key: KeyLike | None = None,
        payload: Deserializer | None = None,
        observers: Sequence[Observer] = (),
        adapters: Adapters | None = None,
        **settings: Any,
    ) -> None:
        kafka = dict(conf)
        servers, group = kafka.pop("bootstrap.servers", None), kafka.pop("group.id", None)
        self.settings = Settings.of(bootstrap_servers=servers, group=group, store=store, kafka=kafka, **settings)
        if key is None and self.settings.semantics is Semantics.EFFECTIVELY_ONCE:
            raise ConfigurationError("key", None, 'say what identifies the work: key=header("…"), field("…"), …')
        if self.settings.handler_deadline is not None or self.settings.on_hung is not HungPolicy.WAIT:
            name = "on_hung" if self.settings.handler_deadline is None else "handler_deadline"
            remedy = "leave it out: the loop is yours, and what it takes too long for is shown as stalled"
            raise ConfigurationError(name, getattr(self.settings, name), remedy)
        self._rule = key_rule(self.settings, key, payload)
        self._adapters = adapters or Adapters()
        self._observers = Observers(observers, tell=[self._call_back])
        self.view = View(self.settings)
        self._executor = HandOut(limit=self.settings.buffer)
        self._callbacks: dict[Kind, RebalanceCallback] = {}
        self._assigned: set[tuple[str, int]] = set()
        self._topics: tuple[str, ...] = ()
        self._member: Member | None = None

    # ------------------------------------------------------------------------------------------------------- consuming

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: RebalanceCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
        on_lost: RebalanceCallback | None = None,
    ) -> None:
        """Join the group. The callbacks are told, on the engine's thread; they decide nothing and must not raise."""
        if self._member is not None:
            raise ConfigurationError("subscribe", list(topics), "it is subscribed already; make a new Consumer")
        self.settings.check_topics(topics)
        for kind, callback in ((Kind.ASSIGNED, on_assign), (Kind.REVOKED, on_revoke), (Kind.LOST, on_lost)):
            if callback is not None:
                self._callbacks[kind] = callback
        self._topics = tuple(topics)
        routes = Routes([Route(self._topics, self._rule, order=self.settings.order)])
        member = Member(
            self.settings,
            routes,
            self._executor,
            exclusive=False,
            adapters=self._adapters,
            observers=self._observers,
            view=self.view,
        )
        self._member = member  # before it starts: a signal that comes meanwhile must find it
        try:
            member.start()
        except ConfigurationError:
            self._member = None
            raise

    def poll(self, timeout: float | None = None) -> ConsumerMessage | None:
        """The next message that needs processing; None if there is none within the time-out (seconds, None: forever).

        Raises:
            KafkaOnceError: the consumer stopped by itself; close it and look at the reason.
        """
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        while True:
            left = 1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))
            self._joined()
            self._wake_if_empty()
            message = self._executor.take(left)
            if message is not None:
                self._wake_if_empty()
                return ConsumerMessage(self, message)
            if self._joined().ended.is_set():
                self._joined().join()
                return None
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[ConsumerMessage]:
        """Up to so many messages, those that come within the time-out (seconds, -1: forever)."""
        deadline = None if timeout < 0 else time.monotonic() + timeout
        messages: list[ConsumerMessage] = []
        while len(messages) < num_messages:
            message = self.poll(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if message is None:
                break
            messages.append(message)
        return messages

    def __iter__(self) -> Iterator[ConsumerMessage]:
        """For ever: `for message in consumer: with message: …`."""
        while True:
            message = self.poll(1.0)
            if message is not None:
                yield message
            elif self._joined().ended.is_set():
                return

    def _wake_if_empty(self) -> None:
        if self._member is not None and self._executor.room() > 0:
            self._member.wake()

    # ------------------------------------------------------------------------------------------------------- completing

    def commit(
        self,
        message: ConsumerMessage | None = None,
        offsets: object = None,
        asynchronous: bool = True,
    ) -> list[TopicPartition] | None:
        """Complete this message or, without one, everything that was handed out.

        Args:
            message: as `poll` returned it.
            offsets: refused: which offsets are safe is known by the engine only.
            asynchronous: False waits until what was completed has its outcome, and returns its partitions.

        Raises:
            KafkaOnceError: the consumer stopped by itself.
        """
        if offsets is not None:
            raise _owned("commit(offsets=…)", "write commit(message=…): the offsets follow when it is safe")
        self._refuse_fork()
        if message is None:
            ended = self._executor.taken()
            for topic, partition, offset in ended:
                self._executor.end(topic, partition, offset)
        else:
            ended = [(message.topic(), message.partition(), message.offset())]
            self._end(message)
        if asynchronous:
            return None
        self._wait_for_outcomes()
        return [TopicPartition(topic, partition, offset + 1) for topic, partition, offset in ended]

    def store_offsets(self, message: ConsumerMessage | None = None, offsets: object = None) -> None:
        """Complete this message."""
        if message is None or offsets is not None:
            raise _owned("store_offsets(offsets=…)", "write store_offsets(message=…)")
        self._end(message)

    def _refuse_fork(self) -> None:
        if self._member is not None:
            self._member.refuse_fork()

    def _end(self, message: ConsumerMessage, error: BaseException | None = None) -> None:
        self._refuse_fork()
        self._executor.end(message.topic(), message.partition(), message.offset(), error)

    def _wait_for_outcomes(self) -> None:
        """Until nothing but what is handed out or waits to be is unfinished."""
        member = self._joined()
        while self._executor.unanswered() and not member.ended.wait(_ANSWER_S):
            pass
        if member.ended.is_set():
            member.join()

    def close(self) -> None:
        """Drain, commit, leave the group. What was handed out and never completed is in doubt and comes again.

        Raises:
            KafkaOnceError: why it had stopped by itself, if it had.
        """
        if self._member is None:
            return
        self._refuse_fork()
        self._member.stop()
        for topic, partition, offset in self._executor.taken():
            self._executor.end(topic, partition, offset, NeverCompleted("handed out and never completed"))
        self._member.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --------------------------------------------------------------------------------------------------------- looking

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for topic, partition in sorted(self._assigned)]

    def subscription(self) -> list[str]:
        return list(self._topics)

    def stats(self) -> dict[str, int]:
        """Deliveries, processings, one count per outcome; see `App.stats`."""
        return self.view.stats()

    def health(self) -> Health:
        """Whether all is well and, if not, why; see `App.health`."""
        return self.view.health()

    @property
    def health_address(self) -> tuple[str, int] | None:
        """Host and port where `health_port` is served; None if it is not, or not any more."""
        return None if self._member is None else self._member.health_address

    def _joined(self) -> Member:
        if self._member is None:
            raise ConfigurationError("topics", None, "call subscribe([…]) before poll")
        self._member.refuse_fork()
        return self._member

    def _call_back(self, note: Note) -> None:
        name = note.topic_partition
        if name is None or note.kind not in (Kind.ASSIGNED, Kind.REVOKED, Kind.LOST):
            return
        if note.kind is Kind.ASSIGNED:
            self._assigned.add((name.topic, name.partition))
        else:
            self._assigned.discard((name.topic, name.partition))
        callback = self._callbacks.get(note.kind)
        if callback is not None:
            callback(self, [TopicPartition(name.topic, name.partition)])

    # ---------------------------------------------------------------------------------------------- owned by the engine

    def seek(self, *_: object) -> None:
        raise _owned("seek", "a failed message comes again by itself: use `with message:`, or do not complete it")

    def assign(self, *_: object) -> None:
        raise _owned("assign", "use subscribe([…]): claims belong to partitions that the group gave us")

    def unassign(self) -> None:
        raise _owned("unassign", "use close()")

    incremental_assign = assign

    def incremental_unassign(self, *_: object) -> None:
        self.unassign()

    def unsubscribe(self) -> None:
        raise _owned("unsubscribe", "use close() and make a new Consumer")

    def pause(self, *_: object) -> None:
        raise _owned("pause", "stop calling poll: the engine goes on polling Kafka and pauses what is full")

    def resume(self, *_: object) -> None:
        raise _owned("resume", "call poll: the engine resumes by itself")


def _owned(what: str, remedy: str) -> KafkaOnceError:
    return ConfigurationError(f"Consumer.{what}", "not supported", remedy)
