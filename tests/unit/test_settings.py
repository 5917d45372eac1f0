"""Settings: defaults, every wrong one refused in our words, and no secret ever shown."""

from __future__ import annotations

import re
import traceback
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from kafka_once.core.order import Order
from kafka_once.core.semantics import DoubtPolicy, FailurePolicy, KeyPolicy, Semantics
from kafka_once.durations import in_ms, parse_duration, show_duration
from kafka_once.errors import ConfigurationError
from kafka_once.ports import GroupTimes
from kafka_once.setting_checks import check_lease, stall_ms
from kafka_once.settings import Settings, settings_table

CANARY = "cAnArY7"
STORE = "redis://localhost:6379/0"


def make(**given: Any) -> Settings:
    return Settings(**{"bootstrap_servers": "localhost:9092", "group": "billing", "store": STORE, **given})


def refused(**given: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make(**given)
    return caught.value


# ----------------------------------------------------------------------------------------------------------- defaults


def test_defaults_are_those_of_the_readme() -> None:
    settings = make()

    assert settings.semantics is Semantics.EFFECTIVELY_ONCE
    assert (settings.lease_ms, settings.margin_ms, settings.session_timeout_ms) == (5_000, 500, 45_000)
    assert settings.remember_for_ms == 24 * 3_600_000
    assert (settings.attempts, settings.backoff_ms, settings.backoff_max_ms) == (5, 200, 30_000)
    assert (settings.drain_ms, settings.commit_every_ms, settings.report_every_ms) == (20_000, 500, 60_000)
    assert (settings.concurrency, settings.buffer, settings.max_key_bytes) == (16, 2_000, 4_096)
    assert settings.on_doubt is DoubtPolicy.RUN
    assert settings.order is Order.PARTITION
    assert (settings.scope, settings.cluster, settings.allow_eviction) == (None, "", False)


def test_messages_that_cannot_be_processed_stop_the_consumer_or_go_to_the_dead_letter_topic() -> None:
    stopping, parking = make(), make(dead_letter_topic="dead")

    assert (stopping.on_missing_key, stopping.on_bad_payload, stopping.on_failure) == (
        KeyPolicy.STOP,
        FailurePolicy.STOP,
        FailurePolicy.STOP,
    )
    assert (parking.on_missing_key, parking.on_bad_payload, parking.on_failure) == (
        KeyPolicy.DEAD_LETTER,
        FailurePolicy.DEAD_LETTER,
        FailurePolicy.DEAD_LETTER,
    )
    assert make(dead_letter_topic="dead", on_failure="stop").on_failure is FailurePolicy.STOP


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        make().lease = timedelta(seconds=1)  # type: ignore[misc]


def test_table_has_a_row_for_every_setting() -> None:
    table = settings_table()

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Settings.model_fields)
    assert "| `lease` | 5 s | duration |" in table
    assert "| `remember_for` | 24 h | duration |" in table
    assert "| `group` | required |" in table
    assert all(line.count(" | ") == 3 for line in table.splitlines()[2:])


def test_lease_may_not_be_trusted_to_its_last_100_ms() -> None:
    assert make(lease="500ms").margin_ms == 100


