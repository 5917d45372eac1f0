"""`kafka-once stats`: what the store holds for a group, and how far it is behind in Kafka."""

import json
from typing import Any

import typer
from rich.table import Table

from kafka_once.cli.endings import one_sentence
from kafka_once.cli.onlooker import Onlooker, looking_at
from kafka_once.cli.printing import wide_console
from kafka_once.cli.target import AppName, Cluster, Group, Json, KafkaConfig, Servers, StoreUrl, Target, target_of
from kafka_once.message import TopicPartition
from kafka_once.ports import Committed, Survey


def stats(
    app: AppName = None,
    *,
    servers: Servers = None,
    group: Group = None,
    store: StoreUrl = None,
    kafka_config: KafkaConfig = None,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Show a group's sessions, claims, done keys, counters, and the lag of each partition.

    The counters are the sums of all sessions, as each last reported them: once a minute and at its end.
    """
    with one_sentence():
        target = target_of(app, servers=servers, group=group, store=store, kafka_config=kafka_config, cluster=cluster)
        with looking_at(target.settings) as kafka:
            shown = _look(target, kafka)
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    else:
        _print(shown)


def _look(target: Target, kafka: Onlooker) -> dict[str, Any]:
    cluster_id = kafka.cluster_id()
    opened = target.open_store(cluster_id)
    try:
        survey = opened.survey()
    finally:
        opened.close()
    return {
        "group": target.settings.group,
        "cluster": target.namespace(cluster_id).cluster,
        "sessions": survey.sessions,
        "claims": survey.claims,
        "done": survey.done,
        "in_doubt": survey.doubts,
        "counters": dict(survey.counters),
        "partitions": _partitions(target, kafka, survey),
    }


def _partitions(target: Target, kafka: Onlooker, survey: Survey) -> list[dict[str, Any]]:
    topics = target.topics() or {partition.topic for partition in survey.frontiers}
    partitions = kafka.partitions(topics)
    committed = kafka.committed(partitions)
    return [_partition(kafka, each, survey.frontiers.get(each), committed[each]) for each in partitions]


def _partition(
    kafka: Onlooker, partition: TopicPartition, frontier: int | None, committed: Committed | None
) -> dict[str, Any]:
    first, end = kafka.ends(partition)
    at = None if committed is None else committed.offset
    return {
        "topic": partition.topic,
        "partition": partition.partition,
        "frontier": frontier,
        "committed": at,
        "end": end,
        "lag": end - max(first, at or 0),
    }


def _print(shown: dict[str, Any]) -> None:
    console = wide_console()
    console.print(f"group {shown['group']}, cluster {shown['cluster'] or '(not told)'}", markup=False)
    table = Table(box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for name, meaning in (
        ("sessions", "sessions alive"),
        ("claims", "claims in flight"),
        ("done", "done keys"),
        ("in_doubt", "in doubt, see kafka-once in-doubt"),
    ):
        table.add_row(f"{shown[name]:,}", meaning)
    table.add_section()
    for name, count in shown["counters"].items():
        if count:
            table.add_row(f"{count:,}", name)
    console.print(table)
    console.print(_partition_table(shown["partitions"]))


def _partition_table(partitions: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("partition")
    for name in ("frontier", "committed", "end", "lag"):
        table.add_column(name, justify="right")
    for each in partitions:
        figures = ["–" if each[name] is None else f"{each[name]:,}" for name in ("frontier", "committed", "end", "lag")]
        table.add_row(f"{each['topic']}\\[{each['partition']}]", *figures)
    return table
