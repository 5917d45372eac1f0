"""Payloads that a confluent-kafka `Deserializer` makes: those of a schema registry, Avro, Protobuf, or the user's own.

Two kinds of failure are told apart. The bytes do not fit: `UndecodablePayload`, and `on_bad_payload` decides. Or the
registry cannot be asked now: that says nothing about the message, so the error passes through, and the message is
tried again like any whose handler raised.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka.serialization import Deserializer, MessageField, SerializationContext

from kafka_once.errors import ConfigurationError, UndecodablePayload

if TYPE_CHECKING:
    from kafka_once.message import Message

__all__ = ["Deserialized", "Deserializer", "is_passing"]

# What the registry's client raises when there was no answer. Its libraries are optional, so they are known by name.
_TRANSPORTS: Final = ("httpx", "httpx2", "requests", "urllib3")
_REGISTRY: Final = "confluent_kafka.schema_registry"
# What the registry says of a schema that it does not know or cannot take; any other status is about the registry.
_ABOUT_THE_SCHEMA: Final = (404, 409, 422)


class Deserialized:
    """The decoder of `payload=`.

    Args:
        deserializer: an object of confluent-kafka's, or of a subclass of its `Deserializer`; used from any thread.
        accepts_none: whether a tombstone may be given to the handler, as None. Default True.

    Raises:
        ConfigurationError: it is no such object; correct it, nothing was consumed.
    """

    def __init__(self, deserializer: Deserializer, *, accepts_none: bool = True) -> None:
        _check(deserializer)
        self._deserializer = deserializer
        self._accepts_none = accepts_none
        self._name = type(deserializer).__name__

    def decode(self, message: Message) -> object:
        """What the deserializer makes of the payload.

        Raises:
            UndecodablePayload: it refused the payload; or a tombstone, and the handler does not take None.
            Exception: the registry cannot be asked now; try again.
        """
        if message.value is None and not self._accepts_none:
            raise UndecodablePayload(
                "a tombstone (a message without a payload) is not what the handler asks for; annotate `… | None`"
            )
        try:
            return self._deserializer(
                message.value, SerializationContext(message.topic, MessageField.VALUE, list(message.headers))
            )
        except MemoryError:
            raise
        except Exception as error:
            if is_passing(error):
                raise
            refused = UndecodablePayload(f"{self._name} refused the payload ({type(error).__name__})")
        raise refused  # out here: the error quotes the payload, so it must be neither cause nor context


def is_passing(error: BaseException | None) -> bool:
    """Whether the error, or one that it came from, is about the registry and the way to it, not about the message."""
    while error is not None:
        module = type(error).__module__
        if isinstance(error, OSError) or module.partition(".")[0] in _TRANSPORTS:
            return True
        if module.startswith(_REGISTRY) and getattr(error, "http_status_code", None) not in (None, *_ABOUT_THE_SCHEMA):
            return True
        error = error.__cause__ or error.__context__
    return False


def _check(deserializer: Any) -> None:
    shown = deserializer if inspect.isclass(deserializer) else type(deserializer)
    if inspect.isclass(deserializer):
        remedy = f"this is the class: give an object of it, {shown.__name__}(…)"
    elif not isinstance(deserializer, Deserializer):
        remedy = (
            "give a confluent-kafka Deserializer, or an object of a subclass of it with `__call__(self, value, ctx)`"
        )
    elif inspect.iscoroutinefunction(type(deserializer).__call__):
        remedy = "it is asynchronous, and would give a coroutine as payload; take the synchronous one"
    else:
        return
    raise ConfigurationError("payload", shown.__qualname__, remedy)
