"""kafka-once's pytest plugin: the fixtures `kafka`, `redis` and `once_app` (docs/testing.md).

A module beside the package and not in it, so that pytest's start imports nothing of kafka-once; a fixture that is used
does. A fixture of your own with one of these names goes before this one; `-p no:kafka_once` switches all of them off.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kafka_once.testing.served_app import ServedApp
    from kafka_once.testing.services import KafkaServer, RedisServer


@pytest.fixture(scope="session")
def kafka() -> "Iterator[KafkaServer]":
    """A Kafka for the whole run (`kafka.bootstrap`): a container where Docker answers, else a local one.

    Shared by all tests: give topics and groups names of your own, and stop only what you started.
    """
    from kafka_once.testing.fixtures import kafka_server

    with kafka_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> "Iterator[RedisServer]":
    """A Redis for the whole run (`redis.url`, `redis.client()`): a container where Docker answers, else a local one."""
    from kafka_once.testing.fixtures import redis_server

    with redis_server() as server:
        yield server


@pytest.fixture
def once_app(kafka: "KafkaServer", redis: "RedisServer") -> "Iterator[Callable[..., ServedApp]]":
    """Gives a function that runs an app of yours on the two, under names of its own, until the test ends."""
    from kafka_once.testing.fixtures import served_apps

    with served_apps(kafka, redis) as serve:
        yield serve
