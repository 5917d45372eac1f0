"""What a handler may look like, and what is refused when it is decorated."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from kafka_once.errors import ConfigurationError, UndecodablePayload
from kafka_once.message import Message
from kafka_once.signatures import HandlerSignature

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import AsyncIterator, Callable, Iterator


class Payment(BaseModel):
    id: str


PAYLOAD = b'{"id": "p"}'
MESSAGE = Message("payments", 0, 1, value=PAYLOAD)


def of_payload(payment: Payment) -> None: ...
def of_payload_and_message(payment: Payment, message: Message) -> None: ...
def of_payload_and_unannotated_message(payment: Payment, message) -> None: ...  # type: ignore[no-untyped-def]
def of_message(message: Message) -> None: ...
def of_bytes(payload: bytes) -> None: ...
def of_position_only(payment: Payment, message: Message, /) -> None: ...
def with_defaults(payment: Payment, retries: int = 3, *, log: bool = False, **more: Any) -> None: ...
def with_return_type_for_checkers(payment: Payment) -> OrderedDict[str, str] | None: ...
async def asynchronous(payment: Payment) -> None: ...


class Service:
    def method(self, payment: Payment) -> None: ...
    async def async_method(self, payment: Payment, message: Message) -> None: ...
    @classmethod
    def class_method(cls, payment: Payment) -> None: ...
    @staticmethod
    def static_method(payment: Payment) -> None: ...


class CallableObject:
    def __call__(self, payment: Payment) -> None: ...


class AsyncCallableObject:
    async def __call__(self, payment: Payment) -> None: ...


def wrapping(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return handler(*args, **kwargs)

    return wrapper


def hiding(handler: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: handler(*arguments)  # noqa: PLW0108  (that is what is tested)


def with_dependency(dependency: str, payment: Payment) -> None: ...


P = Payment(id="p")


@pytest.mark.parametrize(
    ("handler", "arguments", "is_async"),
    [
        (of_payload, (P,), False),
        (of_payload_and_message, (P, MESSAGE), False),
        (of_payload_and_unannotated_message, (P, MESSAGE), False),
        (of_message, (MESSAGE,), False),
        (of_bytes, (PAYLOAD,), False),
        (of_position_only, (P, MESSAGE), False),
        (with_defaults, (P,), False),
        (with_return_type_for_checkers, (P,), False),
        (asynchronous, (P,), True),
        (Service().method, (P,), False),
        (Service().async_method, (P, MESSAGE), True),
        (Service.class_method, (P,), False),
        (Service.static_method, (P,), False),
        (CallableObject(), (P,), False),
        (AsyncCallableObject(), (P,), True),
        (wrapping(of_payload), (P,), False),
        (functools.partial(with_dependency, "db"), (P,), False),
        (functools.partial(asynchronous), (P,), True),
    ],
)
def test_forms_of_a_handler(handler: Callable[..., Any], arguments: tuple[object, ...], is_async: bool) -> None:
    signature = HandlerSignature.of(handler)

    assert signature.arguments(MESSAGE) == arguments
    assert signature.is_async is is_async


def none_at_all() -> None: ...
def three(payment: Payment, message: Message, more: int) -> None: ...
def keyword_only(payment: Payment, *, log: bool) -> None: ...
def any_number(*payments: Payment) -> None: ...
def without_annotation(payment) -> None: ...  # type: ignore[no-untyped-def]
def message_first(message: Message, payment: Payment) -> None: ...
def message_twice(message: Message, again: Message) -> None: ...
def second_is_no_message(payment: Payment, number: int) -> None: ...
def unknown_name(payment: NotThere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def checkers_only(payment: OrderedDict[str, str]) -> None: ...
def impossible(payment: CallableObject) -> None: ...
def broken_annotation(payment: Payment.nothing) -> None: ...  # type: ignore[name-defined]


def generator(payment: Payment) -> Iterator[int]:  # noqa: ARG001
    yield 1


async def async_generator(payment: Payment) -> AsyncIterator[int]:  # noqa: ARG001
    yield 1


class GeneratorObject:
    def __call__(self, payment: Payment) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("handler", "remedy"),
    [
        (none_at_all, "0 arguments"),
        (three, "3 arguments"),
        (keyword_only, "'log'"),
        (any_number, "functools.wraps"),
        (hiding(of_payload), "functools.wraps"),
        (without_annotation, "payment: bytes"),
        (message_first, "no Message"),
        (message_twice, "second parameter"),
        (second_is_no_message, "'number'"),
        (unknown_name, "'NotThere'"),
        (checkers_only, "TYPE_CHECKING"),
        (impossible, "CallableObject"),
        (broken_annotation, "AttributeError"),
        (generator, "yield"),
        (async_generator, "yield"),
        (GeneratorObject(), "yield"),
        (wrapping(generator), "yield"),
        (Payment, "no function"),
        (5, "no function"),
        (type("Odd", (), {"__call__": print, "__signature__": 5})(), "cannot be read"),
    ],
)
def test_what_is_no_handler_is_refused_with_its_name_and_a_remedy(handler: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HandlerSignature.of(handler)

    assert remedy in caught.value.remedy
    assert caught.value.setting == "handler"


def test_class_inside_a_function_is_refused_with_a_remedy() -> None:
    class Local(BaseModel):
        id: str

    def handle(payment: Local) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'Local'.*not inside a function"):
        HandlerSignature.of(handle)


def test_payload_that_does_not_fit_is_undecodable() -> None:
    with pytest.raises(UndecodablePayload):
        HandlerSignature.of(of_payload).arguments(Message("payments", 0, 1, value=b"{}"))
