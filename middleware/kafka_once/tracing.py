"""OpenTelemetry spans: one for each run of a handler, linked to the trace of whoever produced the message.

Needs the extra `tracing` (opentelemetry-api). Names and attributes are those of OpenTelemetry's conventions for
messaging and for Kafka; no attribute holds a payload or a key, and an exception is named by its type only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kafka_once.observers import Observer

if TYPE_CHECKING:
    from kafka_once.message import Message

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.propagators.textmap import Getter
    from opentelemetry.trace import Link, SpanKind, StatusCode
except ImportError as error:
    raise ImportError("opentelemetry-api is not installed: pip install 'kafka-once[tracing]'") from error

__all__ = ["Tracing"]


class Tracing(Observer):
    """An observer that makes spans: `App(…, observers=[Tracing(group="billing")])`.

    The producer's context is read from the message's headers by the configured propagator (by default W3C
    `traceparent`). The span is current while the handler runs, so what the handler does stands below it.

    Args:
        group: the consumer group, as an attribute. Default none.
        as_child: True puts the span into the producer's trace, below its span, besides linking it. Default False: a
            trace of its own, with a link.
        tracer_provider: whose tracer is used. Default: the global one.
    """

    def __init__(
        self, *, group: str | None = None, as_child: bool = False, tracer_provider: trace.TracerProvider | None = None
    ) -> None:
        self._group = group
        self._as_child = as_child
        self._tracer = trace.get_tracer("kafka_once", tracer_provider=tracer_provider)

    @contextmanager
    def on_run(self, message: Message) -> Iterator[None]:
        """One span, of kind CONSUMER."""
        produced_in = propagate.extract(message, context=context.Context(), getter=_HEADERS)
        producer = trace.get_current_span(produced_in).get_span_context()
        with self._tracer.start_as_current_span(
            f"process {message.topic}",
            context=produced_in if self._as_child else None,
            kind=SpanKind.CONSUMER,
            attributes=self._attributes(message),
            links=[Link(producer)] if producer.is_valid else None,
            record_exception=False,  # its text is the user's and may quote a payload
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
                span.set_status(StatusCode.ERROR)
                raise

    def _attributes(self, message: Message) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": message.topic,
            "messaging.destination.partition.id": str(message.partition),
            "messaging.kafka.offset": message.offset,
            "kafka_once.attempt": message.attempt,
            "kafka_once.in_doubt": message.in_doubt,
        }
        if self._group is not None:
            attributes["messaging.consumer.group.name"] = self._group
        if message.value is not None:
            attributes["messaging.message.body.size"] = len(message.value)
        else:
            attributes["messaging.kafka.message.tombstone"] = True
        return attributes


class _Headers(Getter["Message"]):
    """Reads what a propagator asks for out of a message's headers."""

    def get(self, carrier: Message, key: str) -> list[str] | None:
        values = [value.decode("latin-1") for name, value in carrier.headers if name.lower() == key.lower() and value]
        return values or None

    def keys(self, carrier: Message) -> list[str]:
        return [name for name, _ in carrier.headers]


_HEADERS = _Headers()
