"""Idempotency keys: from a message to the bytes that name its work, the same for every repeat.

A key is bytes. Text stands as its UTF-8, a number as the digits it was written with, bytes as they are. So the text
"1", the number 1 and the bytes b"1" are one key: they name the same work, and a repeat that was serialized anew keeps
its identity. There is no normalisation: case, spaces and Unicode forms all count.

No usable key (`MissingKey`; the policy decides what then happens) are: absent, null, empty, oversized, true and false
(two constants for all the work there is), NaN and infinities, objects and lists.

Nothing here is ever replaced by a constant, and no error quotes a value: they name the key's definition only.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from kafka_once.core.semantics import KeyPolicy
from kafka_once.errors import ConfigurationError, MissingKey, UndecodablePayload
from kafka_once.key_values import exact_json, fast_json, member, text_of
from kafka_once.message import Message

__all__ = [
    "DIGEST_BYTES",
    "MAX_KEY_BYTES",
    "Key",
    "KeyLike",
    "KeyPolicy",
    "KeyReader",
    "cloudevent",
    "compose",
    "coordinates",
    "digest",
    "field",
    "header",
    "key_for",
    "record_key",
]

# A key is hashed and kept in memory while its message is in flight; identities are tens of bytes.
MAX_KEY_BYTES: Final = 4096

# 128 bits: among 10**12 keys two share a digest with a chance of about 1 in 10**15. Never less.
DIGEST_BYTES: Final = 16


class Key(ABC):
    """How to find a message's idempotency key. Made by `header`, `field`, `record_key`, `cloudevent`, `coordinates` and
    `compose`.

    Attributes:
        reads_object: it is read from the object that a Deserializer makes of the payload, where there is one.
    """

    __slots__ = ("_definition", "max_key_bytes", "reads_object")

    def __init__(self, definition: str) -> None:
        self._definition = definition
        self.max_key_bytes = MAX_KEY_BYTES
        self.reads_object = False

    def __repr__(self) -> str:
        return self._definition

    def extract(self, message: Message, decoded: object = None) -> bytes:
        """The key of this message: 1 to `max_key_bytes` bytes.

        Args:
            message: the message as delivered.
            decoded: the payload as an object, only where its bytes are not JSON (a Deserializer made it). Default
                None: the bytes are read, so that the key depends on the message alone and a handler that changes its
                annotation forgets nothing.

        Raises:
            MissingKey: no usable key; the caller applies its `KeyPolicy`.
            UndecodablePayload: `field` cannot read the payload; the caller applies its policy for bad payloads.
        """
        key = self.encoded(message, decoded)
        if len(key) > self.max_key_bytes:
            raise MissingKey(f"{self!r}: the key has {len(key)} bytes, more than max_key_bytes={self.max_key_bytes}")
        return key

    def encoded(self, message: Message, decoded: object) -> bytes:
        """Like `extract`, of any length."""
        value = self.read(message, decoded)
        key = value if type(value) is bytes else self._encode(value)
        if not key:
            raise MissingKey(f"{self!r}: the key is empty")
        return key

    @abstractmethod
    def read(self, message: Message, decoded: object) -> object:
        """The value that stands for the key, None if there is none."""

    def _encode(self, value: object) -> bytes:
        text = text_of(value)
        if text is None:
            what = "the key is missing" if value is None else f"a {type(value).__name__} like this one is no key"
            raise MissingKey(f"{self!r}: {what}")
        try:
            return text if isinstance(text, bytes) else text.encode()
        except UnicodeEncodeError:  # a lone surrogate; the error would carry the text
            pass
        raise MissingKey(f"{self!r}: the key is no valid Unicode text")


KeyReader = Callable[[Message], str | bytes | int | None]
"""A function of the user's that reads the key from the message; None where there is none."""

KeyLike = Key | KeyReader | tuple["KeyLike", ...] | list["KeyLike"]
"""What may be given as `key=`: a key, a function, or several of them to compose."""


def header(name: str) -> Key:
    """The key stands in the header of that name, its bytes as they are; of repeated headers the last one wins."""
    if not _is_text(name):
        raise ConfigurationError("key", name, 'name the header: header("idempotency-key")')
    return _Header(name)


