"""What `kafka-once plan` reckons with is what the script does on a real Redis."""

import uuid
from struct import Struct

import pytest

from bench.filling import Filling
from kafka_once.cli.planning import Rule
from kafka_once.ports import Namespace
from kafka_once.stores.redis_wire import key_prefix
from kafka_once.testing.services import RedisServer

pytestmark = pytest.mark.integration

WINDOW = Struct("<IIIIQQQ")  # number, buckets, made, count, opened, ended, remember
REMEMBER_MS = 600_000


def test_windows_fill_grow_and_stay_as_planned(redis_server: RedisServer) -> None:
    group, rule, client = f"windows-{uuid.uuid4().hex[:8]}", Rule(), redis_server.client()
    prefix = key_prefix(Namespace("bench", group))
    full = rule.first_buckets * rule.full
    with Filling(redis_server.url, "bench", group, remember_ms=REMEMBER_MS) as filling:
        filling.reach(full)
        before = list(WINDOW.iter_unpack(client.hget(f"{prefix}meta", "windows")))
        filling.reach(full + 2_000)
    windows = list(WINDOW.iter_unpack(client.hget(f"{prefix}meta", "windows")))

    assert [(window[1], window[3]) for window in before] == [(rule.first_buckets, full)]
    assert len(windows) == rule.windows_until(full + 2_000) == 2
    assert [(window[1], window[3]) for window in windows] == [
        (rule.first_buckets * rule.growth, 2_000),
        (rule.first_buckets, full),
    ]
    stays_ms = 2 * REMEMBER_MS + rule.slack_s * 1000
    left_ms = [client.pttl(bucket) for bucket in client.scan_iter(f"{prefix}d:1:*", count=1000)]
    assert len(left_ms) == rule.first_buckets
    assert stays_ms - 60_000 < min(left_ms) <= max(left_ms) <= stays_ms
    client.delete(*client.scan_iter(f"{prefix}*", count=1000))
