"""Which librdkafka settings kafka-once takes over, which it refuses, and what it sets where the user says nothing."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kafka_once.errors import ConfigurationError

__all__ = [
    "connection_settings",
    "connection_warnings",
    "consumer_settings",
    "is_consumer_protocol",
    "is_secret",
    "publish_settings",
    "send_once_settings",
]

Settings = dict[str, object]

_OURS = "leave it out: kafka-once commits by itself, and only what is settled"
_CALLBACK = "leave it out: kafka-once needs this callback itself"


class _Refusal(NamedTuple):
    """Refuse a setting when `wrong` says so of its value."""

    wrong: Callable[[object], bool]
    remedy: str


def _is_true(value: object) -> bool:
    return str(value).lower() in {"true", "1", "yes", "on"}


def _is_false(value: object) -> bool:
    return not _is_true(value)


def _is_given(_value: object) -> bool:
    return True


# The reason stands in the remedy where the user needs it, else beside it.
_REFUSED: dict[str, _Refusal] = {
    "enable.auto.commit": _Refusal(_is_true, _OURS),  # E01
    "enable.auto.offset.store": _Refusal(_is_true, _OURS),  # E01, finding 3
    "auto.commit.interval.ms": _Refusal(_is_given, _OURS),
    "auto.commit.enable": _Refusal(_is_given, _OURS),  # the topic-level alias
    "on_commit": _Refusal(_is_given, _CALLBACK),
    "on_assign": _Refusal(_is_given, _CALLBACK),
    "on_revoke": _Refusal(_is_given, _CALLBACK),
    "on_lost": _Refusal(_is_given, _CALLBACK),
    "default.topic.config": _Refusal(_is_given, "write its settings beside the others"),
    # D09. It costs latency only where producers use transactions, which is exactly where the other level does harm.
    "isolation.level": _Refusal(
        lambda value: str(value) != "read_committed",
        "leave it out: the messages of aborted transactions would have effects",
    ),
    # A misspelled topic would be made, and read for ever without a message.
    "allow.auto.create.topics": _Refusal(_is_true, "leave it out and create the topics yourself"),
    # H10
    "enable.ssl.certificate.verification": _Refusal(
        _is_false, "leave it out and give your own authority's certificate by ssl.ca.location"
    ),
}

# What `group.protocol=consumer` leaves to the broker; librdkafka refuses these with a text that names no remedy.
_BROKER_SIDE = {
    "session.timeout.ms": "group.consumer.session.timeout.ms",
    "heartbeat.interval.ms": "group.consumer.heartbeat.interval.ms",
    "partition.assignment.strategy": "group.remote.assignor",
    "group.protocol.type": "nothing",
}

_FORCED: Settings = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # We say where reading starts (core/start.py); what the user sets counts there. Should the client ever reset by
    # itself, it must go where nothing is lost: its position then steps back, which is seen.
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,  # D08: tells that what stands before the end is markers
}

_DEFAULTS: Settings = {
    "isolation.level": "read_committed",
    "check.crcs": True,  # D19: a corrupt batch stops the partition, it is never given to a handler
    "queued.max.messages.kbytes": 32_768,  # E13: what is fetched ahead, in all partitions together
    # The client gives one partition's part of a fetch after another's: smaller parts keep several lanes at work.
    "max.partition.fetch.bytes": 262_144,
    # A fetch that waits for data keeps the other partitions of that broker waiting: sought or resumed ones, too.
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 100,
    "fetch.queue.backoff.ms": 50,
    "reconnect.backoff.max.ms": 2_000,  # librdkafka waits up to 10 s for a broker that is back already
}

_PUBLISH_FORCED: Settings = {"enable.idempotence": True, "acks": "all"}
_PUBLISH_DEFAULTS: Settings = {
    "linger.ms": 2,
    "delivery.timeout.ms": 30_000,  # librdkafka's 5 min would hold a frontier for as long before anybody hears of it
    "topic.metadata.propagation.max.ms": 5_000,  # a missing topic is told after this, not after 30 s
    "reconnect.backoff.max.ms": 2_000,
}

_CONNECTION = (
    *("bootstrap.servers", "metadata.broker.list", "broker.address.", "client.", "security.", "sasl.", "ssl."),
    *("enable.ssl.", "enable.sasl.", "https.", "socket.", "oauth_cb"),
)

_SECRET = ("password", "passphrase", "secret", ".pem", "private.key", "oauthbearer.config", "credential", "token")


def is_secret(setting: str) -> bool:
    """Whether a setting's value must never be shown (H12)."""
    return any(word in setting for word in _SECRET)


