"""The brokers, through the public suite: in memory, on librdkafka's mock cluster, and on a real Apache Kafka."""

import itertools
import uuid
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers.kafka import KafkaBroker
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.message import TopicPartition
from kafka_once.ports import Broker, Outgoing
from kafka_once.testing.broker_conformance import BrokerConformance
from kafka_once.testing.services import KafkaServer, start_kafka
from tests.conftest import or_skip


class MemoryWorld:
    abilities = frozenset({"gaps", "static", "missing topics", "records", "topic ids", "deletion"})

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self._numbers = itertools.count()

    def topic(self, partitions: int = 1) -> str:
        name = f"topic-{next(self._numbers)}"
        self.cluster.create_topic(name, partitions)
        return name

    def group(self) -> str:
        return f"group-{next(self._numbers)}"

    def broker(self, group: str, instance: str | None = None) -> Broker:
        return MemoryBroker(self.cluster, group, instance)

    def produce(self, topic: str, records: Sequence[Outgoing], partition: int = 0) -> None:
        for record in records:
            self.cluster.produce(topic, record.key, record.value, record.headers, partition)

    def gap(self, topic: str, partition: int = 0) -> None:
        self.cluster.gap(topic, partition)

    def delete_records(self, partition: TopicPartition, before: int) -> None:
        self.cluster.delete_records(partition, before)

    def recreate(self, topic: str) -> None:
        with self.cluster.changed:  # no poll in between
            self.cluster.delete_topic(topic)
            self.cluster.create_topic(topic)


class KafkaWorld:
    def __init__(self, server: KafkaServer, settings: dict[str, object], abilities: frozenset[str]) -> None:
        self.server = server
        self.settings = settings
        self.abilities = abilities

    def topic(self, partitions: int = 1) -> str:
        name = f"topic-{uuid.uuid4().hex[:12]}"
        self.server.create_topic(name, partitions)
        return name

    def group(self) -> str:
        return f"group-{uuid.uuid4().hex[:12]}"

    def broker(self, group: str, instance: str | None = None) -> Broker:
        static = {} if instance is None else {"group.instance.id": instance}
        connection = {"bootstrap.servers": self.server.bootstrap, "group.id": group}
        return KafkaBroker({**connection, **self.settings, **static})

    def produce(self, topic: str, records: Sequence[Outgoing], partition: int = 0) -> None:
        producer = self._producer()
        for record in records:
            producer.produce(topic, record.value, record.key, partition, headers=list(record.headers))
        assert producer.flush(30) == 0

    def gap(self, topic: str, partition: int = 0) -> None:
        """An aborted transaction: a record that nobody sees, and a marker."""
        producer = self._producer({"transactional.id": uuid.uuid4().hex})
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(topic, b"never seen", partition=partition)
        producer.flush(30)
        producer.abort_transaction(30)

    def delete_records(self, partition: TopicPartition, before: int) -> None:
        admin, asked = self.server.admin(), ClientPartition(*partition, before)
        admin.delete_records([asked])[asked].result(30)

    def recreate(self, topic: str) -> None:
        """The new topic can be made when the old one is gone, which is soon."""
        admin = self.server.admin()
        admin.delete_topics([topic])[topic].result(30)
        for _ in range(1000):
            try:
                self.server.create_topic(topic, 1)
            except KafkaException as failed:
                if failed.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            else:
                return
        raise AssertionError(f"{topic} cannot be made anew")

    def _producer(self, extra: dict[str, object] | None = None) -> Producer:
        # Errors while a broker has just started are its own business.
        return Producer({"bootstrap.servers": self.server.bootstrap, "linger.ms": 0, "log_level": 0, **(extra or {})})


class TestMemoryBroker(BrokerConformance):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


# Rebalances are noticed with the next heartbeat; by default that is 3 s away.
CLASSIC: dict[str, object] = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
PROTOCOLS: dict[str, dict[str, object]] = {
    "range": {**CLASSIC, "partition.assignment.strategy": "range"},
    "cooperative-sticky": CLASSIC,
    "consumer": {"group.protocol": "consumer"},
}


@pytest.mark.integration
class TestKafkaBroker(BrokerConformance):
    @pytest.fixture(params=list(PROTOCOLS))
    def world(self, kafka: KafkaServer, request: pytest.FixtureRequest) -> KafkaWorld:
        if kafka.kind == "mock":
            pytest.skip("a test of its own covers the mock cluster")
        return KafkaWorld(kafka, PROTOCOLS[request.param], MemoryWorld.abilities)


@pytest.fixture(scope="module")
def mock_kafka() -> Iterator[KafkaServer]:
    with or_skip(lambda: start_kafka("mock")) as server:
        yield server


class TestKafkaBrokerOnTheMockCluster(BrokerConformance):
    """The mock has no transactions, makes missing topics, and needs 5 s for a rebalance of a classic group."""

    @pytest.fixture
    def world(self, mock_kafka: KafkaServer) -> KafkaWorld:
        return KafkaWorld(mock_kafka, PROTOCOLS["consumer"], frozenset({"records"}))
