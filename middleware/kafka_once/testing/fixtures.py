"""What the pytest plugin's fixtures give; see `kafka_once_pytest.py`, which imports this only when one is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn, TypeVar

import pytest

from kafka_once.app import App
from kafka_once.testing.served_app import ServedApp
from kafka_once.testing.services import KafkaServer, RedisServer, ServiceUnavailable, start_kafka, start_redis

__all__ = ["kafka_server", "missing", "or_skip", "redis_server", "served_apps"]

Server = TypeVar("Server")
Serve = Callable[..., ServedApp]


def or_skip(start: Callable[[], Server]) -> Server:
    """The started server; where it cannot be had the test is skipped with the reason, and on CI it fails."""
    try:
        return start()
    except ServiceUnavailable as reason:
        missing(str(reason))


def missing(reason: str) -> NoReturn:
    """Skip the test; on CI (the variable CI is "true") fail, for there every service must be."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"on CI every service must be there: {reason}", pytrace=False)
    pytest.skip(reason)


@contextmanager
def kafka_server() -> Iterator[KafkaServer]:
    with or_skip(start_kafka) as server:
        yield server


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    with or_skip(start_redis) as server:
        yield server


@contextmanager
def served_apps(kafka: KafkaServer, redis: RedisServer) -> Iterator[Serve]:
    """Gives a function that runs an app on these servers until the block ends."""
    with ExitStack() as running:

        def serve(app: App, **settings: Any) -> ServedApp:
            served = ServedApp(app, kafka, redis, **settings)
            running.enter_context(served)
            return served

        yield serve
