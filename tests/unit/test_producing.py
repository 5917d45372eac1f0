"""The sender's half without a Kafka: keys that are stamped, settings refused, what is told when nobody answers."""

from __future__ import annotations

import json
import threading
import time
import traceback
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from kafka_once import BrokerUnavailable, ConfigurationError, MissingKey, Producer
from kafka_once.producing import uuid7

CANARY = "cAnArY7"
NOWHERE = "127.0.0.1:1"
PATIENCE_S = 20
HASTY = {"delivery.timeout.ms": 100, "linger.ms": 0}


@pytest.fixture
def producer() -> Any:
    made = Producer(NOWHERE)
    yield made
    try:
        made.close(0)
    except BrokerUnavailable:
        return  # of course: there is no Kafka


# ------------------------------------------------------------------------------------------------------------ the keys


def test_a_fresh_key_is_a_uuid_of_version_7_and_grows_with_time() -> None:
    before_ms = time.time_ns() // 1_000_000
    keys = [uuid7() for _ in range(1000)]
    after_ms = time.time_ns() // 1_000_000

    assert len(set(keys)) == 1000
    assert {(key.version, key.variant) for key in keys} == {(7, uuid4().variant)}
    assert all(before_ms <= key.int >> 80 <= after_ms for key in keys)
    assert len({key.int & 0xFFF << 64 for key in keys}) > 100
    assert len({key.int & (1 << 62) - 1 for key in keys}) == 1000


def test_each_message_has_a_key_of_its_own_unless_one_is_given(producer: Producer) -> None:
    one, other = producer.send("t", b"x"), producer.send("t", b"x")

    assert one.idempotency_key != other.idempotency_key
    assert UUID(one.idempotency_key.decode()).version == 7
    assert one._record.headers == [("idempotency-key", one.idempotency_key)]


@pytest.mark.parametrize(
    ("given", "stamped"),
    [("o-1", b"o-1"), (b"\xff", b"\xff"), (7, b"7"), (UUID(int=10), b"00000000-0000-0000-0000-00000000000a")],
)
def test_a_given_key_is_stamped_as_it_is(given: Any, stamped: bytes, producer: Producer) -> None:
    sending = producer.send("t", "text", key="account", idempotency_key=given, headers={"a": b"1"})

    assert sending.idempotency_key == stamped
    assert sending._record.headers == [("a", b"1"), ("idempotency-key", stamped)]
    assert (sending._record.key, sending._record.value) == (b"account", b"text")


def test_a_key_that_stands_in_its_header_already_is_taken(producer: Producer) -> None:
    headers: list[tuple[str, bytes | None]] = [("idempotency-key", b"o-1"), ("a", b"1")]

    assert producer.send("t", b"x", headers=headers)._record.headers == headers
    assert producer.send("t", b"x", headers=headers, idempotency_key="o-1")._record.headers == headers
    with pytest.raises(ConfigurationError, match="says something else"):
        producer.send("t", b"x", headers=headers, idempotency_key="o-2")
    with pytest.raises(ConfigurationError, match="says something else"):
        producer.send("t", b"x", headers=[("idempotency-key", b"o-1"), ("idempotency-key", b"o-2")])


@pytest.mark.parametrize("given", ["", b"", True, ["x"], {}, "x" * 4097, f"{CANARY}\ud800"])
def test_what_is_no_key_is_refused_and_nothing_is_sent(given: Any, producer: Producer) -> None:
    with pytest.raises(MissingKey) as caught:
        producer.send("t", b"x", idempotency_key=given)

    assert producer.stats()["sent"] == 0
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_an_empty_or_null_header_is_no_key_and_is_not_made_up(producer: Producer) -> None:
    for value in (b"", None):
        with pytest.raises(MissingKey):
            producer.send("t", b"x", headers=[("idempotency-key", value)])


def test_payloads_are_bytes_or_text_and_no_error_quotes_another(producer: Producer) -> None:
    with pytest.raises(ConfigurationError, match="a dict is no payload") as caught:
        producer.send("t", {"secret": CANARY})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        producer.send("t", b"x", headers=[("a", object())])  # type: ignore[list-item]

    assert CANARY not in str(caught.value)
    assert producer.flush(0)