def consumer_settings(settings: Mapping[str, object]) -> Settings:
    """Turn the user's librdkafka settings into those that kafka-once reads with.

    Args:
        settings: as for confluent-kafka's Consumer; not changed.

    Returns:
        A new dict: the user's settings, what kafka-once forces, and its defaults where the user says nothing.

    Raises:
        ConfigurationError: a setting would lose messages, or a needed one is missing; the text names the remedy.

    """
    _refuse_wrong(settings)
    _need(settings, "group.id", "name the consumer group; its members share the work")
    if not any(settings.get(name) for name in ("bootstrap.servers", "metadata.broker.list", "test.mock.num.brokers")):
        _need(settings, "bootstrap.servers", "give Kafka's address, as host:port")
    defaults = dict(_DEFAULTS)
    if is_consumer_protocol(settings):
        _refuse_broker_side(settings)
    else:
        # Only what must move is revoked (C02); eager members would all stop for every rebalance.
        defaults["partition.assignment.strategy"] = "cooperative-sticky"
        # A cooperative rebalance takes two rounds, and a member hears of each with its next heartbeat. librdkafka's 3 s
        # would let a new member wait 6 s for its partitions.
        defaults["heartbeat.interval.ms"] = 1000
    return defaults | dict(settings) | _FORCED


def publish_settings(consumer: Mapping[str, object], extra: Mapping[str, object] | None) -> Settings:
    """The settings to publish with: the connection part of the consumer's, the user's `extra`, durability forced.

    Raises:
        ConfigurationError: `extra` gives up durability (`acks` other than all, `enable.idempotence` false).

    """
    extra = extra or {}
    for name in ("acks", "request.required.acks"):
        if str(extra.get(name, "all")) not in {"all", "-1"}:
            raise ConfigurationError(name, extra[name], "leave it out: a record counts when all replicas have it")
    if _is_false(extra.get("enable.idempotence", True)):
        raise ConfigurationError("enable.idempotence", "false", "leave it out: a retry would publish the record twice")
    return _PUBLISH_DEFAULTS | connection_settings(consumer) | dict(extra) | _PUBLISH_FORCED


def send_once_settings(settings: Mapping[str, object]) -> Settings:
    """The settings to publish each record with once, and never again: no retries of the client's own.

    Raises:
        ConfigurationError: a setting would send it again, or leave nobody to say whether it arrived.

    """
    for name in ("retries", "message.send.max.retries"):
        if str(settings.get(name, 0)) != "0":
            raise ConfigurationError(name, settings[name], 'leave it out, or write semantics="at_least_once"')
    if _is_true(settings.get("enable.idempotence", False)):
        remedy = 'leave it out: it is for retries; or write semantics="at_least_once"'
        raise ConfigurationError("enable.idempotence", settings["enable.idempotence"], remedy)
    for name in ("acks", "request.required.acks"):
        if str(settings.get(name, "all")) == "0":
            raise ConfigurationError(name, settings[name], "leave it out: the delivery could not be reported")
    return _PUBLISH_DEFAULTS | {"acks": "all"} | dict(settings) | {"retries": 0, "enable.idempotence": False}


def connection_settings(settings: Mapping[str, object]) -> Settings:
    """Those that say how Kafka is reached, and as whom: the same for consumers and producers."""
    return {name: value for name, value in settings.items() if name.startswith(_CONNECTION)}


def connection_warnings(settings: Mapping[str, object]) -> list[str]:
    """What is allowed but worth a sentence at start (H10)."""
    warnings = []
    protocol = str(settings.get("security.protocol", "plaintext")).lower()
    mechanism = str(settings.get("sasl.mechanism", settings.get("sasl.mechanisms", ""))).upper()
    if protocol == "sasl_plaintext" and mechanism == "PLAIN":
        warnings.append("the password goes to Kafka in clear text: use security.protocol=SASL_SSL")
    if "ssl" in protocol and str(settings.get("ssl.endpoint.identification.algorithm", "https")).lower() == "none":
        warnings.append("Kafka's host name is not checked against its certificate: set it to https")
    return warnings


def _refuse_wrong(settings: Mapping[str, object]) -> None:
    for name, value in settings.items():
        refusal = _REFUSED.get(name)
        if refusal is not None and refusal.wrong(value):
            raise ConfigurationError(name, "..." if callable(value) else value, refusal.remedy)


def _refuse_broker_side(settings: Mapping[str, object]) -> None:
    for name, instead in _BROKER_SIDE.items():
        if name in settings:
            remedy = f"leave it out: with group.protocol=consumer the broker decides it ({instead})"
            raise ConfigurationError(name, settings[name], remedy)


def is_consumer_protocol(settings: Mapping[str, object]) -> bool:
    """Whether the broker decides what a member of the classic protocol says."""
    return str(settings.get("group.protocol", "classic")).lower() == "consumer"


def _need(settings: Mapping[str, object], name: str, remedy: str) -> None:
    if not settings.get(name):
        raise ConfigurationError(name, settings.get(name), remedy)
