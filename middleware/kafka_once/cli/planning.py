"""What a pipeline will take of Redis, reckoned from the store's rule of windows and from measured costs.

The rule is that of `stores/done_keys.lua`; a test compares the numbers. The costs are what a machine of two cores
measured, with broker, store and consumer on it (docs/performance.md): measure yours with the same commands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from kafka_once.keys import DIGEST_BYTES

__all__ = ["Costs", "Load", "Plan", "Rule", "plan_for"]

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """The windows of done keys. A window is open for `remember_for`, or until it is full; it is looked at for
    `remember_for` after its end, and then deleted. So keys stay for at most twice `remember_for`, as long as the group
    completes anything."""

    buckets: int = 65_536
    average: int = 16
    full: int = 24
    growth: int = 4
    widest: int = 256

    def width(self, keys: float) -> int:
        """Of a window for which so many keys are foreseen: it has so many times `buckets`."""
        return max(1, min(math.ceil(keys / (self.average * self.buckets)), self.widest))

    def room(self, width: int) -> int:
        """Keys that end a window."""
        return self.full * self.buckets * width

    def windows_filled(self, keys: float) -> float:
        """By so many keys, if they do not go into one."""
        return max(1.0, keys / self.room(self.widest))

    def windows_until(self, keys: float) -> int:
        """How many windows are opened for the first so many keys, each wider than the last."""
        count, width, left = 1, 1, keys
        while left > self.room(width):
            left -= self.room(width)
            width = min(width * self.growth, self.widest)
            count += 1
        return count

    def buckets_used(self, keys: float) -> float:
        """By so many keys in one window, which is as wide as they want it. Digests fall by chance, and an empty bucket
        takes nothing."""
        buckets = self.width(keys) * self.buckets
        return -buckets * math.expm1(-keys / buckets)


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured by `make bench-full`; `python -m bench.report build/bench-full.json` prints them for this place. The
    tables that they are from are named, as in `python -m bench --only NAME`.

    Attributes:
        key_bytes, bucket_bytes: of a done key in its bucket; of a used bucket, beside its keys (`redis-memory`).
        call_us: CPU of the Redis server for a call when calls do not follow each other at once (`pace`).
        message_us_at_keys: keys that one server holds → its CPU for claim and completion of a message (`redis-memory`):
            the more there are, the more windows, and hashes of a window, one call comes to.
        calls_at_pace: messages a second that one process takes → calls to the store for each (`pace`).
        calls_by_handler: the handler's ms → calls for each message, when there is always one waiting (`handler-times`).
        calls_per_s_most: that one process came to in both tables: what more handlers at once would want shares calls.
    """

    key_bytes: float = 17.4
    bucket_bytes: float = 63
    call_us: float = 152
    message_us_at_keys: Points = (
        *((10_000, 5.1), (30_000, 5.3), (100_000, 5.8), (300_000, 6.8)),
        *((1_000_000, 7.6), (3_000_000, 9.9), (10_000_000, 12.1)),
    )
    calls_at_pace: Points = ((100, 2.006), (1_000, 1.438), (5_000, 0.312), (20_000, 0.023))
    calls_by_handler: Points = (
        *((0.0, 0.003), (0.1, 0.28), (0.3, 0.384), (1.0, 0.76)),
        *((3.0, 0.794), (5.0, 0.752), (10.0, 0.733), (20.0, 0.785)),
    )
    calls_per_s_most: float = 1_785


@dataclass(frozen=True, slots=True)
class Load:
    """What is planned for.

    Attributes:
        per_s: messages a second, repeats included.
        remember_s: `remember_for`.
        repeats: the share of messages whose key is known, from 0 to 1.
        handler_ms: how long a handler takes.
        processes: how many share the partitions.
        server_bytes: memory of one Redis server.
    """

    per_s: float
    remember_s: float
    repeats: float = 0.0
    handler_ms: float = 0.0
    processes: int = 1
    server_bytes: float = 16 * 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """What it comes to.

    Attributes:
        keys: that are remembered for certain, at a steady rate.
        keys_held: that are in memory at most: those of twice `remember_for`.
        windows: that are in memory, and looked at for each new key, once they are as wide as the load wants them.
        windows_growing: how many at most until then.
        bytes_held: memory for done keys at most.
        calls_per_s: round trips to the store, of all processes.
        cpu: of Redis: 1.0 is a core, and more than one server has.
        handlers_at_once: that run at the same time, in all processes.
        mistaken: the chance that two of the keys held have the same digest, so that one is taken for the other.
        shards: advised; the windows are those of each.
    """

    keys: int
    keys_held: int
    windows: int
    windows_growing: int
    bytes_held: int
    calls_per_s: float
    cpu: float
    handlers_at_once: float
    mistaken: float
    shards: int


_FULL_MEMORY, _FULL_CPU = 0.75, 0.5  # of a server: the rest is for its replicas' buffers, for failovers, for bad days


def plan_for(load: Load, rule: Rule | None = None, costs: Costs | None = None) -> Plan:
    rule, costs = rule or Rule(), costs or Costs()
    keys_per_s = load.per_s * (1 - load.repeats)
    keys = keys_per_s * load.remember_s
    calls = load.per_s * _calls(load, costs)
    of_one = _bytes_held(keys, rule, costs)
    shards = max(1, math.ceil(of_one / (load.server_bytes * _FULL_MEMORY)))
    shards = max(shards, math.ceil(_cpu(load, calls, keys / shards, costs) / _FULL_CPU))
    of_shard = keys / shards
    held = 2 * keys
    return Plan(
        keys=round(keys),
        keys_held=round(held),
        windows=1 + math.ceil(rule.windows_filled(of_shard)),
        windows_growing=1 + rule.windows_until(of_shard),
        bytes_held=round(shards * _bytes_held(of_shard, rule, costs)),
        calls_per_s=calls,
        cpu=_cpu(load, calls, of_shard, costs),
        handlers_at_once=load.per_s * load.handler_ms / 1000,
        mistaken=held**2 / 2 ** (8 * DIGEST_BYTES + 1),
        shards=shards,
    )


def _bytes_held(keys: float, rule: Rule, costs: Costs) -> float:
    """Of one shard, just before its oldest window is deleted: what is remembered for certain is there twice then."""
    windows = rule.windows_filled(keys)
    return 2 * (keys * costs.key_bytes + windows * rule.buckets_used(keys / windows) * costs.bucket_bytes)


def _cpu(load: Load, calls: float, of_shard: float, costs: Costs) -> float:
    """Of all servers together, each of which holds twice the keys that a shard promises to remember."""
    message_us = _between_logarithms(costs.message_us_at_keys, max(1.0, 2 * of_shard))
    return (load.per_s * message_us + calls * costs.call_us) / 1e6


def _calls(load: Load, costs: Costs) -> float:
    """For each message: the more of the two, for either alone can keep messages from sharing a call; up to the most."""
    at_pace = _between_logarithms(costs.calls_at_pace, _of_one(load))
    calls = max(at_pace, _between(costs.calls_by_handler, load.handler_ms))
    return min(calls, costs.calls_per_s_most / _of_one(load))


def _of_one(load: Load) -> float:
    return load.per_s / load.processes


def _between_logarithms(points: Points, x: float) -> float:
    return _between(tuple((math.log(at), value) for at, value in points), math.log(x))


def _between(points: Points, x: float) -> float:
    """On the line through the points; the first and the last hold beyond them."""
    for (left, low), (right, high) in pairwise(points):
        if x <= right:
            return low + (high - low) * max(0.0, (x - left) / (right - left))
    return points[-1][1]