# --------------------------------------------------------------------------------------------------------- the settings


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"semantics": "effectively_once"}, "semantics"),
        ({"semantics": "often"}, "semantics"),
        ({"header": ""}, "header"),
        ({"buffer": 0}, "buffer"),
        ({"buffer": True}, "buffer"),
        ({"kafka": {"acks": 1}}, "acks"),
        ({"kafka": {"enable.idempotence": False}}, "enable.idempotence"),
        ({"kafka": {"no.such.setting": 1}}, "no.such.setting"),
        ({"semantics": "at_most_once", "kafka": {"retries": 5}}, "retries"),
        ({"semantics": "at_most_once", "kafka": {"message.send.max.retries": 5}}, "message.send.max.retries"),
        ({"semantics": "at_most_once", "kafka": {"enable.idempotence": True}}, "enable.idempotence"),
        ({"semantics": "at_most_once", "kafka": {"acks": 0}}, "acks"),
    ],
)
def test_a_setting_that_would_break_the_promise_is_refused(given: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Producer(NOWHERE, **given)

    assert caught.value.setting == setting


def test_no_error_shows_a_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Producer(NOWHERE, kafka={"sasl.password": CANARY, "security.protocol": CANARY.lower(), "sasl.mechanism": "x"})

    assert f"{CANARY}" not in "".join(traceback.format_exception(caught.value))


def test_the_connection_may_be_said_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "once.toml"
    file.write_text('[kafka]\nsasl.username = "u"\nclient.id = "file"\nsession.timeout.ms = 20000\n')
    monkeypatch.setenv("KAFKA_ONCE_BOOTSTRAP_SERVERS", NOWHERE)
    with Producer(settings_file=file, kafka={"client.id": "code", "linger.ms": 1}) as producer:
        settings = producer._settings

    assert settings["bootstrap.servers"] == NOWHERE
    assert (settings["sasl.username"], settings["client.id"], settings["linger.ms"]) == ("u", "code", 1)
    assert "session.timeout.ms" not in settings, "that is a consumer's"
    monkeypatch.delenv("KAFKA_ONCE_BOOTSTRAP_SERVERS")
    with pytest.raises(ConfigurationError, match="KAFKA_ONCE_BOOTSTRAP_SERVERS"):
        Producer()


# ---------------------------------------------------------------------------------------------------------- no answers


def test_sent_once_and_not_acknowledged_fails_and_says_what_to_do() -> None:
    with Producer(NOWHERE, semantics="at_most_once", kafka=HASTY) as producer:
        sending = producer.send("t", b"x")

        with pytest.raises(BrokerUnavailable, match="may have arrived or not; send it again with the same"):
            sending.result(PATIENCE_S)
        assert (sending.attempts, producer.stats()) == (1, {"sent": 1, "repeats": 0, "acknowledged": 0, "failed": 1})


def test_sent_until_acknowledged_goes_on_until_it_is_closed() -> None:
    producer = Producer(NOWHERE, kafka=HASTY)
    told: list[object] = []
    sending = producer.send("t", b"x", idempotency_key="o-1")
    sending.add_done_callback(told.append)
    deadline = time.monotonic() + PATIENCE_S
    while sending.attempts < 3 and time.monotonic() < deadline:
        producer.flush(0.02)

    assert sending.attempts >= 3
    assert not sending.done()
    assert not sending.cancel()
    with pytest.raises(BrokerUnavailable, match="1 messages were not acknowledged"):
        producer.close(0.1)
    assert isinstance(sending.exception(0), BrokerUnavailable)
    assert told == [sending]
    assert producer.stats()["repeats"] == sending.attempts - 1
    with pytest.raises(ConfigurationError, match="make a new Producer"):
        producer.send("t", b"x")


def test_no_more_than_the_buffer_are_on_their_way_and_a_close_frees_who_waits() -> None:
    producer = Producer(NOWHERE, buffer=2)
    for _ in range(2):
        producer.send("t", b"x")
    ended: list[BaseException] = []

    def third() -> None:
        try:
            producer.send("t", b"x")
        except ConfigurationError as error:
            ended.append(error)

    waiting = threading.Thread(target=third)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    assert producer.stats()["sent"] == 2
    with pytest.raises(BrokerUnavailable):
        producer.close(0)
    waiting.join(PATIENCE_S)
    assert len(ended) == 1


def test_the_error_of_a_block_is_not_hidden_by_what_was_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = Producer(NOWHERE)
    monkeypatch.setattr(producer, "close", lambda: Producer.close(producer, 0))
    sendings = []

    def block() -> None:
        with producer:
            sendings.append(producer.send("t", b"x"))
            raise EOFError

    with pytest.raises(EOFError):
        block()

    assert isinstance(sendings[0].exception(0), BrokerUnavailable)
    producer.close()  # a second time changes nothing
    assert producer.stats()["failed"] == 1


def test_no_log_line_holds_a_key_or_a_payload(caplog: pytest.LogCaptureFixture) -> None:
    with Producer(NOWHERE, semantics="at_most_once", kafka=HASTY) as producer:
        sending = producer.send("t", json.dumps({"x": CANARY}), key=CANARY, idempotency_key=CANARY)
        assert isinstance(sending.exception(PATIENCE_S), BrokerUnavailable)

    assert "not acknowledged" in caplog.text
    assert CANARY not in caplog.text + str(sending.exception())
