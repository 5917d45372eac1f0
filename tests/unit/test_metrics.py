"""Metrics: every counter and every picture under its documented name, and the dashboard asks for nothing else."""

import json
import re
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kafka_once import App, Message, header
from kafka_once.core.events import Counters, Outcome
from kafka_once.handler_times import HandlerTimes
from kafka_once.metrics import COUNTERS, GAUGES, Collector, exposition, metric_names, unwatch, watch
from kafka_once.testing import MemoryApp
from tests.tidy.documents import ROOT, first_column, section

DASHBOARD = ROOT / "docs/grafana.json"


def nothing(message: Message) -> None:
    pass


def billing(handler=nothing, group="billing"):
    app = App("k:9092", group=group, store="redis://r")
    app.handler("payments", key=header("id"))(handler)
    return MemoryApp(app)


def samples(text):
    """(name, labels) → value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(registry):
    return samples(generate_latest(registry).decode())


GROUP = (("group", "billing"),)
PARTITION = (("group", "billing"), ("partition", "0"), ("topic", "payments"))


def test_counters_are_those_of_the_app():
    registry = CollectorRegistry()
    memory = billing()
    registry.register(Collector(memory._app))
    with memory:
        for number in range(3):
            memory.send("payments", b"", headers={"id": str(number)})
        memory.repeat()
        memory.settle()
    told, stats = of(registry), memory.stats()

    assert told["kafka_once_deliveries_total", GROUP] == 6
    for name in COUNTERS:
        assert told[f"kafka_once_{name}_total", GROUP] == stats[name]
    for outcome in Outcome:
        labels = (("group", "billing"), ("outcome", outcome.value))
        assert told["kafka_once_outcomes_total", labels] == stats[outcome.value]
    runs = (("group", "billing"), ("topic", "payments"))
    assert told["kafka_once_handler_seconds_count", runs] == 3


def test_gauges_show_what_is_in_progress():
    began, go_on = threading.Event(), threading.Event()

    def wait(_: Message) -> None:
        began.set()
        assert go_on.wait(20)

    registry = CollectorRegistry()
    memory = billing(wait)
    registry.register(Collector(memory._app))
    with memory:
        for number in range(5):
            memory.send("payments", b"", headers={"id": str(number)})
        assert began.wait(20)
        pause = threading.Event()
        while (told := of(registry)).get(("kafka_once_partition_lag", PARTITION), 0) < 5:
            pause.wait(0.01)  # the picture is made anew a few times a second
        go_on.set()
        memory.settle()

    assert told["kafka_once_unfinished", GROUP] == told["kafka_once_partition_unfinished", PARTITION] == 5
    assert told["kafka_once_lanes_running", GROUP] == 1
    assert told["kafka_once_partitions_owned", GROUP] == 1
    assert told["kafka_once_partition_frontier", PARTITION] == 0
    assert told["kafka_once_live", GROUP] == told["kafka_once_ready", GROUP] == 1
    assert told["kafka_once_store_silent", GROUP] == 0


def test_apps_of_one_group_are_added_up_and_others_stand_beside():
    one, two, three = billing(), billing(), billing(group="other")
    registry = CollectorRegistry()
    registry.register(Collector(one._app, two._app, three._app))
    for memory in (one, two, three):
        with memory:
            memory.send("payments", b"", headers={"id": "1"})
            memory.settle()

    told = of(registry)
    assert told["kafka_once_deliveries_total", GROUP] == 2
    assert told["kafka_once_deliveries_total", (("group", "other"),)] == 1


def test_the_default_registry_shows_an_app_until_it_is_unwatched():
    memory = billing(group="default")
    watch(memory._app)
    watch(memory._app)
    labels = (("group", "default"),)
    assert samples(exposition().decode())["kafka_once_deliveries_total", labels] == 0
    unwatch(memory._app)
    assert ("kafka_once_deliveries_total", labels) not in samples(exposition().decode())


def test_a_histogram_counts_runs_by_their_groups_mean():
    times = HandlerTimes()
    times.observe("t", 10, 5.0)  # ten runs of half a millisecond
    times.observe("t", 1, 400.0)
    times.observe("t", 1, 10_000_000.0)

    counts, seconds = times.by_topic()["t"]
    assert counts[HandlerTimes.BOUNDS_S.index(0.001)] == 10
    assert counts[HandlerTimes.BOUNDS_S.index(0.5)] == 1
    assert counts[-1] == 1
    assert sum(counts) == 12
    assert seconds == pytest.approx(10_000.405)


def test_names_are_what_prometheus_reads():
    registry = CollectorRegistry()
    memory = billing()
    registry.register(Collector(memory._app))
    with memory:
        memory.send("payments", b"", headers={"id": "1"})
        memory.settle()
        told = {name for name, _ in of(registry)}

    assert told - metric_names() == set()
    assert {f"kafka_once_{name}_total" for name in COUNTERS} <= told
    assert len(COUNTERS) + len(Outcome) == len(Counters.NAMES)


# ----------------------------------------------------------------------------------------------------------- documents


def named(text):
    """The first name in each row; the others of its cell are examples."""
    return [name for name in first_column(text) if name.startswith("kafka_once_")]


def test_every_metric_is_documented_and_no_other():
    text = (ROOT / "docs/metrics.md").read_text()
    documented = [name for heading in ("Counters", "Gauges", "Handler times") for name in named(section(text, heading))]
    families = ["kafka_once_outcomes_total", "kafka_once_<counter>_total", *GAUGES, "kafka_once_handler_seconds"]

    assert documented == families


def test_the_dashboard_asks_only_for_metrics_that_exist():
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked = {name for query in queries for name in re.findall(r"kafka_once_\w+", query)}

    assert len(queries) > 10
    assert asked - metric_names() == set()
    assert {"kafka_once_outcomes_total", "kafka_once_in_doubt_total", "kafka_once_partition_lag"} <= asked
    labels = {label for query in queries for label in re.findall(r"by \(([^)]*)\)", query)}
    assert {name.strip() for label in labels for name in label.split(",")} <= {
        "group", "topic", "partition", "outcome", "le"
    }  # fmt: skip
