"""Fixtures that every test may use: one real Kafka and one real Redis for the whole run.

`kafka`, `redis` and `once_app` are those of our pytest plugin, which tests here use as everybody does.
"""

import pytest
from hypothesis import settings

from kafka_once.testing.fixtures import missing, or_skip
from kafka_once.testing.services import RedisServer

__all__ = ["missing", "or_skip"]

# How long an example takes says more of what else the machine does.
settings.register_profile("kafka-once", deadline=None)
settings.load_profile("kafka-once")


@pytest.fixture(scope="session")
def redis_server(redis: RedisServer) -> RedisServer:
    """A Redis shared by all tests: use a namespace of your own, and kill only what you started."""
    return redis