def field(path: str) -> Key:
    """The key stands in the JSON payload at that dotted path: `field("order.id")`.

    The path goes through objects, not lists, and by the names in the JSON. For names with dots in them, or anything
    else, give a function instead. Numbers keep the digits they were written with.
    """
    if not _is_text(path) or not all(path.split(".")):
        raise ConfigurationError("key", path, 'name the path in the payload: field("order.id")')
    return _Field(path)


def record_key() -> Key:
    """The Kafka record key is the idempotency key. Right only if no two different works share a record key."""
    return _RecordKey("record_key()")


def cloudevent() -> Key:
    """A CloudEvent's source and id together are the key, in binary mode (headers `ce_source` and `ce_id`) and in
    structured mode (content-type `application/cloudevents+json`, both in the JSON envelope).

    Both modes give the same key, which is that of `compose(header("ce_source"), header("ce_id"))`.
    """
    return _CloudEvent("cloudevent()")


def coordinates() -> Key:
    """Topic, partition and offset are the key: safe from redelivery, but a producer's repeat is processed."""
    return _Coordinates("coordinates()")


def compose(*keys: KeyLike) -> Key:
    """Several keys together are the key: `compose(header("tenant"), field("id"))`.

    Injective: different parts never give the same key, so ("a", "bc") is not ("ab", "c"). Every part must be there.
    """
    if not keys:
        raise ConfigurationError("key", (), 'name at least one part: compose(header("tenant"), field("id"))')
    return _Composition(tuple(key_for(key) for key in keys))


def key_for(key: KeyLike, max_key_bytes: int = MAX_KEY_BYTES) -> Key:
    """The key object for what a user gave as `key=`.

    Args:
        key: a key, a function from the message to text, bytes, an integer or None, or a tuple or list of these.
        max_key_bytes: the longest key accepted, in bytes; default 4096.

    Raises:
        ConfigurationError: it is none of these; correct it, nothing was consumed.
    """
    if isinstance(key, tuple | list):
        key = compose(*key)
    elif not isinstance(key, Key):
        _check_reader(key)
        key = _Reader(key)
    bounded = copy.copy(key)
    bounded.max_key_bytes = max_key_bytes
    return bounded


@lru_cache(maxsize=1024)
def _scoped(scope: str) -> blake2b:
    """What has hashed the scope already: to copy it costs half of beginning anew."""
    text = scope.encode()
    return blake2b(len(text).to_bytes(4, "big") + text, digest_size=DIGEST_BYTES)


def digest(scope: str, key: bytes) -> bytes:
    """The 16 bytes that stand for a key in the store.

    Whatever a key contains, it has no other influence on what is stored, and no scope can reach another's keys: the
    scope goes in with its length.

    Args:
        scope: within which keys are distinct; by default the source topic.
        key: as `Key.extract` gave it.
    """
    hashed = _scoped(scope).copy()
    hashed.update(key)
    return hashed.digest()


# --------------------------------------------------------------------------------------------------- the kinds of keys


class _Header(Key):
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(f"header({name!r})")
        self.name = name

    def extract(self, message: Message, decoded: object = None) -> bytes:
        """As every key's, in one piece for the usual case: one call for each message instead of four."""
        name = self.name
        for header_name, value in reversed(message.headers):
            if header_name == name:
                if type(value) is bytes and 0 < len(value) <= self.max_key_bytes:
                    return value
                break
        return super().extract(message, decoded)  # which says what is wrong

    def read(self, message: Message, decoded: object) -> object:  # noqa: ARG002
        return message.header(self.name)


class _RecordKey(Key):
    __slots__ = ()

    def read(self, message: Message, decoded: object) -> object:  # noqa: ARG002
        return message.key


class _Coordinates(Key):
    __slots__ = ()

    def read(self, message: Message, decoded: object) -> object:  # noqa: ARG002
        return message.identity()


