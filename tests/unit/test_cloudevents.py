"""CloudEvents: source and id are the key, in both modes of the Kafka binding, and never run together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_once import MissingKey, UndecodablePayload, cloudevent, compose, header
from kafka_once.message import Message

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def binary(source: bytes | None, name: bytes | None, *more: tuple[str, bytes]) -> Message:
    headers = [("ce_specversion", b"1.0"), ("ce_source", source), ("ce_id", name), *more]
    return Message("events", 0, 1, value=b"\x00any bytes", headers=headers)


def structured(envelope: object, content_type: bytes = b"application/cloudevents+json") -> Message:
    value = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
    return Message("events", 0, 1, value=value, headers=[("content-type", content_type)])


def event(**parts: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "type": "paid", "source": "/billing", "id": "7", "data": {"id": "x"}, **parts}


@given(TEXT, TEXT)
def test_both_modes_give_the_same_key(source: str, name: str) -> None:
    key = cloudevent().extract(binary(source.encode(), name.encode()))

    assert key == cloudevent().extract(structured(event(source=source, id=name)))
    assert key == compose(header("ce_source"), header("ce_id")).extract(binary(source.encode(), name.encode()))


@given(TEXT, TEXT, TEXT, TEXT)
def test_different_events_have_different_keys(source: str, name: str, source_2: str, name_2: str) -> None:
    keys = {cloudevent().extract(structured(event(source=s, id=i))) for s, i in ((source, name), (source_2, name_2))}

    assert len(keys) == len({(source, name), (source_2, name_2)})


def test_source_and_id_never_run_together() -> None:
    assert cloudevent().extract(binary(b"a", b"bc")) != cloudevent().extract(binary(b"ab", b"c"))
    assert cloudevent().extract(binary(b"a", b"b")) != cloudevent().extract(binary(b"b", b"a"))


def test_the_rest_of_an_event_is_no_part_of_its_key() -> None:
    again = event(data={"id": "y"}, type="refunded", time="2026-01-01T00:00:00Z")

    assert cloudevent().extract(structured(event())) == cloudevent().extract(structured(again))


@pytest.mark.parametrize(
    "content_type",
    [b"application/cloudevents+json; charset=UTF-8", b"Application/CloudEvents+JSON", b" application/cloudevents+json"],
)
def test_structured_mode_is_known_by_its_media_type(content_type: bytes) -> None:
    assert cloudevent().extract(structured(event(), content_type)) == cloudevent().extract(structured(event()))


def test_the_content_type_of_the_data_means_binary_mode() -> None:
    message = binary(b"/billing", b"7", ("content-type", b"application/json"))

    assert cloudevent().extract(message) == cloudevent().extract(structured(event()))


@pytest.mark.parametrize("missing", [None, b""])
def test_binary_event_without_source_or_id_has_no_key(missing: bytes | None) -> None:
    for message in (binary(missing, b"7"), binary(b"/billing", missing), Message("events", 0, 1)):
        with pytest.raises(MissingKey):
            cloudevent().extract(message)


@pytest.mark.parametrize("wrong", [None, "", 7, True, 1.5, ["7"], {"x": "7"}])
@pytest.mark.parametrize("name", ["source", "id"])
def test_structured_event_whose_source_or_id_is_no_text_has_no_key(name: str, wrong: object) -> None:
    with pytest.raises(MissingKey, match=f"event.* {name}"):
        cloudevent().extract(structured(event(**{name: wrong})))


@pytest.mark.parametrize("envelope", [[event()], "text", 7, None])
def test_what_is_no_envelope_has_no_key(envelope: object) -> None:
    with pytest.raises(MissingKey):
        cloudevent().extract(structured(envelope))


def test_an_envelope_that_is_no_json_is_undecodable() -> None:
    with pytest.raises(UndecodablePayload):
        cloudevent().extract(structured(b"{"))


@pytest.mark.parametrize("content_type", [b"application/cloudevents+avro", b"application/cloudevents-batch+json"])
def test_other_structured_formats_are_refused_and_never_read_as_binary_ones(content_type: bytes) -> None:
    message = structured(event(), content_type)
    message.headers += (("ce_source", b"/billing"), ("ce_id", b"7"))

    with pytest.raises(MissingKey, match="those in JSON"):
        cloudevent().extract(message)


def test_a_part_of_several_keys_stays_apart_from_them() -> None:
    message = binary(b"a", b"b", ("tenant", b"t"))
    inner = cloudevent().extract(message)
    message.headers += (("imitation", inner),)

    both = compose(header("tenant"), cloudevent()).extract(message)
    assert both != compose(header("tenant"), header("imitation")).extract(message)
