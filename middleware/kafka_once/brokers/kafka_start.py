"""What is checked before a group is joined: Kafka answers, the credentials are right, the topics are there."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException

from kafka_once.brokers.kafka_errors import error_of
from kafka_once.errors import BrokerRefused, BrokerUnavailable

__all__ = ["Troubles", "check_topics"]

_REFUSED = {
    KafkaError._AUTHENTICATION: "refused the credentials: correct sasl.username, sasl.password and sasl.mechanism",
    KafkaError.SASL_AUTHENTICATION_FAILED: "refused the credentials: correct sasl.username and sasl.password",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "refused to show the topics: allow Describe and Read",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "refused this user: allow it on the cluster",
    KafkaError._SSL: "and TLS do not fit: see ssl.ca.location, security.protocol and the port",
}

_ONE_TRY_S = 1.0  # the client tells of wrong credentials only between two tries


class Troubles:
    """What the client told about its connections since it was made, newest last."""

    def __init__(self) -> None:
        self._errors: list[KafkaError] = []

    def note(self, error: KafkaError) -> None:
        """Keep an error; only the last few."""
        self._errors = [*self._errors[-9:], error]

    def raise_if_refused(self, address: str) -> None:
        """BrokerRefused if trying longer will not help."""
        for error in self._errors:
            if error.code() in _REFUSED:
                raise BrokerRefused(f"Kafka at {address} {_REFUSED[error.code()]} ({error.str()})")

    def last(self) -> str:
        """The last one that says why, for the end of a sentence."""
        telling = [error.str() for error in self._errors if error.code() != KafkaError._ALL_BROKERS_DOWN]
        return f" ({telling[-1]})" if telling else ""


def check_topics(consumer: Consumer, topics: Sequence[str], address: str, timeout_s: float, troubles: Troubles) -> str:
    """Ask Kafka for the topics; those that begin with ^ are patterns and need not match anything.

    Args:
        consumer: not subscribed yet; its error callback fills `troubles`.
        topics: what will be subscribed.
        address: of Kafka, for the texts.
        timeout_s: how long Kafka may take in all.
        troubles: what the client told about its connections.

    Returns:
        Kafka's cluster id, empty if it tells none.

    Raises:
        BrokerUnavailable: Kafka did not answer in time.
        BrokerRefused: wrong credentials, a topic does not exist, or may not be read.

    """
    deadline = time.monotonic() + timeout_s
    names = [topic for topic in topics if not topic.startswith("^")]
    if not names:
        return _ask(consumer, None, address, deadline, troubles).cluster_id or ""
    cluster_id = ""
    for name in names:
        metadata = _ask(consumer, name, address, deadline, troubles)
        _check_topic(name, metadata.topics[name].error)
        cluster_id = metadata.cluster_id or ""
    return cluster_id


def _ask(consumer: Consumer, topic: str | None, address: str, deadline: float, troubles: Troubles) -> Any:
    """The metadata of one topic, or without one of all."""
    ask: Callable[[float], Any] = (
        (lambda timeout_s: consumer.list_topics(timeout=timeout_s))
        if topic is None
        else (lambda timeout_s: consumer.list_topics(topic, timeout=timeout_s))
    )
    while True:
        try:
            return ask(max(min(_ONE_TRY_S, deadline - time.monotonic()), 0.1))
        except KafkaException as failed:
            troubles.note(error_of(failed))
        consumer.poll(0)  # serves the error callback
        troubles.raise_if_refused(address)
        if time.monotonic() >= deadline:
            raise BrokerUnavailable(
                f"Kafka at {address} does not answer{troubles.last()}: is it up, is that its address?"
            )


def _check_topic(topic: str, error: KafkaError | None) -> None:
    if error is None or error.code() == KafkaError.LEADER_NOT_AVAILABLE:  # it was made a moment ago
        return
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise BrokerRefused(f"topic {topic!r} does not exist: create it, or correct its name")
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise BrokerRefused(f"topic {topic!r} may not be read by this user: allow Read and Describe on it")
    raise BrokerRefused(f"topic {topic!r} cannot be read: {error.str()}")
