"""An app in memory, and the pytest plugin as its users have it."""

import logging
import threading
from decimal import Decimal

import pytest
from pydantic import BaseModel

import kafka_once.testing
from kafka_once import (
    App,
    ConfigurationError,
    Coordinates,
    KafkaOnceError,
    Message,
    MissingKey,
    Observer,
    field,
    header,
    record_key,
)
from kafka_once.testing import MemoryApp
from kafka_once.testing.fixtures import or_skip
from kafka_once.testing.services import ServiceUnavailable

pytest_plugins = ["pytester"]


class Payment(BaseModel):
    id: str
    amount: Decimal = Decimal(1)


def billing(**settings):
    app = App("unreachable:9092", group="billing", store="redis://unreachable", **settings)
    app.charged = []

    @app.handler("payments", key=field("id"))
    def charge(payment: Payment) -> None:
        if payment.amount < 0:
            raise ValueError("never")
        app.charged.append(payment.id)

    return app


def test_everything_twice_is_processed_once():
    app = billing()
    with MemoryApp(app) as memory:
        first = memory.send("payments", Payment(id="p-1", amount=Decimal("12.50")))
        second = memory.send("payments", {"id": "p-2"})
        again = memory.repeat()
        memory.settle()

    assert app.charged == ["p-1", "p-2"]
    assert (first, second, *again) == tuple(Coordinates("", "payments", 0, offset) for offset in range(4))
    assert memory.outcomes == {"completed": 2, "repeat": 2}
    assert memory.outcome_of(second) == "completed"
    assert memory.outcome_of(again[0]) == "repeat"
    assert memory.outcome_of(Coordinates("", "payments", 0, 99)) is None
    assert memory.stats()["deliveries"] == 4


def test_the_app_itself_is_not_touched_and_can_be_run_again_and_again():
    app = billing()
    for _ in range(2):
        with MemoryApp(app) as memory:
            memory.send("payments", {"id": "p-1"})
            memory.settle()

    assert app.charged == ["p-1", "p-1"]
    assert app.stats()["deliveries"] == 0
    assert app.settings.bootstrap_servers == "unreachable:9092"


def test_dead_letters_can_be_read():
    with MemoryApp(billing(dead_letter_topic="dead")) as memory:
        bad = memory.send("payments", {"id": "p-1", "amount": -1}, key="account", headers={"trace": "t"})
        memory.settle()
        [dead] = memory.dead_letters()

    assert memory.outcome_of(bad) == "dead_lettered"
    assert (dead.key, dead.header("trace"), dead.header("kafka-once.attempts")) == (b"account", b"t", b"5")


def refusing(*, error, seen, before=lambda _message: None):
    app = App("k:9092", group="g", store="redis://r", dead_letter_topic="dead", attempts=2, backoff="1ms")

    @app.handler("payments", key=header("id"))
    def refuse(message: Message) -> None:
        seen.append((message.attempt, message.in_doubt))
        before(message)
        raise error

    return app


def test_headers_that_look_like_ours_decide_nothing_and_are_replaced_in_the_dead_letter():
    """H16: what a sender writes there is neither an attempt nor a doubt."""
    forged = {"attempts": "99", "in-doubt": "true", "reason": "none", "of-another-time": "x"}
    seen = []
    with MemoryApp(refusing(error=ValueError("no"), seen=seen)) as memory:
        memory.send("payments", b"", headers={"id": "1", **{f"kafka-once.{name}": forged[name] for name in forged}})
        memory.settle()
        [dead] = memory.dead_letters()

    assert seen == [(1, False), (2, False)]
    told = [(name, value) for name, value in dead.headers if name.removeprefix("kafka-once.") in forged]
    assert told == [
        ("kafka-once.reason", b"attempts exhausted (2)"),
        ("kafka-once.attempts", b"2"),
        ("kafka-once.in-doubt", b"false"),
    ]


def test_a_dead_letter_does_not_grow_with_the_text_of_its_error():
    """F06: else Kafka refuses it for its size, again and again."""
    with MemoryApp(refusing(error=ValueError("x" + "\u00e4" * 100_000), seen=[])) as memory:
        memory.send("payments", b"", headers={"id": "1"})
        memory.settle()
        [dead] = memory.dead_letters()

    assert dead.header("kafka-once.error").decode() == "x" + "\u00e4" * 511  # 1,024 bytes hold no half of a letter


class Speechless(ValueError):
    def __str__(self):
        raise KeyError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("half a character: \ud800"), "half a character: ?"),
        (Speechless(), "(its text cannot be had: KeyError)"),
        (MissingKey("half a character: \ud800"), None),
    ],
    ids=["half a character", "no text", "half a character in the reason"],
)
def test_an_error_whose_text_cannot_be_written_is_a_dead_letter_all_the_same(error, text, caplog):
    """F06: else one message would end the process that makes its dead letter, at each start."""
    caplog.set_level(logging.CRITICAL, logger="kafka_once")  # a report of it could not be written either
    with MemoryApp(refusing(error=error, seen=[])) as memory:
        memory.send("payments", b"", headers={"id": "1"})
        memory.settle()
        [dead] = memory.dead_letters()

    assert dead.header("kafka-once.error-type").decode().endswith(type(error).__name__)
    assert text is None or dead.header("kafka-once.error").decode() == text


