"""What a done key costs on the Redis server: memory as keys grow and expire, and the server's time.

    python -m bench.redis_memory --keys 1000000      # beside SET with a TTL, as loops by hand use it
    python -m bench.redis_memory --turnover-s 120    # keys that come and expire at a steady pace
    python -m bench.redis_memory --calls             # the server's time by how many messages share a call

Starts a Redis of its own. Figures of memory are those of its allocator: publish them from a server with jemalloc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from bench.filling import BATCH, Filling
from bench.tables import Measure, Row
from kafka_once.testing.services import RedisServer, start_redis

__all__ = ["Turnover", "done_keys", "redis_calls"]

_REDIS_US = ("redis_us", "Redis CPU µs per claim and completion", 1)
_REMEMBER_S, _BUILT_UP_S = 5, 15
_PACE = 2_000
_PROBES = 4
_LOOK_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.redis_memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--turnover-s", type=int, default=0)
    parser.add_argument("--calls", action="store_true")
    options = parser.parse_args()
    if options.turnover_s:
        print(json.dumps(_turned_over(options.turnover_s)))
    else:
        with start_redis("local", config={"appendonly": "no"}) as server:
            print(f"Redis {server.version}, {server.client().info('memory')['mem_allocator']}")
            measure = redis_calls(server) if options.calls else done_keys(server, options.keys)
            print(measure.as_markdown())


# ------------------------------------------------------------------------------------------------------- as keys grow


def done_keys(server: RedisServer, most: int) -> Measure:
    """At each tenth power and half of one up to `most`; ours, then SET with a TTL and a prefix of six bytes."""
    steps = sorted({most, *(keys for power in range(4, 9) for keys in (10**power, 3 * 10**power) if keys < most)})
    rows = {keys: Row(f"{keys:,} keys", [{"keys": keys}]) for keys in steps}
    for keys, figures in _ours(server, steps).items():
        rows[keys].runs[0].update(figures)
    for keys, size in _by_hand(server, [keys for keys in steps if keys <= 1_000_000]).items():
        rows[keys].runs[0]["by_hand_bytes"] = size
    note = (
        "used_memory of INFO, less what it was with the script loaded and no key, divided by the keys. By hand: SET "
        "with a TTL, a prefix of 6 bytes and a UUID. Redis' CPU is that of the keys since the row above, in full calls."
    )
    columns = (
        ("bytes", "bytes per done key", 1),
        _REDIS_US,
        ("by_hand_bytes", "bytes per key by hand", 0),
    )
    return Measure("redis-memory", "Redis memory per remembered key", note, columns, list(rows.values()))


def _ours(server: RedisServer, steps: list[int]) -> dict[int, dict[str, float]]:
    client = server.client()
    client.flushall()
    found: dict[int, dict[str, float]] = {}
    with Filling(server.url, "bench", "memory") as filling:
        before = client.info("memory")["used_memory"]
        earlier, spent_us = 0, _cpu_us(client)
        for keys in steps:
            filling.reach(keys)
            us = _cpu_us(client)
            used = client.info("memory")["used_memory"] - before
            found[keys] = {"bytes": used / keys, "redis_us": (us - spent_us) / (keys - earlier)}
            earlier, spent_us = keys, us
    client.flushall()
    return found


def redis_calls(server: RedisServer) -> Measure:
    """A call costs something by itself: how many messages share one decides what a message costs."""
    client, rows = server.client(), []
    for batch in (1, 2, 5, 20, 100, 500):
        client.flushall()
        with Filling(server.url, "bench", "calls", batch=batch) as filling:
            filling.reach(10_000)
            before_us, count = _cpu_us(client), min(100_000, 10_000 * batch)
            filling.reach(10_000 + count)
            run = {"batch": batch, "redis_us": (_cpu_us(client) - before_us) / count}
        rows.append(Row(f"{batch} messages in a call" if batch > 1 else "1 message in a call", [run]))
    client.flushall()
    note = "For claim and completion of a message, on a server that is always busy; each message is in two calls."
    return Measure("redis-calls", "Redis CPU by how many messages share a call", note, (_REDIS_US,), rows)


def _cpu_us(client: Any) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_sys"] + used["used_cpu_user"]) * 1e6


def _by_hand(server: RedisServer, steps: list[int]) -> dict[int, float]:
    client = server.client()
    client.flushall()
    before, count, found = client.info("memory")["used_memory"], 0, {}
    for keys in steps:
        while count < keys:
            pipeline = client.pipeline(transaction=False)
            for _ in range(min(BATCH, keys - count)):
                text = os.urandom(16).hex()
                pipeline.set(f"dedup:{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}", "1", ex=86_400)
            count += len(pipeline.execute())
        found[keys] = (client.info("memory")["used_memory"] - before) / keys
    client.flushall()
    return found


# ------------------------------------------------------------------------------------------- as keys come and expire


class Turnover:
    """Keys come and expire on a server of its own, in a process of its own, while something else is measured that
    takes no notice of one per cent of a core."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        command = [sys.executable, "-m", "bench.redis_memory", "--turnover-s", str(seconds)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait(self) -> Measure:
        """Until it is over."""
        told, _ = self._process.communicate(timeout=self._seconds + 60)
        if self._process.returncode:
            raise RuntimeError("keys that come and expire: failed")
        rows = [Row(f"after {probe['after_s']} s, {probe['keys']:,} keys", [probe]) for probe in json.loads(told)]
        note = (
            f"{_PACE:,} new keys a second, remember_for {_REMEMBER_S} s: the most since the row before. A window is "
            f"deleted twice that after it was opened; so it grows for {2 * _REMEMBER_S} s, and is flat from there on."
        )
        columns = (("mib", "Redis memory, MiB", 2), ("redis_keys", "keys of Redis", 0))
        return Measure("turnover", "Redis memory as keys expire and new ones come", note, columns, rows)


def _turned_over(seconds: int) -> list[dict[str, Any]]:
    probes = []
    step_s = (seconds - _BUILT_UP_S) / _PROBES
    with start_redis("local", config={"appendonly": "no"}) as server:
        client = server.client()
        with Filling(server.url, "bench", "turnover", remember_ms=_REMEMBER_S * 1000) as filling:
            before = client.info("memory")["used_memory"]
            for at_s in (_BUILT_UP_S / 3, _BUILT_UP_S / 3, _BUILT_UP_S / 3, *[step_s] * _PROBES):
                used, redis_keys = _most(client, filling, at_s)
                after_s = round(sum(probe["for_s"] for probe in probes) + at_s)
                told = {"after_s": after_s, "for_s": at_s, "keys": filling.count, "mib": (used - before) / 2**20}
                probes.append(told | {"redis_keys": redis_keys})
    return probes


def _most(client: Any, filling: Filling, seconds: float) -> tuple[int, int]:
    """Bytes and keys of Redis while keys are added; the most, because both fall with each window that is deleted."""
    looks = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        filling.keep_adding(_PACE, _LOOK_S)
        looks.append((client.info("memory")["used_memory"], client.dbsize()))
    used, redis_keys = zip(*looks, strict=True)
    return max(used), max(redis_keys)


if __name__ == "__main__":
    main()
