"""A Kafka for the demo and the tests: Apache Kafka as a container or local process, else librdkafka's mock cluster."""

import time
from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kafka_once.testing.services import docker
from kafka_once.testing.services.broker_properties import BROKER_PROPERTIES
from kafka_once.testing.services.choosing import ServiceUnavailable, choose, from_environment
from kafka_once.testing.services.server import Server

ENVIRONMENT = "KAFKA_ONCE_TEST_KAFKA"
KINDS = ("docker", "apache", "mock")


def start_kafka(kind: str | None = None, *, config: Mapping[str, str] | None = None) -> "KafkaServer":
    """A running Kafka: `kind` is "env", "docker", "apache" or "mock"; without one, the first of these that works.

    The variable KAFKA_ONCE_TEST_KAFKA holds a bootstrap address (host:port) or one of the kinds. `config` are broker
    properties over those of `broker_properties.py`; "env" and "mock" take none. Make topics with `create_topic`: but
    for the mock, none comes by itself. ServiceUnavailable tells why there is no Kafka.
    """
    # Not at the top: both are built on KafkaServer, below.
    from kafka_once.testing.services.kafka_apache import ApacheKafka
    from kafka_once.testing.services.kafka_mock import MockKafka

    address = None
    if kind in (None, "env"):
        wanted, address = from_environment(ENVIRONMENT, KINDS)
        kind = wanted or kind
    return choose(
        "Kafka",
        {
            "env": lambda: _ExternalKafka(address),
            "docker": lambda: _DockerKafka(config or {}),
            "apache": lambda: ApacheKafka(config or {}),
            "mock": MockKafka,
        },
        kind,
    )


class KafkaServer(Server):
    """A running Kafka at `bootstrap`."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Make a topic; return when every partition has a leader."""
        admin = self.admin()
        try:
            admin.create_topics([NewTopic(name, partitions, config=dict(config or {}))])[name].result(30)
        except KafkaException as error:
            raise ServiceUnavailable(f"topic {name!r} could not be made: {error}") from error
        deadline = time.monotonic() + 30
        while not _has_leaders(admin, name, partitions):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"topic {name!r} still has partitions without a leader after 30 s")
            time.sleep(0.02)

    def admin(self) -> AdminClient:
        """An admin client that finds a broker again at once after a restart."""
        return AdminClient(
            {
                "bootstrap.servers": self.bootstrap,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind}: {self.version} at {self.bootstrap}>"

    def _answers(self) -> bool:
        try:
            return bool(self.admin().list_topics(timeout=1).brokers)
        except KafkaException:
            return False


class _ExternalKafka(KafkaServer):
    """Somebody else's, at an address from the environment."""

    kind = "env"

    def __init__(self, address: str | None) -> None:
        if address is None:
            raise ServiceUnavailable(f"{ENVIRONMENT} is not set")
        self.bootstrap = address
        if not any(self._answers() for _ in range(5)):  # each waits a second
            raise ServiceUnavailable(f"{ENVIRONMENT}={address} does not answer")


class _DockerKafka(KafkaServer):
    """A container."""

    kind = "docker"

    def __init__(self, config: Mapping[str, str]) -> None:
        container = docker.kafka_container({**BROKER_PROPERTIES, **config})
        self.bootstrap = f"{container.host}:{container.port}"
        self.version = docker.kafka_image()
        self._run(container)


def _has_leaders(admin: AdminClient, topic: str, partitions: int) -> bool:
    try:
        known = admin.list_topics(topic, timeout=5).topics[topic].partitions
    except KafkaException:
        return False
    return len(known) == partitions and all(partition.leader >= 0 for partition in known.values())
