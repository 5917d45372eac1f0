"""Payloads: decoded by the handler's annotation, and undecodable without a word of what they say."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from typing import Annotated, Any, NewType, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import TypedDict

from kafka_once.errors import ConfigurationError, UndecodablePayload
from kafka_once.message import Message
from kafka_once.payloads import decoder_for

CANARY = "cAnArY7"


class Line(BaseModel):
    sku: str
    count: int


class Payment(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    amount: int = Field(default=0, alias="am-ount")
    lines: list[Line] = []
    labels: dict[str, int] = {}
    either: int | Line | None = None


@dataclass
class Point:
    x: int


class Pair(TypedDict):
    a: int


OLD_STYLE = Optional[bytes]  # noqa: UP045
OrderId = NewType("OrderId", str)


class Unknown:
    pass


def message(value: bytes | None) -> Message:
    return Message("payments", 0, 1, value=value)


def decode(annotation: Any, value: bytes | None) -> object:
    return decoder_for(annotation).decode(message(value))


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (bytes, b"\xff\x00", b"\xff\x00"),
        (bytes, b"", b""),
        (str, "é {".encode(), "é {"),
        (OrderId, b"x", "x"),
        (dict, b'{"a": [1]}', {"a": [1]}),
        (dict[str, int], b'{"a": 1}', {"a": 1}),
        (list, b"[1]", [1]),
        (int, b"5", 5),
        (Any, b'{"a": null}', {"a": None}),
        (Pair, b'{"a": 1}', {"a": 1}),
        (Point, b'{"x": 1}', Point(1)),
        (Line, b'{"sku": "a", "count": 2}', Line(sku="a", count=2)),
        (Line | None, b'{"sku": "a", "count": 2}', Line(sku="a", count=2)),
        (int | str, b'"x"', "x"),
        (Annotated[int, Field(gt=3)], b"5", 5),
        (bytes | None, b"x", b"x"),
        (str | None, b"x", "x"),
    ],
)
def test_payload_decodes_by_the_annotation(annotation: Any, value: bytes, expected: object) -> None:
    assert decode(annotation, value) == expected


def test_message_is_handed_over_whole() -> None:
    tombstone = message(None)

    assert decoder_for(Message).decode(tombstone) is tombstone


@pytest.mark.parametrize(
    "annotation", [bytes | None, str | None, OLD_STYLE, Line | None, dict | None, Any, None, object]
)
def test_tombstone_is_none_where_the_type_allows_it(annotation: Any) -> None:
    assert decode(annotation, None) is None


@pytest.mark.parametrize("annotation", [bytes, str, OrderId, dict, list, int, Line, Point, Pair])
def test_tombstone_is_undecodable_where_the_type_does_not_allow_it(annotation: Any) -> None:
    with pytest.raises(UndecodablePayload, match="tombstone"):
        decode(annotation, None)


@pytest.mark.parametrize(
    "annotation",
    [
        bytes | int,
        bytes | str,
        Message | None,
        Message | Line,
        Annotated[str, Field(max_length=3)],
        Unknown,
        set[Unknown],
    ],
)
def test_type_that_no_payload_can_become_is_refused_before_anything_is_consumed(annotation: Any) -> None:
    with pytest.raises(ConfigurationError):
        decoder_for(annotation)


def test_model_that_names_a_missing_class_is_refused_before_anything_is_consumed() -> None:
    class Incomplete(BaseModel):
        other: NotThere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"not-fully-defined|'NotThere'"):
        decoder_for(Incomplete)
    with pytest.raises(ConfigurationError, match="'NotThere'"):
        decoder_for(list["NotThere"])  # type: ignore[name-defined]  # noqa: F821


def test_validators_of_the_users_are_not_upset_by_the_look_before() -> None:
    class Strict(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            return n * (10 // n)

    assert decode(Strict, b'{"n": 1}') == Strict.model_construct(n=10)
    with pytest.raises(UndecodablePayload, match="raised ZeroDivisionError"):
        decode(Strict, b'{"n": 0}')


def test_error_names_type_count_places_and_kinds() -> None:
    with pytest.raises(UndecodablePayload) as caught:
        decode(Payment, b'{"am-ount": "x", "lines": [{"sku": 1, "count": 2}]}')

    assert str(caught.value) == (
        "the payload is no Payment, 3 errors: id: missing; am-ount: int_parsing; lines.0.sku: string_type"
    )


def test_error_names_five_places_at_most() -> None:
    with pytest.raises(UndecodablePayload) as caught:
        decode(list[int], json.dumps(["x"] * 100).encode())

    assert "100 errors" in str(caught.value)
    assert str(caught.value).count("int_parsing") == 5


def test_out_of_memory_is_not_the_messages_fault() -> None:
    class Exhausting(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:  # noqa: ARG003
            raise MemoryError

    with pytest.raises(MemoryError):
        decode(Exhausting, b'{"n": 5}')


# ------------------------------------------------------------------------------------------------- nothing is quoted


def _refusal(annotation: Any, payload: bytes) -> str:
    """All that can be read from the error; nothing if the payload decodes."""
    try:
        decode(annotation, payload)
    except UndecodablePayload as error:
        return "".join(traceback.format_exception(error)) + repr(error.__context__) + repr(error.args)
    return ""


@pytest.mark.parametrize(
    "annotation", [str, dict, list, int, Line, Payment, Point, Pair, Payment | None, dict[str, int]]
)
@pytest.mark.parametrize(
    "payload",
    [
        CANARY.encode(),
        CANARY.encode() + b"\xff",
        f'"{CANARY}'.encode(),
        f'{{"{CANARY}": "{CANARY}", "id": ["{CANARY}"], "sku": ["{CANARY}"], "a": "{CANARY}"}}'.encode(),
        f'{{"x": "{CANARY}", "id": "{CANARY}"'.encode() + b"\xff}",
        f'{{"id": "{CANARY}", "labels": {{"{CANARY}": "{CANARY}"}}, "either": "{CANARY}", "{CANARY}": 1}}'.encode(),
        f'[{{"{CANARY}": "{CANARY}"}}]'.encode(),
    ],
)
def test_no_error_quotes_the_payload_anywhere_in_its_traceback(annotation: Any, payload: bytes) -> None:
    assert CANARY not in _refusal(annotation, payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(CANARY),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "lines", "labels", "sku", CANARY]), inner)
    ),
    max_leaves=8,
)


@given(JSON)
def test_no_json_makes_an_error_quote_it(payload: object) -> None:
    for annotation in (Payment, Line, dict[str, Line], list[Payment]):
        assert CANARY not in _refusal(annotation, json.dumps(payload).encode())


@given(st.binary())
def test_any_bytes_decode_or_are_undecodable(payload: bytes) -> None:
    for annotation in (str, dict, Payment, int | None):
        _refusal(annotation, payload)