# ------------------------------------------------------------------------------------------------------ each by itself


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("bootstrap_servers", ""),
        ("bootstrap_servers", None),
        ("bootstrap_servers", 9092),
        ("bootstrap_servers", "a:b"),
        ("bootstrap_servers", ["a:1", 5]),
        ("group", ""),
        ("group", "   "),
        ("group", "x" * 256),
        ("group", "a\nb"),
        ("group", None),
        ("store", "localhost:6379"),
        ("store", "http://localhost"),
        ("store", "redis://"),
        ("store", "redis://host:port"),
        ("store", "unix://relative"),
        ("store", 6379),
        ("store", "redis://host:70000"),
        ("store", ""),
        ("store", "redis+sentinel://host:26379"),
        ("store", "redis+sentinel:///service"),
        ("store", "redis+cluster://host,:6379"),
        ("store", "redis+cloud://host"),
        ("semantics", "exactly_once"),
        ("semantics", None),
        ("instance_id", ""),
        ("instance_id", "a b"),
        ("instance_id", ".."),
        ("instance_id", "x\n"),
        ("kafka", None),
        ("kafka", "security.protocol=SSL"),
        ("kafka", {1: 2}),
        ("lease", "5"),
        ("lease", "5 weeks"),
        ("lease", "-5s"),
        ("lease", -5),
        ("lease", True),
        ("lease", None),
        ("lease", "499ms"),
        ("lease", float("nan")),
        ("lease", float("inf")),
        pytest.param("lease", 10**400, id="huge"),
        ("lease", "999999999999999d"),
        ("remember_for", "59s"),
        ("report_every", 0),
        ("attempts", 0),
        ("attempts", 2.5),
        ("attempts", True),
        ("attempts", "many"),
        ("order", "record key"),
        ("concurrency", 0),
        ("concurrency", 10_001),
        ("buffer", 0),
        ("max_key_bytes", 0),
        ("dead_letter_topic", ""),
        ("dead_letter_topic", "a/b"),
        ("on_missing_key", "skip"),
        ("on_bad_payload", "coordinates"),
        ("on_failure", "run"),
        ("on_doubt", "stop"),
        ("scope", ""),
        ("cluster", 5),
        ("allow_eviction", "perhaps"),
    ],
)
def test_wrong_value_is_refused_by_name_with_a_remedy(setting: str, value: object) -> None:
    error = refused(**{setting: value})

    assert error.setting == setting
    assert len(error.remedy) > 10
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("setting", "value", "taken"),
    [
        ("bootstrap_servers", "a:1, b:2", "a:1,b:2"),
        ("bootstrap_servers", ["a:1", "[::1]:2"], "a:1,[::1]:2"),
        ("bootstrap_servers", "PLAINTEXT://a", "PLAINTEXT://a"),
        ("semantics", Semantics.AT_MOST_ONCE, Semantics.AT_MOST_ONCE),
        ("lease", 2, timedelta(seconds=2)),
        ("lease", 0.5, timedelta(milliseconds=500)),
        ("lease", "1500ms", timedelta(seconds=1.5)),
        ("lease", timedelta(seconds=3), timedelta(seconds=3)),
        ("remember_for", "7d", timedelta(days=7)),
        ("remember_for", "1.5h", timedelta(minutes=90)),
        ("report_every", None, None),
        ("drain", 0, timedelta(0)),
        ("order", "key", Order.KEY),
        ("order", Order.NONE, Order.NONE),
        ("attempts", "3", 3),
        ("scope", "orders", "orders"),
    ],
)
def test_right_value_is_taken(setting: str, value: object, taken: object) -> None:
    assert getattr(make(**{setting: value}), setting) == taken


@pytest.mark.parametrize(
    "url",
    [
        STORE,
        "rediss://u:p%40@h:1/2",
        "redis://[::1]:6379",
        "unix:///run/r.sock?db=1",
        "memory://",
        "redis+sentinel://u:p%40@a:26379,b/service/1?sentinel_password=x",
        "rediss+cluster://:p@a:1,[::1]:2",
    ],
)
def test_stores_are_taken_and_their_urls_kept_whole(url: str) -> None:
    for given_url in (url, SecretStr(url)):
        store = make(store=given_url).store

        assert store is not None
        assert store.get_secret_value() == url


@pytest.mark.parametrize("missing", ["bootstrap_servers", "group"])
def test_required_setting_is_asked_for(missing: str) -> None:
    given = {"bootstrap_servers": "localhost", "group": "g", "store": STORE}
    del given[missing]
    with pytest.raises(ConfigurationError, match=f"{missing}=None: it is required"):
        Settings(**given)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("leese", "lease"), ("bootstrap_server", "bootstrap_servers"), ("remember", "remember_for"), ("_env_file", None)],
)
def test_unknown_setting_is_refused_with_the_nearest_known_one(name: str, nearest: str | None) -> None:
    error = refused(**{name: CANARY})

    assert error.setting == name
    assert CANARY not in str(error)
    assert (f"did you mean {nearest}?" if nearest else "no such setting") in error.remedy


# ------------------------------------------------------------------------------------------------------------ together


def test_effectively_once_needs_a_store() -> None:
    assert 'store="redis://' in refused(store=None).remedy


def test_at_least_once_needs_none_and_is_not_given_one() -> None:
    assert refused(semantics="at_least_once").setting == "store"
    assert make(semantics="at_least_once", store=None).store is None


@pytest.mark.parametrize("store", [None, STORE])
def test_at_most_once_runs_with_a_store_or_without(store: str | None) -> None:
    assert make(semantics="at_most_once", store=store).semantics is Semantics.AT_MOST_ONCE


@pytest.mark.parametrize("session_ms", [5_500, "5500", 1])
def test_lease_with_its_margin_is_shorter_than_the_session(session_ms: object) -> None:
    error = refused(kafka={"session.timeout.ms": session_ms})

    assert error.setting == "lease"
    assert "session" in error.remedy


