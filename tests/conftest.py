"""Fixtures that every test may use: one real Kafka and one real Redis for the whole run."""

import os
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import pytest
from hypothesis import settings

from kafka_once.testing.services import KafkaServer, RedisServer, ServiceUnavailable, start_kafka, start_redis

# How long an example takes says more of what else the machine does.
settings.register_profile("kafka-once", deadline=None)
settings.load_profile("kafka-once")

Server = TypeVar("Server")


def or_skip(start: Callable[[], Server]) -> Server:
    """The started server; where it cannot be had the test is skipped with the reason, and on CI it fails."""
    try:
        return start()
    except ServiceUnavailable as reason:
        missing(str(reason))


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"on CI every service must be there: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """A Kafka shared by all tests: give topics and groups names of your own, and kill only what you started."""
    with or_skip(start_kafka) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis shared by all tests: use a namespace of your own, and kill only what you started."""
    with or_skip(start_redis) as server:
        yield server
