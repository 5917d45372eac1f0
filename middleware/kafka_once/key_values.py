"""Reading the value of a key: from JSON exactly as it was written, or from an object that a Deserializer made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import from_json

from kafka_once.errors import UndecodablePayload

if TYPE_CHECKING:
    from kafka_once.message import Message

__all__ = ["exact_json", "fast_json", "member", "text_of"]


def fast_json(message: Message) -> object:
    """The payload, None for a tombstone. Fractions are floats, which have lost digits: see `exact_json`."""
    return _payload(message, lambda payload: from_json(payload, cache_strings="keys"))


def exact_json(message: Message) -> object:
    """The same, three times slower: fractions as they were written, and NaN and the infinities, no keys, as None."""
    return _payload(message, lambda payload: json.loads(payload, parse_float=str, parse_constant=lambda _name: None))


def _payload(message: Message, read_json: Callable[[bytes], object]) -> object:
    if message.value is None:
        return None
    try:
        return read_json(message.value)
    except (ValueError, RecursionError):  # these carry the payload: nothing of them is chained
        pass
    raise UndecodablePayload("the payload is not JSON in UTF-8, so its idempotency key cannot be read")


def member(node: object, name: str) -> object:
    """What an object has under the name that it has in the JSON, None if nothing."""
    if isinstance(node, Mapping):
        return node.get(name)
    if isinstance(node, BaseModel):
        fields = type(node).model_fields
        by_alias = (attribute for attribute, info in fields.items() if info.alias == name)
        attribute = next(by_alias, name)
        return getattr(node, attribute) if attribute in fields else (node.model_extra or {}).get(name)
    if is_dataclass(node):
        return getattr(node, name, None)
    if hasattr(node, "DESCRIPTOR") and hasattr(node, "ListFields"):  # Protobuf: a field that is not set has a default
        return next((value for field, value in node.ListFields() if field.name == name), None)
    return _attribute(node, name)


def _attribute(node: object, name: str) -> object:
    """What an object of a plain class carries itself; nothing of what every object of its class has."""
    carried = getattr(node, "__dict__", {})
    if name in carried:
        return carried[name]
    slots = {slot for kind in type(node).__mro__ for slot in _slots_of(kind)}
    return getattr(node, name, None) if name in slots else None


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def text_of(value: object) -> str | bytes | None:
    """The value as a key's text or bytes, None if it is no key."""
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value)) if value.bit_length() <= 8 * 1024 else None  # Python prints no more than 4,300 digits
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return str(value)
    return None