def test_session_is_read_from_the_kafka_settings_or_is_kafkas_default() -> None:
    assert make(kafka={"session.timeout.ms": "5501"}).session_timeout_ms == 5_501
    assert make(kafka={"group.protocol": "consumer"}).session_timeout_ms == 45_000
    assert refused(lease="41s").setting == "lease"
    assert refused(lease="41s", kafka={"group.protocol": "consumer"}).setting == "lease"


@pytest.mark.parametrize(
    ("kafka", "stall_ms"),
    [
        ({}, 44_000),
        ({"session.timeout.ms": 10_000, "heartbeat.interval.ms": 3_000}, 7_000),
        ({"session.timeout.ms": 6_000, "heartbeat.interval.ms": 5_000}, 3_000),
        ({"max.poll.interval.ms": 30_000}, 30_000),
        ({"group.protocol": "consumer"}, 40_000),
        ({"group.protocol": "consumer", "max.poll.interval.ms": 25_000}, 25_000),
    ],
)
def test_a_process_may_stand_still_for_a_session_less_a_heartbeat_or_until_its_next_poll_is_due(
    kafka: dict[str, object], stall_ms: int
) -> None:
    assert make(kafka=kafka).stall_ms == stall_ms


def test_where_the_broker_decides_what_it_tells_counts() -> None:
    kafka = {"group.protocol": "consumer", "max.poll.interval.ms": 3_000}
    assert stall_ms(kafka, GroupTimes(session_timeout_ms=2_000, heartbeat_ms=500)) == 1_500
    assert stall_ms(kafka, GroupTimes(session_timeout_ms=45_000, heartbeat_ms=5_000)) == 3_000
    check_lease(make(lease="1500ms"), GroupTimes(2_000, 500), "it")
    with pytest.raises(ConfigurationError, match=r"lease.*2000 ms.*shorten it, or raise it"):
        check_lease(make(lease="1900ms"), GroupTimes(2_000, 500), "it")


@pytest.mark.parametrize("deadline", ["soon", 0.01, "25h", True, None])
def test_a_handlers_own_deadline_is_checked_like_the_setting(deadline: object) -> None:
    with pytest.raises(ConfigurationError, match="deadline"):
        make().deadline_ms(deadline)


def test_a_deadline_is_shorter_than_what_is_remembered() -> None:
    assert refused(handler_deadline="1h", remember_for="1h").setting == "handler_deadline"
    with pytest.raises(ConfigurationError, match="remember_for"):
        make(remember_for="1h").deadline_ms("1h")
    assert make(remember_for="1h").deadline_ms("59m") == 59 * 60_000


@pytest.mark.parametrize("name", ["session.timeout.ms", "max.poll.interval.ms", "heartbeat.interval.ms"])
@pytest.mark.parametrize("value", ["soon", None, 1.5, True, -1, "²"])
def test_kafka_setting_that_we_must_read_is_refused_by_its_own_name(name: str, value: object) -> None:
    assert refused(kafka={name: value}).setting == f'kafka["{name}"]'


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"lease": "1m", "remember_for": "1m", "kafka": {"session.timeout.ms": 100_000}}, "remember_for"),
        ({"drain": "5m"}, "drain"),
        ({"drain": "10s", "kafka": {"max.poll.interval.ms": 10_000}}, "drain"),
        ({"backoff": "31s"}, "backoff"),
        ({"on_missing_key": "dead_letter"}, "on_missing_key"),
        ({"on_bad_payload": "dead_letter"}, "on_bad_payload"),
        ({"on_failure": "dead_letter"}, "on_failure"),
        ({"on_doubt": "dead_letter"}, "on_doubt"),
        ({"kafka": {"group.id": "other"}}, "group"),
        ({"kafka": {"bootstrap.servers": "other:9092"}}, "bootstrap_servers"),
        ({"kafka": {"metadata.broker.list": "other:9092"}}, "bootstrap_servers"),
        ({"instance_id": "a", "kafka": {"group.instance.id": "b"}}, "instance_id"),
        ({"kafka": {"group.instance.id": "a b"}}, 'kafka["group.instance.id"]'),
    ],
)
def test_relation_that_does_not_hold_is_refused(given: dict[str, Any], setting: str) -> None:
    assert refused(**given).setting == setting


def test_the_same_said_twice_is_no_conflict() -> None:
    kafka = {"group.id": "billing", "bootstrap.servers": "localhost:9092", "group.instance.id": "a"}

    assert make(kafka=kafka, instance_id="a").librdkafka() == kafka


