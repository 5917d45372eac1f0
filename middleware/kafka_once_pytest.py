"""kafka-once's pytest plugin (docs/testing.md): the fixtures `kafka`, `redis` and `once_app`, and those that prove a
handler: `crash_at_every_step`, `deliver_twice` and `assert_idempotent`.

A module beside the package and not in it, so that pytest's start imports nothing of kafka-once; a fixture that is used
does. A fixture of your own with one of these names goes before this one; `-p no:kafka_once` switches all of them off.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Hashable

    from kafka_once.testing.handler_proofs import CrashReport
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


@pytest.fixture
def crash_at_every_step() -> "Callable[..., CrashReport]":
    """Gives `handler_proofs.crash_at_every_step`: your handler, its process dead one step later each time."""
    from kafka_once.testing import handler_proofs

    return handler_proofs.crash_at_every_step


@pytest.fixture
def deliver_twice() -> "Callable[..., Counter[Hashable]]":
    """Gives `handler_proofs.deliver_twice`: everything is sent twice; what the repeats added."""
    from kafka_once.testing import handler_proofs

    return handler_proofs.deliver_twice


@pytest.fixture
def assert_idempotent() -> "Callable[..., None]":
    """Gives `handler_proofs.assert_idempotent`: a handler declared idempotent runs again, and changes nothing."""
    from kafka_once.testing import handler_proofs

    return handler_proofs.assert_idempotent
