"""What is measured, and how much of it in a quick, a usual and a full run. Each measure gives rows for the report."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.stage import Stage

__all__ = ["SIZES", "Measure", "Row", "Size", "measures"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much: messages of a throughput run and its rounds, keys to grow to, partitions and handler times to try."""

    messages: int
    rounds: int
    remembered: tuple[int, ...]
    partitions: tuple[int, ...]
    slow_s: tuple[float, ...]


SIZES = {
    "quick": Size(200_000, 1, (), (), ()),
    "usual": Size(500_000, 5, (10_000, 100_000, 1_000_000), (1, 12, 100), (0.0001, 0.001, 0.005)),
    "full": Size(1_000_000, 9, (10_000, 100_000, 1_000_000, 10_000_000), (1, 12, 100), (0.0001, 0.001, 0.005, 0.02)),
}

# Slow contenders get a shorter topic: a rate is a rate.
_SHARE = {"setnx_loop": 0.05, "powertools": 0.02}


@dataclass(slots=True)
class Row:
    """All runs of one thing under one name. Figures are shown as their median with the least and the most."""

    name: str
    runs: list[dict[str, Any]]

    def median(self, figure: str) -> float:
        return statistics.median(run[figure] for run in self.runs)

    def shown(self, figure: str, digits: int = 0) -> str:
        values = [run[figure] for run in self.runs if figure in run]
        if not values:
            return "–"
        median = f"{statistics.median(values):,.{digits}f}"
        return median if len(values) == 1 else f"{median} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


@dataclass(slots=True)
class Measure:
    """A table: a title, which figures of the runs are its columns (figure, heading, digits), and its rows."""

    title: str
    columns: tuple[tuple[str, str, int], ...]
    rows: list[Row]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


_RATE = ("messages_per_s", "messages/s", 0)
_CPU = ("cpu_us", "client CPU µs/message", 1)
_REDIS = ("redis_us", "Redis CPU µs/message", 1)
_TRIPS = ("round_trips_per_1000", "round trips/1,000", 1)
_PEAK = ("peak_mib", "peak MiB", 0)


def measures(stage: Stage, size: Size, peers: str | None) -> Iterator[Measure]:
    """One after another. `peers` is the Python of the environment that has them, None to leave them out."""
    yield _throughput(stage, size, peers)
    if size.slow_s:
        yield _slow_handlers(stage, size)
    if size.remembered:
        yield _remembered(stage, size)
    if size.partitions:
        yield _partitions(stage, size)


def _throughput(stage: Stage, size: Size, peers: str | None) -> Measure:
    names = ["poll_loop", "batch_loop", "setnx_loop", "batch_check_after", "at_least_once", "effectively_once"]
    if peers is not None:
        names.append("powertools")
    topics = {share: stage.produce(int(size.messages * share)) for share in {_SHARE.get(name, 1.0) for name in names}}
    rows = {name: Row(name, []) for name in names}
    for _ in range(size.rounds):
        for name in names:
            python = {"python": peers} if name == "powertools" and peers else {}
            rows[name].runs.append(stage.run(name, topics[_SHARE.get(name, 1.0)], **python))
    return Measure("A handler that does nothing", (_RATE, _CPU, _REDIS, _TRIPS, _PEAK), list(rows.values()))


def _slow_handlers(stage: Stage, size: Size) -> Measure:
    rows = []
    for slow_s in size.slow_s:
        topic = stage.produce(max(2_000, min(int(4 / slow_s), size.messages // 5)))
        run = stage.run("effectively_once", topic, handler_s=slow_s)
        rows.append(Row(f"{slow_s * 1000:g} ms", [run]))
    return Measure("Handlers that take time, 4 partitions in order", (_RATE, _CPU, _REDIS, _TRIPS), rows)


def _remembered(stage: Stage, size: Size) -> Measure:
    """Rates while more and more keys are remembered: each topic adds keys of its own to those that are there."""
    rows, known, step = [], 0, min(size.messages, 200_000)
    stage.redis.client().flushall()
    for target in size.remembered:
        while known + step < target:
            topic = stage.produce(step)
            stage.run("effectively_once", topic, keep=True)
            known += topic.distinct
        rows.append(Row(f"{known:,} keys", [stage.run("effectively_once", stage.produce(step), keep=True)]))
        known += int(step * 0.8)
    return Measure("As more keys are remembered", (_RATE, _CPU, _REDIS), rows)


def _partitions(stage: Stage, size: Size) -> Measure:
    rows = []
    for partitions in size.partitions:
        topic = stage.produce(min(size.messages, 300_000), partitions)
        rows.append(Row(f"{partitions} partitions", [stage.run("effectively_once", topic)]))
    return Measure("As partitions grow", (_RATE, _CPU, _REDIS, _TRIPS), rows)
