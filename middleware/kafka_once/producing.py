"""The sender's half: stamp each message with its idempotency key, send until acknowledged, report the delivery.

A sender that hears nothing does not know whether its message arrived. Sent again it may be there twice; not sent again
it may be lost. So it is sent again, with the same key, and the receiver processes it once.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

from kafka_once.brokers.kafka_publisher import Publisher
from kafka_once.brokers.kafka_settings import connection_settings, publish_settings, send_once_settings
from kafka_once.core.semantics import Semantics
from kafka_once.errors import BrokerError, BrokerUnavailable, ConfigurationError, MissingKey
from kafka_once.key_values import text_of
from kafka_once.keys import MAX_KEY_BYTES
from kafka_once.message import Coordinates
from kafka_once.ports import Outgoing
from kafka_once.setting_checks import HIDDEN
from kafka_once.setting_sources import Layers
from kafka_once.settings import Settings

__all__ = ["Producer", "Sending", "uuid7"]

log = logging.getLogger("kafka_once")

_AGAIN_S: Final = 0.1  # before the first repeat; doubled for each one more
_AGAIN_MOST_S: Final = 5.0

Headers = Sequence[tuple[str, bytes | None]] | Mapping[str, bytes | None]


class Sending(Future[Coordinates]):
    """One message on its way: a future of its coordinates.

    `result(timeout)` waits for Kafka's acknowledgement, `add_done_callback` is told of it (on a thread of ours: be
    quick, and do not send there), `asyncio.wrap_future` awaits it. It cannot be cancelled: what was sent was sent.

    Attributes:
        idempotency_key: the key it is stamped with, the same in every repeat.
        attempts: how often it was handed to the client.

    Raises:
        BrokerRefused: (by `result`) Kafka does not take it; the text names the remedy. It is not in the topic.
        BrokerUnavailable: (by `result`) not acknowledged. It may be in the topic: send it again with the same key.
    """

    def __init__(self, record: Outgoing, idempotency_key: bytes) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self.idempotency_key = idempotency_key
        self.attempts = 0
        self._record = record


class Producer:
    """Sends messages that are processed once where they are received, by a `kafka_once.App` or `Consumer`.

    Args:
        bootstrap_servers: Kafka's addresses. Default: those of the environment or the settings file.
        semantics: "at_least_once" (default): sent until acknowledged, with the same key every time; "at_most_once":
            sent once, and an error if it was not acknowledged.
        kafka: librdkafka's settings by their own names. Those of the connection (security, passwords) that stand in the
            environment or the settings file are taken, too.
        header: the header that carries the key. Default "idempotency-key".
        buffer: how many messages may be on their way; `send` waits while there are more. Default 10,000 messages.
        settings_file: as for an `App`. Default None.

    Raises:
        ConfigurationError: a setting is wrong. Nothing was sent; correct it.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        semantics: Semantics | str = Semantics.AT_LEAST_ONCE,
        kafka: Mapping[str, Any] | None = None,
        header: str = "idempotency-key",
        buffer: int = 10_000,
        settings_file: str | os.PathLike[str] | None = None,
    ) -> None:
        _check(header, buffer)
        self._until_acknowledged = _semantics(semantics) is Semantics.AT_LEAST_ONCE
        given = _settings(bootstrap_servers, kafka or {}, settings_file)
        self._settings = publish_settings({}, given) if self._until_acknowledged else send_once_settings(given)
        self._header = header
        self._buffer = buffer
        self._changed = threading.Condition()
        self._open: set[Sending] = set()
        self._due: list[tuple[float, int, Sending]] = []  # to be sent again, the soonest first
        self._counts = dict.fromkeys(("sent", "repeats", "acknowledged", "failed"), 0)
        self._closed = False  # takes nothing more
        self._ended = False  # sends nothing again
        self._renewing = threading.Lock()
        self._publisher = Publisher(self._settings)
        self._thread = threading.Thread(target=self._send_again, name="kafka-once-repeat", daemon=True)
        self._thread.start()

    def send(
        self,
        topic: str,
        value: bytes | str | None,
        *,
        key: bytes | str | None = None,
        idempotency_key: str | bytes | int | UUID | None = None,
        headers: Headers = (),
    ) -> Sending:
        """Stamp the message and send it, without waiting for the acknowledgement.

        Args:
            topic: where to.
            value: the payload; text as its UTF-8, None for a tombstone.
            key: the record key, which chooses the partition. Default None.
            idempotency_key: identity of the work. Default: what stands in its header already, else a fresh UUIDv7. Give
                one that outlives this process (an order's id) if the work may be sent again after a crash.
            headers: more of them.

        Raises:
            MissingKey: the key is empty, too long or no key at all; nothing was sent.
            ConfigurationError: the producer is closed, two different keys were given, or value or key is no bytes;
                nothing was sent.
        """
        stamped, stamp = self._stamped(headers, idempotency_key)
        sending = Sending(Outgoing(topic, _bytes("key", key), _bytes("value", value), stamped), stamp)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._open) < self._buffer)
            if self._closed:
                raise ConfigurationError("producer", "closed", "it was closed: make a new Producer")
            self._open.add(sending)
            self._counts["sent"] += 1
        try:
            self._publish(sending)
        except BaseException:  # the client refused an argument
            self._end(sending, "failed")
            raise
        return sending

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is on its way; False if something is after the time-out (seconds, None: forever)."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_s)

    def close(self, timeout_s: float = 30.0) -> None:
        """Wait for what is on its way, then end. What is not acknowledged by then fails, and is not sent again.

        Args:
            timeout_s: how long to wait at most, in seconds. Default 30.

        Raises:
            BrokerUnavailable: something was not acknowledged; see each `Sending`, and send it again with the same key.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._open, timeout_s)
            left = len(self._open)
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        self._publisher.close(0.0)
        for sending in list(self._open):  # those that waited for their next repeat
            self._fail(sending, BrokerUnavailable(f"cannot publish to {sending._record.topic!r}: closed"))
        if left:
            raise BrokerUnavailable(f"{left} messages were not acknowledged; send them again with the same keys")

    def stats(self) -> dict[str, int]:
        """What was `sent`, the `repeats` it took, and how much of it is `acknowledged` or has `failed`."""
        with self._changed:
            return dict(self._counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BrokerUnavailable:
            if error is None:
                raise
            # The block's own error is the one to see; what was not acknowledged is logged, and its Sending says so.

    # ---------------------------------------------------------------------------------------------------------- the key

    def _stamped(self, headers: Headers, given: object) -> tuple[list[tuple[str, bytes | None]], bytes]:
        """The headers with the key among them, and the key."""
        stamped = list(headers.items() if isinstance(headers, Mapping) else headers)
        there = [value for name, value in stamped if name == self._header]
        if given is None and not there:
            given = uuid7()
        key = _key(there[-1] if given is None else given)
        if any(value != key for value in there):
            remedy = f"the header {self._header!r} says something else; say it once"
            raise ConfigurationError("idempotency_key", HIDDEN, remedy)
        return stamped if there else [*stamped, (self._header, key)], key

    # ----------------------------------------------------------------------------------------------------- the delivery

    def _publish(self, sending: Sending) -> None:
        sending.attempts += 1
        self._living().publish(sending._record, partial(self._on_done, sending))

    def _living(self) -> Publisher:
        """The client; a new one after an error that the old one cannot go on from."""
        with self._renewing:
            if self._publisher.is_dead and not self._ended:
                log.warning("the producer failed for good; going on with a new one")
                self._publisher.close(0.0)  # what it had is told to have failed, and is sent again
                self._publisher = Publisher(self._settings)
            return self._publisher

    def _on_done(self, sending: Sending, outcome: Coordinates | Exception) -> None:
        """From the client's thread, or from the one that sends."""
        if isinstance(outcome, Coordinates):
            if self._end(sending, "acknowledged"):
                sending.set_result(outcome)
        elif self._until_acknowledged and isinstance(outcome, BrokerUnavailable) and self._put_off(sending):
            return
        else:
            self._fail(sending, outcome)

    def _put_off(self, sending: Sending) -> bool:
        """Let it be sent again; False if nothing is sent any more."""
        wait_s = min(_AGAIN_MOST_S, _AGAIN_S * 2 ** min(sending.attempts - 1, 10))
        with self._changed:
            if self._ended:
                return False
            heapq.heappush(self._due, (time.monotonic() + wait_s, id(sending), sending))
            self._changed.notify_all()
        return True

    def _fail(self, sending: Sending, error: Exception) -> None:
        if isinstance(error, BrokerUnavailable):
            error = BrokerUnavailable(
                f"{error} (not acknowledged, attempt {sending.attempts}: it may have arrived or not; send it again "
                "with the same idempotency key)"
            )
        if self._end(sending, "failed"):
            log.error("%s", error if isinstance(error, BrokerError) else type(error).__name__)
            sending.set_exception(error)

    def _end(self, sending: Sending, count: str) -> bool:
        """Nothing more will be done for it. False if that was so already: the first answer is the one that is told."""
        with self._changed:
            if sending not in self._open:
                return False
            self._open.remove(sending)
            self._counts[count] += 1
            self._changed.notify_all()
        return True

    def _send_again(self) -> None:
        """The thread of the repeats."""
        while (due := self._take_due()) is not None:
            log.warning("%d messages were not acknowledged; sending them again, with the same keys", len(due))
            for sending in due:
                self._publish(sending)

    def _take_due(self) -> list[Sending] | None:
        """Wait for those whose time has come; None if nothing is sent again any more."""
        with self._changed:
            while not self._ended:
                now_s, due = time.monotonic(), []
                while self._due and self._due[0][0] <= now_s:
                    due.append(heapq.heappop(self._due)[2])
                if due:
                    self._counts["repeats"] += len(due)
                    return due
                self._changed.wait(self._due[0][0] - now_s if self._due else None)
        return None


