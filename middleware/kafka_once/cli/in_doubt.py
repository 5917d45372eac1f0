"""`kafka-once in-doubt`: the messages that may have run twice, so that a person can reconcile them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kafka_once.cli.endings import one_sentence
from kafka_once.cli.onlooker import Onlooker, looking_at
from kafka_once.cli.target import AppName, Cluster, Group, Json, KafkaConfig, Servers, StoreUrl, Target, target_of
from kafka_once.errors import ConfigurationError, MessageError
from kafka_once.keys import Key, digest, header
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import Doubt

Limit = Annotated[int, typer.Option("--limit", min=1, help="Show at most so many, the newest first.")]
ShowKeys = Annotated[
    bool, typer.Option("--show-keys", help="Read each message from Kafka again and show its key in clear.")
]
KeyHeader = Annotated[
    str | None,
    typer.Option("--key-header", metavar="NAME", help="The header that holds the key, if no app is named."),
]
Scope = Annotated[str | None, typer.Option("--scope", metavar="NAME", help="The app's `scope` setting, if it has one.")]


def in_doubt(
    app: AppName = None,
    servers: Servers = None,
    group: Group = None,
    store: StoreUrl = None,
    kafka_config: KafkaConfig = None,
    cluster: Cluster = None,
    limit: Limit = 100,
    show_keys: ShowKeys = False,  # noqa: FBT002
    key_header: KeyHeader = None,
    scope: Scope = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List the messages whose handler may have run before: after a crash, or because it said so itself.

    The list holds coordinates and digests. Keys in clear are shown only with --show-keys, which reads them from Kafka.
    """
    with one_sentence():
        target = target_of(
            app, servers=servers, group=group, store=store, kafka_config=kafka_config, cluster=cluster
        )
        keys = _Keys(target, key_header, scope) if show_keys else None
        with looking_at(target.settings) as kafka:
            shown = [_shown(doubt) for doubt in (doubts := _doubts(target, kafka.cluster_id(), limit))]
            if keys is not None:
                for entry, doubt in zip(shown, doubts, strict=True):
                    entry["key"] = keys.of(doubt, kafka)
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    else:
        _print(shown, keys=show_keys)
