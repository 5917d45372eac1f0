"""`kafka-once shadow`: beside a running pipeline, count what an app would skip."""

import json
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from kafka_once.cli.endings import one_sentence
from kafka_once.cli.loading import load_app
from kafka_once.cli.printing import wide_console
from kafka_once.cli.run import LogLevel, set_up_logs
from kafka_once.cli.target import Json
from kafka_once.durations import show_duration
from kafka_once.errors import KafkaOnceError
from kafka_once.shadow import SUFFIX, Example, Shadow

_MEANINGS = {
    "deliveries": "messages read",
    "would_process": "would be processed",
    "would_skip": "would be skipped: repeats",
    "other_payload": "of these have another payload than the first of their key: is the key too coarse?",
    "same_payload_other_key": "have the payload of an earlier message and another key: is the key too fine?",
    "missing_keys": "have no usable key: on_missing_key would decide",
    "undecodable": "have a payload that does not decode: on_bad_payload would decide",
    "unprotected": "are for idempotent handlers, which skip nothing",
    "read_again": "were read again by the shadow itself, after a restart or a rebalance",
}


def shadow(
    app: Annotated[str, typer.Argument(metavar="MODULE:APP", help="The app, for example billing:app.")],
    *,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help=f"The group to read in, by default the app's with {SUFFIX}."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Where to remember keys: memory:// leaves the app's store alone."),
    ] = None,
    log_level: LogLevel = "INFO",
    as_json: Json = False,
) -> None:
    """Count what an app would skip, beside a pipeline that runs, and change nothing of it.

    No handler is called and nothing is dead-lettered. It reads in a group of its own until SIGTERM or Ctrl-C, and then
    says what it saw.
    """
    set_up_logs(log_level)
    with one_sentence():
        watching = Shadow(load_app(app), group=group, store=store)
        try:
            watching.run()
        except KafkaOnceError:
            if watching.stats()["deliveries"]:
                _tell(watching, as_json=as_json)
            raise
        _tell(watching, as_json=as_json)


def _tell(watching: Shadow, *, as_json: bool) -> None:
    stats, examples = watching.stats(), watching.examples()
    if as_json:
        shown = {"group": watching.settings.group, **stats, "examples": [each._asdict() for each in examples]}
        typer.echo(json.dumps(shown, indent=2))
        return
    console = wide_console()
    console.print(f"group {watching.settings.group}, beside group {watching.beside}", markup=False)
    console.print(_figures(stats))
    if examples:
        console.print(_places(examples))


def _figures(stats: dict[str, int]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for name, meaning in _MEANINGS.items():
        if stats[name] or name in ("deliveries", "would_process", "would_skip"):
            table.add_row(f"{stats[name]:,}", meaning)
    if stats["longest_gap_ms"]:
        gap = show_duration(timedelta(milliseconds=stats["longest_gap_ms"]))
        table.add_row(gap, "between a message and its repeat, at most: remember_for must be longer")
    return table


def _places(examples: list[Example]) -> Table:
    table = Table(box=None)
    for name in ("for example", "message", "first of its key or payload"):
        table.add_column(name)
    for each in examples:
        table.add_row(*(text.replace("[", "\\[") for text in each))
    return table