def uuid7() -> UUID:
    """A fresh UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random ones."""
    bits = (time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10))
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def _key(value: object) -> bytes:
    text = text_of(value)
    try:
        key = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError:  # a lone surrogate; the error would carry the text
        key = None
    if key is None:
        raise MissingKey(f"idempotency_key: a {type(value).__name__} like this one is no key; give text or a UUID")
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise MissingKey(f"idempotency_key: it has {len(key)} bytes; give 1 to {MAX_KEY_BYTES}")
    return key


def _bytes(what: str, value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise ConfigurationError(what, HIDDEN, f"a {type(value).__name__} is no payload: give bytes or text")


# -------------------------------------------------------------------------------------------------------- the settings


def _semantics(given: Semantics | str) -> Semantics:
    if given in (Semantics.AT_LEAST_ONCE, Semantics.AT_MOST_ONCE):
        return Semantics(given)
    remedy = 'write "at_least_once" (sent until acknowledged) or "at_most_once" (sent once)'
    if given == Semantics.EFFECTIVELY_ONCE:
        remedy = f"no sender can promise that: the receiver drops the repeats; {remedy}"
    raise ConfigurationError("semantics", given, remedy)


def _check(header: object, buffer: object) -> None:
    if not isinstance(header, str) or not header:
        raise ConfigurationError("header", header, 'name the header: header="idempotency-key"')
    if not isinstance(buffer, int) or isinstance(buffer, bool) or buffer < 1:
        raise ConfigurationError("buffer", buffer, "write a whole number of messages, 1 or more")


def _settings(
    servers: str | None, kafka: Mapping[str, Any], settings_file: str | os.PathLike[str] | None
) -> dict[str, object]:
    """The connection as code, environment and file say it; all the rest as the code says it."""
    said = {"bootstrap_servers": servers, "settings_file": settings_file}
    layers = Layers(
        {"kafka": kafka} | {name: value for name, value in said.items() if value is not None}, Settings.model_fields
    )
    found = {**connection_settings(layers.kafka()), **kafka}
    servers = layers.value_of("bootstrap_servers") or found.get("bootstrap.servers")
    if not isinstance(servers, str):
        remedy = 'it is required; write host:port (in the code, or as KAFKA_ONCE_BOOTSTRAP_SERVERS): "localhost:9092"'
        raise ConfigurationError("bootstrap_servers", servers, remedy)
    return {**found, "bootstrap.servers": servers}
