"""Idempotency keys: what is one, what is none, and that different works never share one."""

from __future__ import annotations

import json
import math
import traceback
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from kafka_once.errors import ConfigurationError, MessageError, MissingKey, UndecodablePayload
from kafka_once.keys import (
    DIGEST_BYTES,
    MAX_KEY_BYTES,
    Key,
    KeyPolicy,
    compose,
    coordinates,
    digest,
    field,
    header,
    key_for,
    record_key,
)
from kafka_once.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "cAnArY7"


def message(value: object = None, **parts: Any) -> Message:
    payload = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Message("payments", 3, 42, value=payload, **parts)


def constant(value: object) -> Callable[[Message], Any]:
    return lambda _message: value


# ----------------------------------------------------------------------------------------------------- what is a key


def test_header_is_taken_as_it_is_and_the_last_one_wins() -> None:
    headers = [("id", b"first"), ("other", b"x"), ("id", b" L\xff\x00st ")]

    assert header("id").extract(message(headers=headers)) == b" L\xff\x00st "


@pytest.mark.parametrize("headers", [[], [("id", None)], [("id", b"")], [("ID", b"x")], [("id", b"x"), ("id", None)]])
def test_header_that_is_absent_null_or_empty_is_missing(headers: list[tuple[str, bytes | None]]) -> None:
    with pytest.raises(MissingKey, match=r"header\('id'\)"):
        header("id").extract(message(headers=headers))


def test_record_key_is_the_bytes_of_the_record_key() -> None:
    assert record_key().extract(message(key=b"\x00\x01")) == b"\x00\x01"
    for nothing in (None, b""):
        with pytest.raises(MissingKey):
            record_key().extract(message(key=nothing))


def test_coordinates_tell_topic_partition_and_offset() -> None:
    assert coordinates().extract(message()) == b"payments:3:42"


def test_coordinates_tell_a_record_from_what_stood_there_before() -> None:
    """A truncated log uses its offsets again, with a newer leader epoch; a topic made anew has another id."""
    identities = [
        coordinates().extract(Message("payments", 3, 42, leader_epoch=epoch, topic_id=topic_id))
        for epoch in (None, 0, 1)
        for topic_id in ("", "one", "two")
    ]
    assert len(set(identities)) == 9


@pytest.mark.parametrize(
    ("literal", "key"),
    [
        ('"pay-1"', b"pay-1"),
        ('"  Pay 1 "', b"  Pay 1 "),
        ('"\\u00e9"', "é".encode()),
        ("7", b"7"),
        ("0", b"0"),
        ("-12", b"-12"),
        ("123456789012345678901234567890", b"123456789012345678901234567890"),
        ("1.50", b"1.50"),
        ("0.12345678901234567890", b"0.12345678901234567890"),
        ("1e3", b"1e3"),
    ],
)
def test_field_keeps_text_and_digits_as_they_were_written(literal: str, key: bytes) -> None:
    payload = f'{{"order": {{"id": {literal}}}}}'.encode()

    assert field("order.id").extract(message(payload)) == key
    assert compose(field("order.id")).extract(message(payload)).endswith(key)


@pytest.mark.parametrize(
    "literal", ["null", '""', "true", "false", "NaN", "Infinity", "-Infinity", "{}", "[1]", '{"a":1}']
)
def test_field_that_names_nothing_is_missing(literal: str) -> None:
    with pytest.raises(MissingKey, match=r"field\('id'\)"):
        field("id").extract(message(f'{{"id": {literal}}}'.encode()))


