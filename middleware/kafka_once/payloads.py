"""Payloads: from a message's bytes to what the handler's annotation asks for.

    bytes        the payload as it is
    str          the payload as UTF-8, strictly
    Message      the whole message, nothing decoded
    a model, dataclass, TypedDict, dict, list, int, Any or whatever pydantic knows
                 the payload as JSON, validated
    … or None    the same, and None for a tombstone

A tombstone (a message without a payload) decodes as JSON's null does: into None where the type allows it, else it is
undecodable. No error quotes the payload, not even the names it uses: only those that the type declares.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from kafka_once.errors import ConfigurationError, UndecodablePayload
from kafka_once.message import Message

__all__ = ["Decoder", "decoder_for", "union_members"]


class Decoder(Protocol):
    """Decodes payloads. Made once for a handler, used from any thread."""

    def decode(self, message: Message) -> object:
        """What the handler gets for this message.

        Raises:
            UndecodablePayload: it does not fit; the caller applies its policy for bad payloads. The text names types
                and places only.
        """
        ...


def decoder_for(annotation: Any) -> Decoder:
    """The decoder for a parameter's annotation (a type, not its name as a string).

    Raises:
        ConfigurationError: no payload can become such a type; correct the annotation, nothing was consumed.
    """
    members = [_without_new_type(member) for member in union_members(annotation)]
    kinds = [member for member in members if member is not type(None)]
    if members == [Message]:
        return _WholeMessage()
    if kinds in ([bytes], [str]):
        return _Raw(kinds[0], accepts_none=len(members) > 1)
    if any(kind in (bytes, Message) or _is_annotated_raw(kind) for kind in kinds):
        remedy = "bytes, str and Message stand alone or with None; for JSON that is checked write a model, dict or Any"
        raise ConfigurationError("payload", _name_of(annotation), remedy)
    return _Json(annotation)


class _WholeMessage:
    def decode(self, message: Message) -> object:
        return message


class _Raw:
    def __init__(self, kind: type, *, accepts_none: bool) -> None:
        self._kind = kind
        self._accepts_none = accepts_none

    def decode(self, message: Message) -> object:
        if message.value is None:
            if self._accepts_none:
                return None
            raise _tombstone(self._kind)
        if self._kind is bytes:
            return message.value
        try:
            return message.value.decode()
        except UnicodeDecodeError:  # it carries the payload: not chained
            pass
        raise UndecodablePayload("the payload is not text in UTF-8; the handler asks for str")


class _Json:
    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._adapter = _adapter_for(annotation)
        self._declared: frozenset[str] | None = None

    def decode(self, message: Message) -> object:
        tombstone = message.value is None
        try:
            return self._adapter.validate_json(b"null" if message.value is None else message.value)
        except ValidationError as exc:
            refused = _tombstone(self._annotation) if tombstone else self._refused(exc)
        except MemoryError:
            raise
        except Exception as exc:  # a validator of the user's; its text may quote the payload
            name = _name_of(self._annotation)
            raise UndecodablePayload(f"a validator of {name} raised {type(exc).__name__}") from exc
        raise refused  # out here, so that the ValidationError, which carries the payload, is not its context

    def _refused(self, exc: ValidationError) -> UndecodablePayload:
        if self._declared is None:
            self._declared = frozenset(_declared_names(self._adapter.core_schema))
        problems = exc.errors(include_url=False, include_context=False, include_input=False)
        shown = [f"{self._place(problem['loc'])}: {problem['type']}" for problem in problems[:_PROBLEMS_SHOWN]]
        if len(problems) > len(shown):
            shown.append("…")
        count = f"{len(problems)} error{'s' if len(problems) > 1 else ''}"
        return UndecodablePayload(f"the payload is no {_name_of(self._annotation)}, {count}: {'; '.join(shown)}")

    def _place(self, location: tuple[int | str, ...]) -> str:
        assert self._declared is not None
        # A key of a dict, or a member that the type forbids, is the sender's text.
        steps = [str(step) if isinstance(step, int) or step in self._declared else "?" for step in location]
        return ".".join(steps) or "payload"


_PROBLEMS_SHOWN: Final = 5


def _tombstone(annotation: Any) -> UndecodablePayload:
    name = _name_of(annotation)
    return UndecodablePayload(
        f"a tombstone (a message without a payload) is no {name}; write `{name} | None` to get it"
    )


def _adapter_for(annotation: Any) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        _check_complete(adapter)
    except PydanticUserError as exc:
        remedy = (
            f"a payload cannot become this type ({exc.code or type(exc).__name__}); write a pydantic model, dataclass, "
            "TypedDict, dict, list, str, bytes or Message, defined before the handler"
        )
    except NameError as exc:  # pydantic 2.7; newer ones raise a PydanticUserError
        remedy = f"the type names {exc.name!r}, which is not defined yet; define it before the handler"
    else:
        return adapter
    raise ConfigurationError("payload", _name_of(annotation), remedy)


def _check_complete(adapter: TypeAdapter[Any]) -> None:
    """A model that names a missing class fails only when it is first used: use it once."""
    try:
        adapter.validate_json(b"null")
    except PydanticUserError:
        raise
    except Exception:  # noqa: BLE001, S110  (null need not fit, and a validator of the user's need not expect it)
        pass


def _without_new_type(annotation: Any) -> Any:
    while isinstance(annotation, typing.NewType):
        annotation = annotation.__supertype__
    return annotation


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, None's type among them; the annotation itself if it is none."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _is_annotated_raw(annotation: Any) -> bool:
    """Annotated[str, …]: what is annotated to raw text or bytes would silently go unchecked."""
    if typing.get_origin(annotation) is not Annotated:
        return False
    return _without_new_type(typing.get_args(annotation)[0]) in (bytes, str, Message)


def _name_of(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _declared_names(schema: object) -> Iterator[str]:
    """Every name that a type itself declares: its fields, their aliases, the labels of its unions."""
    if isinstance(schema, Mapping):
        fields = schema.get("fields")
        if isinstance(fields, Mapping):
            yield from fields
        for part, value in schema.items():
            if part in ("name", "alias", "validation_alias", "type", "cls_name") and isinstance(value, str):
                yield value
            yield from _declared_names(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from _declared_names(value)
