"""Each file of scenarios has a Kafka of its own: they stop brokers, make topics anew and leave groups in disorder."""

from collections.abc import Iterator

import pytest

from kafka_once.testing.fixtures import kafka_server
from kafka_once.testing.services import KafkaServer


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    with kafka_server() as server:
        yield server