@pytest.mark.parametrize(
    "payload", [{}, {"order": None}, {"order": "x"}, {"order": [{"id": 1}]}, [], "id", 1, None, b"null"]
)
def test_field_whose_path_leads_nowhere_is_missing(payload: object) -> None:
    with pytest.raises(MissingKey):
        field("order.id").extract(message(payload))


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe", b'{"id": "\xff"}', b"[" * 100_000, b'{"id": "\\ud800"}'])
def test_field_of_a_payload_that_is_no_json_is_undecodable(payload: bytes) -> None:
    with pytest.raises(UndecodablePayload):
        field("id").extract(message(payload))


def test_key_depends_on_the_bytes_and_text_number_and_bytes_of_the_same_digits_are_one() -> None:
    values: list[object] = ["1", 1, b"1"]

    assert {key_for(constant(value)).extract(message()) for value in values} == {b"1"}
    assert field("id").extract(message({"id": 1})) == field("id").extract(message({"id": "1"}))


# ------------------------------------------------------------------------------------------------- a decoded payload


class Order(BaseModel):
    model_config = ConfigDict(extra="allow")

    order_id: UUID = Field(alias="orderId")
    total: Decimal = Decimal("1.50")


@dataclass
class Envelope:
    order: Order
    number: int = 5


def test_field_reads_a_decoded_object_where_a_deserializer_made_one() -> None:
    order = Order.model_validate({"orderId": "00000000-0000-0000-0000-00000000000A", "more": "x"})
    envelope = Envelope(order)
    binary = message(b"\x00\x00\x00\x00\x01avro")

    assert field("order.orderId").extract(binary, envelope) == b"00000000-0000-0000-0000-00000000000a"
    assert field("order.order_id").extract(binary, envelope) == b"00000000-0000-0000-0000-00000000000a"
    assert field("total").extract(binary, order) == b"1.50"
    assert field("more").extract(binary, order) == b"x"
    assert field("number").extract(binary, envelope) == b"5"
    assert field("a.b").extract(binary, {"a": {"b": 1.5}}) == b"1.5"
    assert field("a.b").extract(binary, MappingProxyType({"a": {"b": "x"}})) == b"x"


@pytest.mark.parametrize("path", ["model_dump", "model_fields", "order.copy", "absent", "order.absent", "number.real"])
def test_field_reads_what_a_decoded_object_declares_and_nothing_else(path: str) -> None:
    order = Order.model_validate({"orderId": UUID(int=10)})
    for decoded in (order, Envelope(order), {"order": order, "number": 5}):
        with pytest.raises(MissingKey):
            field(path).extract(message(), decoded)


# --------------------------------------------------------------------------------------------------- user's functions


@pytest.mark.parametrize(
    "nothing",
    [
        None,
        "",
        b"",
        True,
        False,
        math.nan,
        math.inf,
        [],
        {},
        object(),
        Decimal("NaN"),
        pytest.param(10**5000, id="huge"),
    ],
)
def test_function_that_returns_no_key_is_missing(nothing: object) -> None:
    with pytest.raises(MissingKey):
        key_for(constant(nothing)).extract(message())


def test_function_that_raises_is_missing_with_the_type_of_its_error_only() -> None:
    def broken(_message: Message) -> str:
        raise KeyError(CANARY)

    with pytest.raises(MissingKey) as caught:
        key_for(broken).extract(message())

    assert "KeyError" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_function_may_say_itself_that_the_key_is_missing() -> None:
    own = MissingKey("no tenant")

    def refusing(_message: Message) -> str:
        raise own

    with pytest.raises(MissingKey) as caught:
        key_for(refusing).extract(message())
    assert caught.value is own


async def _asynchronous(_message: Message) -> str:
    return "x"


@pytest.mark.parametrize("wrong", ["id", b"id", 5, None, str, header, record_key, _asynchronous, (), [], ("id",)])
def test_what_is_no_key_is_refused_when_it_is_given(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        key_for(wrong)


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", None, 5])
def test_path_with_an_empty_step_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError):
        field(path)


@pytest.mark.parametrize("name", ["", None, b"id"])
def test_header_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError):
        header(name)


def test_text_that_is_no_valid_unicode_is_missing() -> None:
    with pytest.raises(MissingKey) as caught:
        key_for(constant(f"{CANARY}\ud800")).extract(message())

    assert caught.value.__context__ is None
    assert CANARY not in str(caught.value)


def test_out_of_memory_is_not_the_messages_fault() -> None:
    def exhausted(_message: Message) -> str:
        raise MemoryError

    with pytest.raises(MemoryError):
        key_for(exhausted).extract(message())


# ------------------------------------------------------------------------------------------------------------- limits


def test_oversized_key_is_missing_and_the_limit_is_a_setting() -> None:
    longest = message(key=b"x" * MAX_KEY_BYTES)
    longer = message(key=b"x" * (MAX_KEY_BYTES + 1))

    assert len(record_key().extract(longest)) == 4096
    with pytest.raises(MissingKey, match="4097 bytes"):
        record_key().extract(longer)
    assert len(key_for(record_key(), max_key_bytes=5000).extract(longer)) == 4097
    with pytest.raises(MissingKey):
        key_for(record_key(), max_key_bytes=10).extract(longest)


def test_limit_of_a_composition_is_on_the_whole_not_on_its_parts() -> None:
    parts = (record_key(), record_key())
    with pytest.raises(MissingKey):
        compose(*parts).extract(message(key=b"x" * 3000))
    assert key_for(parts, max_key_bytes=20_000).extract(message(key=b"x" * 5000))