def test_instance_id_is_taken_from_kafkas_settings_and_passed_into_them() -> None:
    assert make(kafka={"group.instance.id": "a"}).instance_id == "a"
    assert make(instance_id="a").librdkafka()["group.instance.id"] == "a"
    assert "group.instance.id" not in make().librdkafka()


def test_kafka_settings_of_the_callers_are_not_changed() -> None:
    kafka = {"client.id": "x"}
    make(kafka=kafka, instance_id="a").librdkafka()

    assert kafka == {"client.id": "x"}


@pytest.mark.parametrize("topics", [["payments", "dead"], ["^de.*"]])
def test_dead_letter_topic_is_not_consumed(topics: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="dead_letter_topic='dead'"):
        make(dead_letter_topic="dead").check_topics(topics)


def test_other_topics_are_consumed() -> None:
    make(dead_letter_topic="dead").check_topics(["payments", "^pay.*", "^[[:alpha:]]+$", "^(open"])
    make().check_topics(["payments"])
    with pytest.raises(ConfigurationError, match="topics"):
        make().check_topics([])


# ------------------------------------------------------------------------------------------------------------- secrets


def _everything_shown(settings: Settings) -> str:
    return f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {settings.store_shown}"


@pytest.mark.parametrize("url", [f"redis://{CANARY}@h", f"rediss://u:{CANARY}@h:1/0", f"redis://h/0?password={CANARY}"])
def test_passwords_are_in_no_representation(url: str) -> None:
    settings = make(store=url, kafka={"sasl.password": CANARY})

    assert CANARY not in _everything_shown(settings)
    assert settings.librdkafka()["sasl.password"] == CANARY


PASSWORDS = st.text(alphabet="/:@?#%[]&=", max_size=4).map(lambda odd: f"{odd}{CANARY}{odd}")


@given(
    PASSWORDS,
    st.sampled_from(["redis", "rediss", "unix", "memory", "http", "reddis", "redis+sentinel", "redis+cluster", ""]),
    st.sampled_from(["", "u"]),
)
def test_no_error_shows_a_password_however_it_is_written(password: str, scheme: str, user: str) -> None:
    for url in (f"{scheme}://{user}:{password}@host:6379/0", f"{scheme}://host/0?password={password}"):
        for more in ({}, {"semantics": "at_least_once"}, {"lease": "60s"}):
            try:
                shown = _everything_shown(make(store=url, **more))
            except ConfigurationError as error:
                shown = "".join(traceback.format_exception(error)) + repr(error.value) + repr(error.__context__)
            assert CANARY not in shown


@pytest.mark.parametrize("kafka", [CANARY, [CANARY], {1: CANARY}, {"sasl.password": CANARY, "group.id": "other"}])
def test_no_error_shows_kafkas_settings(kafka: Any) -> None:
    error = refused(kafka=kafka)

    assert CANARY not in "".join(traceback.format_exception(error))


# ----------------------------------------------------------------------------------------------------------- durations


@given(st.integers(min_value=0, max_value=10**12))
def test_duration_shown_is_the_duration_written(ms: int) -> None:
    duration = timedelta(milliseconds=ms)

    assert parse_duration(show_duration(duration)) == duration
    assert in_ms(duration) == ms


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.2, "200 ms"),
        (1, "1 s"),
        (1.5, "1500 ms"),
        (60, "60 s"),
        (120, "2 m"),
        (86_400, "24 h"),
        (604_800, "7 d"),
    ],
)
def test_durations_are_shown_as_people_write_them(seconds: float, shown: str) -> None:
    assert show_duration(timedelta(seconds=seconds)) == shown


# --------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("order", ["key", "none"])
def test_at_most_once_keeps_the_order_of_the_partition(order: str) -> None:
    error = refused(order=order, semantics="at_most_once")

    assert (error.setting, error.value) == ("order", order)
    assert make(semantics="at_most_once").order is Order.PARTITION


def test_a_handler_has_the_order_of_the_app_or_its_own() -> None:
    settings = make(order="key")

    assert settings.order_of_handler(None) is Order.KEY
    assert settings.order_of_handler("none") is Order.NONE
    assert settings.order_of_handler(Order.PARTITION) is Order.PARTITION
    with pytest.raises(ConfigurationError, match="order"):
        settings.order_of_handler("account")
    with pytest.raises(ConfigurationError, match="at_most_once"):
        make(semantics="at_most_once").order_of_handler("key")