class _Reader(Key):
    __slots__ = ("reader",)

    def __init__(self, reader: KeyReader) -> None:
        super().__init__(f"key function {getattr(reader, '__qualname__', type(reader).__qualname__)}")
        self.reader = reader

    def read(self, message: Message, decoded: object) -> object:  # noqa: ARG002
        try:
            return self.reader(message)
        except (MissingKey, UndecodablePayload, MemoryError):
            raise
        except Exception as exc:  # the user's code; its text may quote the payload
            raise MissingKey(f"{self!r}: raised {type(exc).__name__}") from exc


class _Field(Key):
    __slots__ = ("names",)

    def __init__(self, path: str) -> None:
        super().__init__(f"field({path!r})")
        self.names = path.split(".")
        self.reads_object = True

    def read(self, message: Message, decoded: object) -> object:
        if decoded is not None:
            return self._walk(decoded)
        value = self._walk(fast_json(message))
        if type(value) is float:  # two that differ in the 18th digit are one float: read it again as it was written
            value = self._walk(exact_json(message))
        return value

    def _walk(self, node: object) -> object:
        for name in self.names:
            node = node.get(name) if type(node) is dict else member(node, name)
        return node


class _CloudEvent(Key):
    """The CloudEvents specification makes the two together unique for each event; each alone is not."""

    __slots__ = ()

    def read(self, message: Message, decoded: object) -> object:  # noqa: ARG002  (an envelope is JSON, whatever is in it)
        mode = _content_type(message)
        if not mode.startswith("application/cloudevents"):
            parts = [message.header("ce_source"), message.header("ce_id")]
        elif mode == "application/cloudevents+json":
            envelope = fast_json(message)
            parts = [envelope.get(name) if type(envelope) is dict else None for name in ("source", "id")]
        else:
            raise MissingKey(f"{self!r}: of structured events those in JSON can be read, one in a message")
        return b"".join(_part(b"P", self._attribute(name, part)) for name, part in zip(_EVENT_KEY, parts, strict=True))

    def _attribute(self, name: str, value: object) -> bytes:
        if not isinstance(value, str | bytes):  # the specification knows no other: a number was not made by its SDKs
            raise MissingKey(f"{self!r}: the event has no {name}")
        if not (encoded := self._encode(value)):
            raise MissingKey(f"{self!r}: the event's {name} is empty")
        return encoded


_EVENT_KEY: Final = ("source", "id")


def _content_type(message: Message) -> str:
    """The media type in small letters, without its parameters; empty if there is none."""
    value = message.header("content-type") or b""
    return value.partition(b";")[0].strip().lower().decode("latin-1")


class _Composition(Key):
    """Each part with its kind and its length before it.

    The kind tells a part that is composed itself from plain bytes that look the same.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Key, ...]) -> None:
        super().__init__(f"compose({', '.join(map(repr, parts))})")
        self.parts = parts
        self.reads_object = any(part.reads_object for part in parts)

    def read(self, message: Message, decoded: object) -> object:
        return b"".join(
            _part(b"C" if isinstance(part, _Composition | _CloudEvent) else b"P", part.encoded(message, decoded))
            for part in self.parts
        )


def _part(kind: bytes, key: bytes) -> bytes:
    return kind + len(key).to_bytes(8, "big") + key


def parts_of(key: bytes) -> list[bytes] | None:
    """The parts of a composed key, for people to read; None if it does not look like one."""
    parts = []
    while key:
        length = int.from_bytes(key[1:9], "big")
        if key[:1] not in (b"P", b"C") or len(key) < 9 + length:
            return None
        parts.append(key[9 : 9 + length])
        key = key[9 + length :]
    return parts or None


# --------------------------------------------------------------------------------------------- what the user gave us


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _check_reader(key: object) -> None:
    if isinstance(key, str):
        raise ConfigurationError("key", key, f"say where it stands: header({key!r}) or field({key!r})")
    if any(key is maker for maker in (header, field, record_key, cloudevent, coordinates, compose)):
        raise ConfigurationError("key", key, f"call it: {getattr(key, '__name__', '')}(...)")
    if inspect.isclass(key) or inspect.iscoroutinefunction(key) or not callable(key):
        remedy = (
            "write header(name), field(path), record_key(), cloudevent(), coordinates(), or a plain function of the "
            "message"
        )
        raise ConfigurationError("key", key, remedy)
