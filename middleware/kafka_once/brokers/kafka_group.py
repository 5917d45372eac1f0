"""How long the group waits for a member, where the broker decides that: with group.protocol=consumer.

The client is told only how often to send heartbeats. What the group's settings are, an admin client can ask.
"""

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from kafka_once.brokers import kafka_settings
from kafka_once.brokers.kafka_errors import error_of
from kafka_once.brokers.kafka_logs import MOCK
from kafka_once.errors import BrokerUnavailable
from kafka_once.ports import GroupTimes

__all__ = ["ask_group_times"]

log = logging.getLogger("kafka_once.kafka")

# This user may not know, or the broker is older than the settings of groups (Kafka 3.8).
_TELLS_NOTHING = {
    *(KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
    *(KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE),
    *(KafkaError.INVALID_REQUEST, KafkaError.INVALID_CONFIG),
}


def ask_group_times(settings: Mapping[str, object], cluster_id: str, timeout_s: float) -> GroupTimes | None:
    """What holds for this group: its own settings, or the broker's.

    Args:
        settings: of the consumer.
        cluster_id: of Kafka. Librdkafka's mock cluster answers no admin client.
        timeout_s: how long Kafka may take.

    Returns:
        None under the classic protocol, and if Kafka does not tell this user, or is too old to know.

    Raises:
        BrokerUnavailable: no answer in time, or another error.
    """
    if not kafka_settings.is_consumer_protocol(settings) or cluster_id.startswith(MOCK):
        return None
    config: dict[str, Any] = {"logger": log, **kafka_settings.connection_settings(settings)}
    asked = ConfigResource(ConfigResource.Type.GROUP, str(settings["group.id"]))
    admin = AdminClient(config)  # its answers end with it
    try:
        (answer,) = admin.describe_configs([asked], request_timeout=timeout_s).values()
        told = {name: entry.value for name, entry in answer.result(timeout_s + 1.0).items()}
    except TimeoutError:
        raise BrokerUnavailable("Kafka does not tell the group's settings") from None
    except KafkaException as failed:
        if error_of(failed).code() in _TELLS_NOTHING:
            return None
        raise BrokerUnavailable(f"Kafka does not tell the group's settings: {error_of(failed).str()}") from failed
    try:
        return GroupTimes(int(told["consumer.session.timeout.ms"]), int(told["consumer.heartbeat.interval.ms"]))
    except (KeyError, TypeError, ValueError):
        return None
