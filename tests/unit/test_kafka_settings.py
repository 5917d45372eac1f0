"""Which librdkafka settings are refused, forced and set by default."""

import pytest
from confluent_kafka import Consumer, Producer

from kafka_once.brokers.kafka import KafkaBroker
from kafka_once.brokers.kafka_settings import connection_warnings, consumer_settings, is_secret, publish_settings
from kafka_once.errors import ConfigurationError

BASE = {"bootstrap.servers": "localhost:9092", "group.id": "g"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("enable.auto.commit", True),
        ("enable.auto.commit", "true"),
        ("enable.auto.offset.store", "TRUE"),
        ("auto.commit.interval.ms", 5000),
        ("auto.commit.enable", False),
        ("on_commit", print),
        ("on_assign", print),
        ("on_revoke", print),
        ("on_lost", print),
        ("default.topic.config", {"auto.offset.reset": "latest"}),
        ("isolation.level", "read_uncommitted"),
        ("allow.auto.create.topics", True),
        ("enable.ssl.certificate.verification", False),
        ("enable.ssl.certificate.verification", "false"),
    ],
)
def test_what_would_lose_messages_is_refused_by_name_with_a_remedy(setting, value):
    with pytest.raises(ConfigurationError) as refused:
        consumer_settings({**BASE, setting: value})
    assert refused.value.setting == setting
    assert setting in str(refused.value)
    assert len(refused.value.remedy) > 20


@pytest.mark.parametrize(
    "harmless",
    [
        {"enable.auto.commit": False},
        {"enable.auto.offset.store": "false"},
        {"isolation.level": "read_committed"},
        {"allow.auto.create.topics": False},
        {"enable.ssl.certificate.verification": True},
        {"enable.partition.eof": True},
        {"partition.assignment.strategy": "range"},
        {"fetch.wait.max.ms": 7},
    ],
)
def test_what_is_harmless_passes_as_the_user_wrote_it(harmless):
    settings = consumer_settings({**BASE, **harmless})
    for name, value in harmless.items():
        assert str(settings[name]).lower() == str(value).lower()


def test_commits_are_never_the_clients():
    settings = consumer_settings(BASE)
    assert settings["enable.auto.commit"] is False
    assert settings["enable.auto.offset.store"] is False


def test_the_defaults_read_everything_and_only_what_is_committed():
    settings = consumer_settings(BASE)
    assert settings["auto.offset.reset"] == "earliest"
    assert settings["isolation.level"] == "read_committed"
    assert settings["partition.assignment.strategy"] == "cooperative-sticky"
    assert settings["check.crcs"] is True


def test_the_users_dict_is_not_changed():
    given = dict(BASE)
    consumer_settings(given)
    assert given == BASE


@pytest.mark.parametrize("setting", ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"])
def test_with_the_consumer_protocol_the_brokers_settings_are_named(setting):
    with pytest.raises(ConfigurationError, match=r"group\.protocol=consumer"):
        consumer_settings({**BASE, "group.protocol": "consumer", setting: "1"})
    assert "partition.assignment.strategy" not in consumer_settings({**BASE, "group.protocol": "consumer"})


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"bootstrap.servers": "localhost:9092"}, "group.id"),
        ({"bootstrap.servers": "localhost:9092", "group.id": ""}, "group.id"),
        ({"group.id": "g"}, "bootstrap.servers"),
    ],
)
def test_what_is_needed_is_named(given, missing):
    with pytest.raises(ConfigurationError) as refused:
        consumer_settings(given)
    assert refused.value.setting == missing


@pytest.mark.parametrize("protocol", [{}, {"group.protocol": "consumer"}])
def test_librdkafka_takes_what_we_set(protocol):
    Consumer({**consumer_settings({**BASE, **protocol}), "log_level": 0}).close()
    Producer({**publish_settings(BASE, None), "log_level": 0})


def test_what_librdkafka_refuses_is_a_configuration_error_that_names_the_setting():
    class Deaf:
        on_assigned = on_revoked = on_lost = print

    for name, value in {"no.such.setting": 1, "session.timeout.ms": "soon"}.items():
        with pytest.raises(ConfigurationError) as refused:
            KafkaBroker({**BASE, name: value}).start(["t"], Deaf())
        assert refused.value.setting == name


def test_publishing_takes_the_connection_and_is_durable():
    consumer = {**BASE, "sasl.username": "u", "sasl.password": "p", "ssl.ca.location": "ca", "fetch.min.bytes": 1}
    settings = publish_settings(consumer, {"compression.type": "zstd"})
    assert settings["acks"] == "all"
    assert settings["enable.idempotence"] is True
    assert settings["sasl.password"] == "p"
    assert settings["ssl.ca.location"] == "ca"
    assert settings["compression.type"] == "zstd"
    assert settings.keys().isdisjoint({"group.id", "fetch.min.bytes"})


@pytest.mark.parametrize(
    "extra", [{"acks": 1}, {"acks": "0"}, {"request.required.acks": 1}, {"enable.idempotence": False}]
)
def test_publishing_without_durability_is_refused(extra):
    with pytest.raises(ConfigurationError):
        publish_settings(BASE, extra)


SECRET = "s3cr3t-canary"
SECRETS = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
]


@pytest.mark.parametrize("setting", SECRETS)
def test_secrets_are_never_shown(setting, caplog):
    class Deaf:
        on_assigned = on_revoked = on_lost = print

    assert is_secret(setting)
    broker = KafkaBroker({**BASE, setting: SECRET, "session.timeout.ms": "soon"})
    assert SECRET not in repr(broker)
    with pytest.raises(ConfigurationError) as refused:
        broker.start(["t"], Deaf())
    assert SECRET not in str(refused.value)
    assert SECRET not in caplog.text


def test_a_connection_that_is_only_risky_is_warned_of():
    assert connection_warnings({}) == []
    assert "clear text" in connection_warnings({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"})[0]
    unchecked = {"security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "none"}
    assert "host name" in connection_warnings(unchecked)[0]
