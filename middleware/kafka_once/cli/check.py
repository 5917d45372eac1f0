"""`kafka-once check`: is everything there that a run needs? One line for each thing that was looked at."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from kafka_once.cli.check_kafka import kafka_findings
from kafka_once.cli.check_store import store_findings
from kafka_once.cli.endings import one_sentence
from kafka_once.cli.finding import Finding, Level
from kafka_once.cli.onlooker import looking_at
from kafka_once.cli.target import AppName, Cluster, Group, KafkaConfig, Servers, StoreUrl, Target, target_of
from kafka_once.errors import KafkaOnceError

Topics = Annotated[
    list[str] | None,
    typer.Option("--topic", metavar="NAME", help="A topic to look for, if no app is named. Repeatable."),
]

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def check(
    app: AppName = None,
    *,
    servers: Servers = None,
    group: Group = None,
    store: StoreUrl = None,
    kafka_config: KafkaConfig = None,
    cluster: Cluster = None,
    topics: Topics = None,
) -> None:
    """Check settings, Kafka, topics, permissions and Redis, without joining the group.

    Prints one line for each: ok, warning, or problem with its remedy. The exit code is 1 if there is a problem.
    """
    console = Console(highlight=False, soft_wrap=True)
    problems = 0
    with one_sentence():
        target = target_of(app, servers=servers, group=group, store=store, kafka_config=kafka_config, cluster=cluster)
        for finding in _findings(target, topics or []):
            problems += finding.level is Level.PROBLEM
            console.print(Text(f"{finding.level:8}", _STYLES[finding.level]), Text(f"{finding.what}: {finding.text}"))
    if problems:
        raise typer.Exit(1)


def _findings(target: Target, topics: list[str]) -> Iterator[Finding]:
    settings = target.settings
    yield Finding.ok("settings", f"group {settings.group}, {settings.semantics}")
    for variable in settings.layers.ignored:
        yield Finding.warning("settings", f"{variable} in the environment is no setting; it is ignored")
    topics = [*target.topics(), *topics]
    cluster_id = None
    with looking_at(settings) as kafka:
        try:
            cluster_id = kafka.cluster_id()
        except KafkaOnceError as error:
            yield Finding.problem("Kafka", str(error))
        else:
            yield from kafka_findings(settings, topics, kafka)
        if settings.store is None:
            yield Finding.ok("store", f"{settings.semantics} needs none")
        else:
            yield from store_findings(target, topics, kafka, cluster_id)
