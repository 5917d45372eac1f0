"""What only an admin client can ask: which operations this user is allowed, and how a topic is set.

Kafka may refuse to answer, or be too old to know the question; the answer is None then.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from kafka_once.brokers.kafka_errors import error_of
from kafka_once.settings import Settings

__all__ = ["Admin"]

_ANSWER_S = 5.0
_AGAIN_S = 0.1
_WITH_OPERATIONS: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": _ANSWER_S}
_REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
# A broker that was just started finds its coordinators.
_PASSING = (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR)


class Admin:
    """Asks; changes nothing."""

    def __init__(self, settings: Settings) -> None:
        config: dict[str, Any] = {**settings.librdkafka(), "logger": logging.getLogger("kafka_once.kafka")}
        self._admin = AdminClient(config)

    def allowed_on_topic(self, topic: str) -> set[str] | None:
        """The names of the operations, "READ" and so on; None if it is not told."""
        topics = TopicCollection([topic])
        return _allowed(lambda: self._admin.describe_topics(topics, **_WITH_OPERATIONS))

    def allowed_on_group(self, group: str) -> set[str] | None:
        """The names of the operations; None if it is not told."""
        return _allowed(lambda: self._admin.describe_consumer_groups([group], **_WITH_OPERATIONS))

    def retention_ms(self, topic: str) -> int | None:
        """How long the topic keeps messages, -1 for ever; None if it is not told."""
        asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
        try:
            (answer,) = self._admin.describe_configs([asked], request_timeout=_ANSWER_S).values()
            settings = answer.result(_ANSWER_S)
        except (KafkaException, TimeoutError):
            return None
        if "compact" in settings["cleanup.policy"].value and "delete" not in settings["cleanup.policy"].value:
            return -1
        return int(settings["retention.ms"].value)


def _allowed(ask: Callable[[], Mapping[str, "Future[Any]"]]) -> set[str] | None:
    deadline = time.monotonic() + _ANSWER_S
    while True:
        (answer,) = ask().values()
        try:
            operations = answer.result(_ANSWER_S).authorized_operations
        except TimeoutError:
            return None
        except KafkaException as failed:
            code = error_of(failed).code()
            if code in _PASSING and time.monotonic() < deadline:
                time.sleep(_AGAIN_S)
                continue
            return set() if code in _REFUSED else None
        return None if operations is None else {operation.name for operation in operations}
