"""What a user's handler looks like: which arguments it takes, of which type, and how it is run.

    def handle(payment: Payment) -> None              the payload, decoded by its annotation
    def handle(payment: Payment, message) -> None     the payload and the message
    def handle(message: Message) -> None              the message, nothing decoded

All three also as `async def`, as a method or as an object with `__call__`. Parameters with a default keep it.
The payload's annotation is required: whether bytes or JSON is meant cannot be guessed, and a wrong guess would
dead-letter a topic. Unless a Deserializer makes the payload: then the annotation is for readers and type checkers, and
says only whether the handler takes None for a tombstone.
"""

from __future__ import annotations

import functools
import inspect
import typing
from dataclasses import dataclass
from inspect import Parameter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kafka_once.deserializers import Deserialized, Deserializer
from kafka_once.errors import ConfigurationError
from kafka_once.message import Message
from kafka_once.payloads import Decoder, decoder_for, union_members

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HandlerSignature"]

_FORMS = "write (payload: Type), (payload: Type, message) or (message: Message)"


@dataclass(frozen=True, slots=True)
class HandlerSignature:
    """How to call a handler.

    Attributes:
        name: of the handler, for people.
        is_async: call it in an event loop and await it. Else run it in a thread; should it return an awaitable all the
            same (a wrapper around an async function), nothing has run yet: that is an error, never a success.
        decoder: makes its first argument of a message.
        takes_message: it takes the message as second argument.
    """

    name: str
    is_async: bool
    decoder: Decoder
    takes_message: bool

    @classmethod
    def of(cls, handler: Callable[..., object], payload: Deserializer | None = None) -> HandlerSignature:
        """Look at a handler when it is decorated.

        Args:
            handler: a function, method or callable object, sync or async.
            payload: makes the payload instead of the annotation, which may then be missing. Default None.

        Raises:
            ConfigurationError: it cannot be called with a message; correct it, nothing was consumed.
        """
        name = _name_of(handler)
        code = _code_of(handler, name)
        parameters = _parameters_of(handler, name)
        annotations = _annotations_of(code, parameters, name)
        if len(parameters) == 2:
            _check_second(parameters[1], annotations, name)
        if payload is None:
            decoder = _decoder_of(parameters, annotations, name)
        else:
            decoder = _deserialized(payload, annotations.get(parameters[0].name, Any), name)
        return cls(name, inspect.iscoroutinefunction(code), decoder, len(parameters) == 2)

    def arguments(self, message: Message) -> tuple[object, ...]:
        """What to call the handler with.

        Raises:
            UndecodablePayload: the payload does not fit; the caller applies its policy for bad payloads.
        """
        payload = self.decoder.decode(message)
        return (payload, message) if self.takes_message else (payload,)


def _name_of(handler: object) -> str:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return str(getattr(handler, "__qualname__", type(handler).__qualname__))


def _code_of(handler: object, name: str) -> Callable[..., object]:
    """The function or method behind a handler, refused where calling it would run nothing."""
    code = handler
    while isinstance(code, functools.partial):
        code = code.func
    if inspect.isclass(code) or not callable(code):
        raise ConfigurationError("handler", name, f"this is no function; {_FORMS}")
    if not inspect.isroutine(code):
        code = type(code).__call__
    for layer in (code, inspect.unwrap(code)):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            raise ConfigurationError(
                "handler", name, "a generator runs nothing when it is called; take out the `yield`"
            )
    return code


def _parameters_of(handler: Callable[..., object], name: str) -> list[Parameter]:
    """The one or two parameters that we fill."""
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (NameError, TypeError, ValueError) as exc:
        raise ConfigurationError("handler", name, f"its parameters cannot be read ({exc}); {_FORMS}") from None
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        remedy = f"*args hide what it takes; {_FORMS} (a decorator around it needs functools.wraps)"
        raise ConfigurationError("handler", name, remedy)
    needed = [p for p in parameters if p.default is Parameter.empty and p.kind is not Parameter.VAR_KEYWORD]
    for parameter in needed:
        if parameter.kind is Parameter.KEYWORD_ONLY:
            remedy = f"the keyword-only parameter {parameter.name!r} has no default; {_FORMS}"
            raise ConfigurationError("handler", name, remedy)
    if len(needed) not in (1, 2):
        raise ConfigurationError("handler", name, f"it needs {len(needed)} arguments instead of one or two; {_FORMS}")
    return needed


def _annotations_of(code: Callable[..., object], parameters: list[Parameter], name: str) -> dict[str, Any]:
    """The parameters' annotations as types. Not the return type: it may exist for type checkers only."""
    function: Any = inspect.unwrap(code)
    function = getattr(function, "__func__", function)
    given = {p.name: p.annotation for p in parameters if p.annotation is not Parameter.empty}
    try:
        return typing.get_type_hints(
            SimpleNamespace(__annotations__=given), getattr(function, "__globals__", {}), include_extras=True
        )
    except NameError as exc:
        remedy = (
            f"its annotation names {exc.name!r}, which is not found in its module; define or import it there, "
            "not under TYPE_CHECKING and not inside a function"
        )
    except (AttributeError, SyntaxError, TypeError) as exc:
        remedy = f"its annotations cannot be read ({type(exc).__name__}); {_FORMS}"
    raise ConfigurationError("handler", name, remedy)


def _check_second(second: Parameter, annotations: dict[str, Any], name: str) -> None:
    if annotations.get(second.name, Message) not in (Message, Any, object):
        raise ConfigurationError("handler", name, f"its second parameter {second.name!r} is no Message; {_FORMS}")


def _deserialized(payload: Deserializer, annotation: Any, name: str) -> Decoder:
    kinds = union_members(annotation)
    if Message in kinds:
        remedy = "it asks for the message, so payload= would make nothing for it; write (payload, message)"
        raise ConfigurationError("handler", name, remedy)
    return Deserialized(payload, accepts_none=any(kind in (Any, object, None, type(None)) for kind in kinds))


def _decoder_of(parameters: list[Parameter], annotations: dict[str, Any], name: str) -> Decoder:
    first = parameters[0].name
    if first not in annotations:
        remedy = (
            f"say what {first!r} is: `{first}: bytes` for the bytes, `{first}: dict` or a model for JSON, or Message"
        )
        raise ConfigurationError("handler", name, remedy)
    annotation = annotations[first]
    if annotation is Message and len(parameters) == 2:
        raise ConfigurationError("handler", name, f"the message is the second parameter, or the only one; {_FORMS}")
    try:
        return decoder_for(annotation)
    except ConfigurationError as exc:
        raise ConfigurationError("handler", name, f"{first}: {exc.value} – {exc.remedy}") from None
