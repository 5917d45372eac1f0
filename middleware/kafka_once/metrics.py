"""Metrics for Prometheus, read from the counters when they are asked for: nothing is added to a message's way.

Needs the extra `metrics` (prometheus-client). docs/metrics.md lists every metric.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from kafka_once.core.events import Counters, Outcome
from kafka_once.handler_times import HandlerTimes

if TYPE_CHECKING:
    from kafka_once.picture import Status
    from kafka_once.view import View

try:
    from prometheus_client import REGISTRY, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector as PrometheusCollector
except ImportError as error:
    raise ImportError("prometheus-client is not installed: pip install 'kafka-once[metrics]'") from error

__all__ = ["COUNTERS", "GAUGES", "HISTOGRAM", "Collector", "Watched", "exposition", "metric_names", "unwatch", "watch"]

OUTCOMES = "kafka_once_outcomes"
HISTOGRAM = "kafka_once_handler_seconds"

# Every counter of docs/counters.md but the outcomes, which are one metric with a label.
COUNTERS = tuple(name for name in Counters.NAMES if name not in {outcome.value for outcome in Outcome})

_APP, _PARTITION = ("group",), ("group", "topic", "partition")

GAUGES: dict[str, tuple[tuple[str, ...], str]] = {
    "kafka_once_live": (_APP, "1 while no restart is called for, as /healthz says"),
    "kafka_once_ready": (_APP, "1 while messages are being processed, as /readyz says"),
    "kafka_once_loop_still_seconds": (_APP, "Since the last turn of the consumer's loop"),
    "kafka_once_store_silent": (_APP, "1 while the store gives no answer"),
    "kafka_once_unfinished": (_APP, "Deliveries without an outcome"),
    "kafka_once_lanes_running": (_APP, "Lanes with a handler at work"),
    "kafka_once_partitions_owned": (_APP, "Partitions that are ours"),
    "kafka_once_partition_unfinished": (_PARTITION, "Deliveries of the partition without an outcome"),
    "kafka_once_partition_frontier": (_PARTITION, "The first offset that is not settled"),
    "kafka_once_partition_committed": (_PARTITION, "The offset last confirmed by Kafka"),
    "kafka_once_partition_lag": (_PARTITION, "From the frontier to the end, as of the last fetch"),
    "kafka_once_partition_standing_seconds": (_PARTITION, "Since the first unsettled message's last sign of life"),
}


class Watched(Protocol):
    """What can be shown: an `App` or a `Consumer`, started or not."""

    @property
    def view(self) -> View: ...


class Collector(PrometheusCollector):
    """A collector for a registry of your own: `registry.register(Collector(app))`.

    Several apps of one group in a process are added up.
    """

    def __init__(self, *watched: Watched) -> None:
        self._watched = list(watched)
        self._lock = threading.Lock()

    def add(self, watched: Watched) -> None:
        """Read this one too; nothing happens if it is read already."""
        with self._lock:
            if watched not in self._watched:
                self._watched.append(watched)

    def remove(self, watched: Watched) -> None:
        """Read it no more."""
        with self._lock:
            if watched in self._watched:
                self._watched.remove(watched)

    def collect(self) -> Iterator[Metric]:
        """All metrics; those without a value too, so that their names are known from the start."""
        with self._lock:
            views = [watched.view for watched in self._watched]
        yield from _counters(views)
        yield from _gauges(views)
        yield _histogram(views)


def _counters(views: list[View]) -> Iterator[Metric]:
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for each in views:
        for name, count in each.stats().items():
            sums[each.group, name] += count
    groups = sorted({group for group, _ in sums})
    for name in COUNTERS:
        text = f"The counter `{name}`; docs/counters.md says what it means"
        family = CounterMetricFamily(f"kafka_once_{name}", text, labels=_APP)
        for group in groups:
            family.add_metric([group], sums[group, name])
        yield family
    outcomes = CounterMetricFamily(OUTCOMES, "Deliveries by their outcome", labels=("group", "outcome"))
    for group in groups:
        for outcome in Outcome:
            outcomes.add_metric([group, outcome.value], sums[group, outcome.value])
    yield outcomes


def _gauges(views: list[View]) -> Iterator[Metric]:
    values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in GAUGES}

    def put(name: str, value: float | None, *labels: str) -> None:
        if value is not None:
            row = values[f"kafka_once_{name}"]
            row[labels] = row.get(labels, 0.0) + value

    for each in views:
        health, status = each.health(), each.status()
        put("live", health.live, each.group)
        put("ready", health.ready, each.group)
        put("loop_still_seconds", each.still_s(), each.group)
        if status is not None:
            _put_status(put, each.group, status)
    for name, (labels, text) in GAUGES.items():
        family = GaugeMetricFamily(name, text, labels=labels)
        for label_values, value in values[name].items():
            family.add_metric(label_values, value)
        yield family


class _Put(Protocol):
    def __call__(self, name: str, value: float | None, *labels: str) -> None: ...


def _put_status(put: _Put, group: str, status: Status) -> None:
    put("store_silent", status.engine.store_silent, group)
    put("unfinished", status.engine.unfinished, group)
    put("lanes_running", status.running, group)
    put("partitions_owned", sum(partition.owned for partition in status.engine.partitions), group)
    for partition in status.engine.partitions:
        labels = (group, partition.name.topic, str(partition.name.partition))
        frontier = partition.committed if partition.frontier is None else partition.frontier
        end = status.ends.get(partition.name)
        put("partition_unfinished", partition.unfinished, *labels)
        put("partition_frontier", frontier, *labels)
        put("partition_committed", partition.committed, *labels)
        put("partition_lag", None if end is None or frontier is None else max(0, end - frontier), *labels)
        put("partition_standing_seconds", partition.standing_ms / 1000, *labels)


def _histogram(views: list[View]) -> Metric:
    counts: dict[tuple[str, str], list[int]] = {}
    sums_s: dict[tuple[str, str], float] = defaultdict(float)
    for each in views:
        times = each.handler_times()
        for topic, (runs, sum_s) in ({} if times is None else times.by_topic()).items():
            earlier = counts.get((each.group, topic), [0] * len(runs))
            counts[each.group, topic] = [a + b for a, b in zip(earlier, runs, strict=True)]
            sums_s[each.group, topic] += sum_s
    text = "How long handlers run; those faster than 2 ms count with the mean of their group"
    family = HistogramMetricFamily(HISTOGRAM, text, labels=("group", "topic"))
    bounds = [*map(str, HandlerTimes.BOUNDS_S), "+Inf"]
    for labels, runs in counts.items():
        buckets = [(bound, sum(runs[: position + 1])) for position, bound in enumerate(bounds)]
        family.add_metric(labels, buckets, sums_s[labels])
    return family


def metric_names() -> set[str]:
    """Every name that a query may use."""
    counters = {f"kafka_once_{name}_total" for name in COUNTERS} | {f"{OUTCOMES}_total"}
    return counters | set(GAUGES) | {f"{HISTOGRAM}_{part}" for part in ("bucket", "count", "sum")}


# ------------------------------------------------------------------------------------------------ the default registry

_everywhere = Collector()
_registered = threading.Lock()
_is_registered: list[bool] = []


def watch(*watched: Watched) -> None:
    """Show these apps in prometheus-client's default registry, beside your own metrics.

    With the setting `health_port` that is done by itself. Twice does no harm.
    """
    with _registered:
        if not _is_registered:
            REGISTRY.register(_everywhere)
            _is_registered.append(True)
    for each in watched:
        _everywhere.add(each)


def unwatch(*watched: Watched) -> None:
    """Show them no more."""
    for each in watched:
        _everywhere.remove(each)


def exposition() -> bytes:
    """The default registry, as Prometheus reads it."""
    return generate_latest(REGISTRY)
