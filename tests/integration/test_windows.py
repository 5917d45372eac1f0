"""What `kafka-once plan` reckons with is what the script does on a real Redis."""

import uuid
from collections.abc import Iterator
from struct import Struct

import pytest

from bench.filling import Filling
from kafka_once.cli.planning import Rule
from kafka_once.ports import Namespace
from kafka_once.stores.redis_wire import key_prefix
from kafka_once.testing.services import RedisServer
from kafka_once.testing.store_workers import until

pytestmark = pytest.mark.integration

REMEMBER_MS, SLACK_MS = 600_000, 60_000
RULE = Rule()


class Windows:
    """Of a namespace, as they stand in Redis."""

    FORMAT = Struct("<IIIQQQ")  # number, width, count, opened, ended, remember

    def __init__(self, server: RedisServer) -> None:
        self.group, self._server = f"windows-{uuid.uuid4().hex[:8]}", server
        self.client = server.client()
        self._prefix = key_prefix(Namespace("bench", self.group))

    def filling(self, remember_ms: int) -> Filling:
        return Filling(self._server.url, "bench", self.group, remember_ms=remember_ms)

    def all(self) -> list[tuple[int, ...]]:
        """The newest first."""
        return list(self.FORMAT.iter_unpack(self.client.hget(f"{self._prefix}meta", "windows") or b""))

    def change_newest(self, *, count: int, opened_earlier_ms: int = 0) -> None:
        """To fill one takes a million and a half of keys, and to wait for its end `remember_for`."""
        (number, width, _, opened, *rest), *earlier = self.all()
        changed = [(number, width, count, opened - opened_earlier_ms, *rest), *earlier]
        self.client.hset(f"{self._prefix}meta", "windows", b"".join(self.FORMAT.pack(*window) for window in changed))

    def parts(self, number: int) -> list[bytes]:
        return self._keys(f"d:{number}:*")

    def clear(self) -> None:
        self.client.delete(*self._keys("*"))
        self.client.close()

    def _keys(self, pattern: str) -> list[bytes]:
        return list(self.client.scan_iter(f"{self._prefix}{pattern}", count=1_000))


@pytest.fixture
def windows(redis_server: RedisServer) -> Iterator[Windows]:
    made = Windows(redis_server)
    yield made
    made.clear()


def test_windows_fill_and_grow_as_planned(windows: Windows) -> None:
    full = RULE.room(1)
    with windows.filling(REMEMBER_MS) as filling:
        filling.reach(1_000)
        windows.change_newest(count=full - 1_000)
        filling.reach(2_000)
        before = windows.all()
        filling.reach(4_000)
        grown = windows.all()
        windows.change_newest(count=5_000_000, opened_earlier_ms=REMEMBER_MS)
        filling.reach(4_500)

    assert [window[1:3] for window in before] == [(1, full)]
    assert [window[1:3] for window in grown] == [(RULE.growth, 2_000), (1, full)]
    assert len(grown) == RULE.windows_until(full + 2_000)
    assert windows.all()[0][1:3] == (RULE.width(5_000_000), 500)


def test_buckets_are_used_as_planned(windows: Windows) -> None:
    with windows.filling(REMEMBER_MS) as filling:
        filling.reach(20_000)
    parts = windows.parts(1)

    used = sum(windows.client.hlen(part) for part in parts) - len(parts)  # each has one field that is no bucket
    assert used == pytest.approx(RULE.buckets_used(20_000), rel=0.02)


def test_a_window_expires_if_nobody_comes(windows: Windows) -> None:
    with windows.filling(REMEMBER_MS) as filling:
        filling.reach(1_000)
    left_ms = [windows.client.pttl(part) for part in windows.parts(1)]

    stays_ms = 2 * REMEMBER_MS + SLACK_MS
    assert stays_ms - 60_000 < min(left_ms) <= max(left_ms) <= stays_ms


def test_the_completion_after_its_time_in_sight_deletes_a_window(windows: Windows) -> None:
    """It would expire a minute later: twice `remember_for` is what is planned with."""
    remember_ms = 1_000
    with windows.filling(remember_ms) as filling:
        filling.reach(100)
        _, _, _, opened, _, _ = windows.all()[-1]

        def deleted() -> bool:
            filling.reach(filling.count + 10)
            there = bool(windows.parts(1))
            seconds, micros = windows.client.time()
            assert there or seconds * 1000 + micros // 1000 >= opened + 2 * remember_ms
            return not there

        until(deleted, "the first window is deleted")

    assert len(windows.all()) <= 3
