"""The costs that `kafka-once plan` reckons with, as a run measured them: for `Costs` in cli/planning.py."""

from __future__ import annotations

from bench.results import Results
from kafka_once.cli.planning import Costs, Points, Rule

__all__ = ["costs_of"]

_US_OF = 1_000  # messages a second: where a call stands for itself, as a handler of a millisecond makes it, too


def costs_of(results: Results) -> Costs:
    """Raises KeyError if a table is missing that they are from.

    A key's and a bucket's bytes are those by which 30,000 keys and a million come to what was measured. What a call
    costs is taken from a steady pace: a server that dozes between calls needs more for one than a busy one.
    """
    per_s = _column(results, "pace", "per_s")
    calls = [each / 1000 for each in _column(results, "pace", "round_trips_per_1000")]
    message_us = min(_column(results, "redis-calls", "redis_us"))  # in a full call of a busy server, with few keys
    paced_us = _column(results, "pace", "redis_us")[per_s.index(_US_OF)]
    bucket_bytes, key_bytes = _bytes(results)
    times = [row for row in results.measures["handler-times"].rows if row.name.endswith("effectively_once")]
    return Costs(
        key_bytes=round(key_bytes, 1),
        bucket_bytes=round(bucket_bytes),
        call_us=round((paced_us - message_us) / calls[per_s.index(_US_OF)]),
        message_us_at_keys=_message_us_at_keys(results),
        calls_at_pace=tuple(zip(per_s, (round(each, 3) for each in calls), strict=True)),
        calls_by_handler=tuple(
            (row.median("handler_ms"), round(row.median("round_trips_per_1000") / 1000, 3)) for row in times
        ),
        calls_per_s_most=round(
            max(
                *(each * pace for each, pace in zip(calls, per_s, strict=True)),
                *(row.median("round_trips_per_1000") / 1000 * row.median("messages_per_s") for row in times),
            )
        ),
    )


def _message_us_at_keys(results: Results) -> Points:
    rows = results.measures["redis-memory"].rows
    return tuple((row.median("keys"), round(row.median("redis_us"), 1)) for row in rows)


def _column(results: Results, measure: str, figure: str) -> list[float]:
    return [row.median(figure) for row in results.measures[measure].rows]


_FEW, _MANY = 30_000, 1_000_000  # in one window, which is not full by then


def _bytes(results: Results) -> tuple[float, float]:
    """Of a bucket that is used, and of a key."""
    rows, rule = results.measures["redis-memory"].rows, Rule()
    each = {int(row.median("keys")): row.median("bytes") for row in rows}
    few, many = rule.buckets_used(_FEW) / _FEW, rule.buckets_used(_MANY) / _MANY
    bucket = (each[_FEW] - each[_MANY]) / (few - many)
    return bucket, each[_MANY] - bucket * many
