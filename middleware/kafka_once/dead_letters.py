"""A message as it stands in the dead-letter topic: bytes unchanged, and headers that say whence it comes and why."""

from __future__ import annotations

from kafka_once.core.delivery import Delivery
from kafka_once.ports import Outgoing

__all__ = ["HEADER_PREFIX", "dead_letter_of"]

HEADER_PREFIX = "kafka-once."
_ERROR_BYTES = 1024  # headers that grow with each error end in a record that Kafka refuses (spring-kafka #1996)


def dead_letter_of(delivery: Delivery, topic: str, group: str) -> Outgoing:
    """The record to publish. Headers of an earlier dead letter are replaced, all others kept in order."""
    message = delivery.message
    error = delivery.error
    headers = [(name, value) for name, value in message.headers if not name.startswith(HEADER_PREFIX)]
    origin: dict[str, str] = {
        "topic": message.topic,
        "partition": str(message.partition),
        "offset": str(message.offset),
        "timestamp": "" if message.timestamp_ms is None else str(message.timestamp_ms),
        "group": group,
        "reason": delivery.reason,
        "attempts": str(delivery.tried),
        "in-doubt": "true" if delivery.doubt else "false",
        "key-digest": delivery.digest.hex() if delivery.digest else "",
        "error-type": "" if error is None else f"{type(error).__module__}.{type(error).__qualname__}",
        "error": "" if error is None else _brief(error),
    }
    headers += [(HEADER_PREFIX + name, value.encode(errors="replace")) for name, value in origin.items()]
    return Outgoing(topic, message.key, message.value, headers)


def _brief(error: BaseException) -> str:
    """Its text. It is a handler's: it may quote halves of characters from a payload, or have none at all."""
    try:
        text = str(error)
    except Exception as another:  # noqa: BLE001  (the dead letter is made all the same)
        text = f"(its text cannot be had: {type(another).__name__})"
    return text.encode(errors="replace")[:_ERROR_BYTES].decode(errors="ignore")
