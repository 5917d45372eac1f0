"""Kafka's error codes, sorted by what to do about them: events here, and publishing; commits in kafka_commit_codes."""

from enum import Enum
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException

from kafka_once.brokers.kafka_commit_codes import verdict_of
from kafka_once.errors import BrokerRefused, BrokerUnavailable

__all__ = ["Reaction", "Ruling", "commit_verdict", "error_of", "no_answer", "publish_error", "rule_on_event"]


class Reaction(Enum):
    """What to do about an error that `poll` is told of."""

    IGNORE = "ignore"
    WARN = "warn"  # the client tries again by itself
    REJOIN = "rejoin"  # make a new client and try again for a while
    REFUSE = "refuse"  # going on makes no sense


class Ruling(NamedTuple):
    """A reaction and, for people, what happened and what to do."""

    reaction: Reaction
    text: str


_IGNORE, _WARN, _REJOIN, _REFUSE = Reaction.IGNORE, Reaction.WARN, Reaction.REJOIN, Reaction.REFUSE

_CORRUPT = "stop and look at the broker's disk: the client would pass over these messages"  # D18, D19

_EVENTS: dict[int, Ruling] = {
    KafkaError._PARTITION_EOF: Ruling(_IGNORE, ""),
    KafkaError._ALL_BROKERS_DOWN: Ruling(_WARN, "no broker can be reached; still trying"),
    KafkaError._MAX_POLL_EXCEEDED: Ruling(_WARN, "polling stalled past max.poll.interval.ms; the partitions are lost"),
    # After the start: a password that is being rotated. At the start it is refused.
    KafkaError._AUTHENTICATION: Ruling(_WARN, "the broker does not accept the credentials; still trying"),
    # The topic existed at the start; it may be made again.
    KafkaError.UNKNOWN_TOPIC_OR_PART: Ruling(_WARN, "a topic is gone; still looking for it"),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Ruling(_REFUSE, "allow Read and Describe on the topic"),
    KafkaError.GROUP_AUTHORIZATION_FAILED: Ruling(_REFUSE, "allow Read on the group"),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: Ruling(_REFUSE, "allow this user on the cluster"),
    # C17: classic fences the old member, group.protocol=consumer the new one until the old one's session ends.
    KafkaError.FENCED_INSTANCE_ID: Ruling(_REFUSE, "another process took this group.instance.id: give each its own"),
    KafkaError.UNRELEASED_INSTANCE_ID: Ruling(_REJOIN, "the group still holds this group.instance.id"),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: Ruling(
        _REFUSE,
        "the group's other members use another partition.assignment.strategy: use the same",  # C21
    ),
    # C20: cooperative-sticky keeps data of the client's own in its assignments, which the broker cannot take over.
    KafkaError.GROUP_ID_NOT_FOUND: Ruling(
        _REFUSE,
        "the group has classic members that group.protocol=consumer cannot join: stop all of them first, or move them "
        "to partition.assignment.strategy=range before",
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: Ruling(
        _REFUSE, "keep session.timeout.ms between the broker's group.min and group.max.session.timeout.ms"
    ),
    KafkaError.GROUP_MAX_SIZE_REACHED: Ruling(_REFUSE, "the group is full: raise the broker's group.max.size"),
    KafkaError.INVALID_GROUP_ID: Ruling(_REFUSE, "choose another group.id"),
    KafkaError.UNSUPPORTED_ASSIGNOR: Ruling(_REFUSE, "the broker does not know this group.remote.assignor"),
    KafkaError.UNSUPPORTED_VERSION: Ruling(_REFUSE, "the broker is too old for these settings"),
    KafkaError._UNSUPPORTED_FEATURE: Ruling(_REFUSE, "the broker is too old for these settings"),
    KafkaError._AUTO_OFFSET_RESET: Ruling(
        _REFUSE, "no valid start offset and auto.offset.reset=error: commit one for the group"
    ),
    KafkaError._LOG_TRUNCATION: Ruling(_REFUSE, "the log was truncated below what was read: check what was lost"),
    KafkaError._BAD_MSG: Ruling(_REFUSE, _CORRUPT),
    KafkaError._BAD_COMPRESSION: Ruling(_REFUSE, _CORRUPT),
    KafkaError.INVALID_MSG: Ruling(_REFUSE, _CORRUPT),
    KafkaError.MSG_SIZE_TOO_LARGE: Ruling(_REFUSE, "raise receive.message.max.bytes"),
}

_PUBLISH: dict[int, str] = {
    KafkaError._UNKNOWN_TOPIC: "create the topic",
    KafkaError._UNKNOWN_PARTITION: "create the topic",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic",
    KafkaError.TOPIC_EXCEPTION: "choose a valid topic name",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow Write and Describe on the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow IdempotentWrite on the cluster",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise message.max.bytes here and max.message.bytes of the topic",
    KafkaError.RECORD_LIST_TOO_LARGE: "raise the broker's segment.bytes",
    KafkaError.INVALID_RECORD: "the broker does not accept such records in this topic",
    KafkaError.POLICY_VIOLATION: "see the broker's policies",
    KafkaError._INVALID_ARG: "correct the settings for publishing",
}


def error_of(exception: KafkaException) -> KafkaError:
    """The client's error inside its exception."""
    error = exception.args[0] if exception.args else None
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(exception))


def rule_on_event(error: KafkaError) -> Ruling:
    """What to do about an error event. An unknown one passes with a warning, unless it is fatal."""
    code = _real_code(error)
    ruling = _EVENTS.get(code)
    if ruling is None:
        # E09: `_FATAL` may come with fatal() False.
        is_fatal = error.fatal() or code == KafkaError._FATAL
        ruling = Ruling(_REFUSE, "start again") if is_fatal else Ruling(_WARN, "still trying")
    # A fatal error's text says the same three times over.
    said = error.str() if code == error.code() else KafkaError(code).str()
    return Ruling(ruling.reaction, f"{said}: {ruling.text}" if ruling.text else said)


def commit_verdict(error: KafkaError | None) -> tuple[str, str]:
    """The verdict on a commit, and the reason: see `core.calls.CommitResult`."""
    if error is None:
        return "ok", ""
    code = _real_code(error)
    verdict, meaning = verdict_of(code)
    return verdict, f"{KafkaError(code).name()}: {meaning}"


def no_answer(error: KafkaError) -> Exception:
    """What to tell if Kafka does not say where the group stands."""
    ruling = rule_on_event(error)
    if ruling.reaction is Reaction.REFUSE:
        return BrokerRefused(f"Kafka: {ruling.text}")
    return BrokerUnavailable(f"Kafka does not tell where the group stands: {error.str()}")


def publish_error(topic: str, error: KafkaError) -> Exception:
    """What to tell about a record that Kafka did not confirm."""
    remedy = _PUBLISH.get(error.code())
    if remedy is not None:
        return BrokerRefused(f"cannot publish to {topic!r}: {error.str()}: {remedy}")
    return BrokerUnavailable(f"cannot publish to {topic!r}: {error.str()}")


# A fatal error of the consumer arrives as `_FATAL`; the code of what happened is only in its text.
_BEHIND_FATAL = (
    KafkaError.UNRELEASED_INSTANCE_ID,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_MAX_SIZE_REACHED,
    KafkaError.GROUP_ID_NOT_FOUND,
    KafkaError.UNSUPPORTED_ASSIGNOR,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,
)


def _real_code(error: KafkaError) -> int:
    if error.code() != KafkaError._FATAL:
        return error.code()
    text = error.str()
    return next((code for code in _BEHIND_FATAL if KafkaError(code).str() in text), KafkaError._FATAL)