def test_headers_cannot_be_added_to_what_is_delivered_again():
    """F16: they would be there in the next attempt, and in the dead letter."""

    def adds(message: Message) -> None:
        message.headers.append(("more", b""))

    with MemoryApp(refusing(error=ValueError(), seen=[], before=adds)) as memory:
        memory.send("payments", b"", headers={"id": "1"})
        memory.settle()
        [dead] = memory.dead_letters()

    assert dead.header("kafka-once.error-type") == b"builtins.AttributeError"
    assert dead.header("more") is None


def test_without_dead_letters_what_stops_the_app_is_raised_once():
    memory = MemoryApp(billing())
    with memory:
        memory.send("payments", {"id": "p-1", "amount": -1})
        with pytest.raises(KafkaOnceError, match="attempts exhausted"):
            memory.settle()
    with pytest.raises(ConfigurationError, match="dead_letter_topic"):
        memory.dead_letters()


def test_what_stops_the_app_unnoticed_is_raised_at_the_end():
    memory = MemoryApp(billing())
    memory.__enter__()
    memory.send("payments", {"id": "p-1", "amount": -1})
    assert memory._app._member.ended.wait(20)
    with pytest.raises(KafkaOnceError, match="attempts exhausted"):
        memory.__exit__(None, None, None)


def test_what_is_not_settled_in_time_is_named():
    go_on = threading.Event()
    app = App("k:9092", group="g", store="redis://r")

    @app.handler("payments", key=record_key())
    def wait(_: bytes) -> None:
        assert go_on.wait(20)

    with MemoryApp(app) as memory:
        memory.send("payments", b"", key="a")
        with pytest.raises(AssertionError, match=r"not settled within 0.1 s: payments\[0\]@0"):
            memory.settle(timeout_s=0.1)
        go_on.set()


def test_async_handlers_patterns_partitions_and_at_least_once():
    app = App("k:9092", group="g", semantics="at_least_once")
    seen = []

    @app.handler("^tags-", idempotent=True)
    async def tag(name: str) -> None:
        seen.append(name)

    memory = MemoryApp(app, partitions=2)
    memory.send("tags-a", "before the start", partition=1)
    with memory:
        memory.send("tags-a", "zero", partition=0)
        memory.send("tags-b", "other", partition=1)
        memory.repeat()
        memory.settle()

    assert sorted(seen) == sorted(["before the start", "zero", "other"] * 2)
    assert memory.outcomes == {"completed": 6}


def test_topics_that_no_handler_wants_are_refused():
    memory = MemoryApp(billing())
    with pytest.raises(ConfigurationError, match="payments"):
        memory.send("paymants", b"")


@pytest.mark.parametrize("name", ["scope", "semantics", "on_missing_key", "on_bad_payload", "max_key_bytes"])
def test_settings_that_the_handlers_were_registered_with_cannot_change(name):
    with pytest.raises(ConfigurationError, match=name):
        MemoryApp(billing(), **{name: "x"})


def test_settings_and_observers_of_the_app_stay():
    class Seen(Observer):
        outcomes = 0

        def on_outcome(self, message, outcome):
            self.outcomes += 1

    seen = Seen()
    app = App("k:9092", group="g", store="redis://r", observers=[seen], attempts=2, dead_letter_topic="dead")
    runs = []

    @app.handler("payments", key=header("id"))
    def charge(message: Message) -> None:
        runs.append(message.attempt)
        raise ValueError

    with MemoryApp(app) as memory:
        memory.send("payments", headers={"id": "1"})
        memory.settle()

    assert runs == [1, 2]
    assert seen.outcomes == 1


# ---------------------------------------------------------------------------------------------------- the pytest plugin


def test_until_it_is_used_the_plugin_imports_nothing_and_a_fixture_of_the_users_own_goes_first(pytester):
    pytester.makeconftest("""
        import pytest

        @pytest.fixture
        def kafka():
            return "mine"
    """)
    pytester.makepyfile("""
        import sys

        def test_nothing_is_imported(kafka):
            assert kafka == "mine"
            assert "kafka_once_pytest" in sys.modules
            assert not [name for name in sys.modules if name.split(".")[0] in ("kafka_once", "confluent_kafka")]
    """)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_plugin_gives_what_proves_a_handler(crash_at_every_step, deliver_twice, assert_idempotent):
    assert crash_at_every_step is kafka_once.testing.crash_at_every_step
    assert deliver_twice is kafka_once.testing.deliver_twice
    assert assert_idempotent is kafka_once.testing.assert_idempotent


def test_without_a_server_a_test_is_skipped_with_the_reason(pytester, monkeypatch):
    for name, value in {"KAFKA_ONCE_TEST_REDIS": "127.0.0.1:1", "CI": "false"}.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile("""
        def test_redis(redis):
            pass
    """)
    result = pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*127.0.0.1:1*"])


@pytest.mark.parametrize(("ci", "raised"), [("false", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_on_ci_a_missing_server_is_a_failure(monkeypatch, ci, raised):
    def start():
        raise ServiceUnavailable("no Java")

    monkeypatch.setenv("CI", ci)
    with pytest.raises(raised, match="no Java"):
        or_skip(start)