def test_a_key_used_twice_keeps_its_own_limit() -> None:
    shared = header("id")

    short = key_for(shared, max_key_bytes=3)

    assert shared.max_key_bytes == MAX_KEY_BYTES
    assert short.max_key_bytes == 3


# -------------------------------------------------------------------------------------------------------- composition

PARTS = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4)
NESTED = st.recursive(
    st.binary(min_size=1, max_size=20), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=6
)


def _key_of(tree: bytes | list[Any]) -> Key:
    return key_for(constant(tree)) if isinstance(tree, bytes) else compose(*map(_key_of, tree))


def test_composition_does_not_run_its_parts_together() -> None:
    assert compose(constant("a"), constant("bc")).extract(message()) != compose(constant("ab"), constant("c")).extract(
        message()
    )


@given(PARTS, PARTS)
def test_composition_is_injective(left: list[bytes], right: list[bytes]) -> None:
    keys = [compose(*map(constant, parts)).extract(message()) for parts in (left, right)]

    assert (keys[0] == keys[1]) == (left == right)


@given(NESTED.filter(lambda tree: isinstance(tree, list)), NESTED.filter(lambda tree: isinstance(tree, list)))
def test_nested_composition_is_injective(left: list[Any], right: list[Any]) -> None:
    assert (_key_of(left).extract(message()) == _key_of(right).extract(message())) == (left == right)


@given(st.binary(min_size=1, max_size=20))
def test_composed_part_is_not_taken_for_bytes_that_look_the_same(part: bytes) -> None:
    inner = compose(constant(part))
    imitation = inner.extract(message())

    assert compose(inner).extract(message()) != compose(constant(imitation)).extract(message())


def test_tuple_and_list_are_compositions() -> None:
    composed = compose(header("tenant"), field("id"))
    tenant = message({"id": 7}, headers=[("tenant", b"t")])

    assert key_for((header("tenant"), field("id"))).extract(tenant) == composed.extract(tenant)
    assert key_for([header("tenant"), field("id")]).extract(tenant) == composed.extract(tenant)


def test_composition_without_one_of_its_parts_is_missing_and_says_which() -> None:
    with pytest.raises(MissingKey, match=r"^header\('tenant'\)"):
        compose(field("id"), header("tenant")).extract(message({"id": 7}))


# ------------------------------------------------------------------------------------------------------------- digest


def test_digest_has_at_least_128_bits() -> None:
    assert DIGEST_BYTES >= 16
    assert len(digest("payments", b"x")) == DIGEST_BYTES


def test_digest_stays_what_it_is() -> None:
    """A change here forgets every key that any store remembers."""
    assert digest("payments", b"pay-1").hex() == "67afb86d3335a621bf805b45fe3a0c11"


@given(st.text(max_size=10), st.binary(max_size=10), st.text(max_size=10), st.binary(max_size=10))
def test_digests_of_different_scopes_or_keys_differ(scope: str, key: bytes, scope2: str, key2: bytes) -> None:
    assert (digest(scope, key) == digest(scope2, key2)) == ((scope, key) == (scope2, key2))


def test_scope_and_key_do_not_run_together() -> None:
    assert digest("ab", b"c") != digest("a", b"bc")


# ------------------------------------------------------------------------------------------------- nothing is quoted


@pytest.mark.parametrize(
    "payload",
    [
        f'{{"id": ["{CANARY}"]}}',
        f'{{"{CANARY}": 1}}',
        f'{{"id": "{CANARY * 1000}"}}',
        f"{CANARY}",
        f'"{CANARY}',
        f'{{"id": "{CANARY}\\ud800"}}',
        f'{{"id": {{"{CANARY}": NaN}}}}',
    ],
)
def test_no_error_quotes_the_payload_anywhere_in_its_traceback(payload: str) -> None:
    for key in (field("id"), compose(field("id"))):
        with pytest.raises(MessageError) as caught:
            key.extract(message(payload.encode()))

        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
        assert CANARY not in shown


@given(st.text(alphabet="§ŧđ", min_size=3), st.sampled_from(["id", "order"]))
def test_no_error_quotes_a_value(text: str, name: str) -> None:
    for value in ([text], {text: text}, text * 5000):
        with pytest.raises(MissingKey) as caught:
            field("id").extract(message({name: value}))
        assert text not in str(caught.value)


def test_policies_are_the_four_words_of_the_settings() -> None:
    assert [policy.value for policy in KeyPolicy] == ["dead_letter", "stop", "coordinates", "unprotected"]
