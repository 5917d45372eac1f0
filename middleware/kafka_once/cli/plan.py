"""`kafka-once plan`: what a pipeline will take of Redis, before there is one."""

import json
import re
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from kafka_once.cli.endings import one_sentence
from kafka_once.cli.planning import Load, Plan, plan_for
from kafka_once.cli.printing import wide_console
from kafka_once.cli.target import Json
from kafka_once.durations import parse_duration
from kafka_once.errors import ConfigurationError

__all__ = ["plan"]

Rate = Annotated[str, typer.Option("--rate", metavar="N/s", help="Messages: 5000/s, 300/m, 2000000/d.")]
RememberFor = Annotated[str, typer.Option("--remember-for", metavar="TIME", help="The app's `remember_for`.")]
Repeats = Annotated[
    float, typer.Option("--repeats", metavar="PERCENT", min=0, max=100, help="How many of them are repeats.")
]
HandlerTime = Annotated[str, typer.Option("--handler-time", metavar="TIME", help="How long a handler takes.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="How many share the partitions.")]
Memory = Annotated[str, typer.Option("--memory", metavar="SIZE", help="Of one Redis server: 512MB, 16GB.")]

_PER = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SIZES = {"MB": 2**20, "GB": 2**30, "TB": 2**40}


def plan(
    *,
    rate: Rate,
    remember_for: RememberFor = "24h",
    repeats: Repeats = 0.0,
    handler_time: HandlerTime = "0s",
    processes: Processes = 1,
    memory: Memory = "16GB",
    as_json: Json = False,
) -> None:
    """Reckon what Redis will need: memory, round trips, CPU, shards. Nothing is connected to.

    From the store's rule of windows, and from costs that were measured: docs/performance.md.
    """
    with one_sentence():
        load = Load(
            _rate(rate),
            _seconds("--remember-for", remember_for),
            repeats / 100,
            _seconds("--handler-time", handler_time, least=0) * 1000,
            processes,
            _bytes(memory),
        )
    planned = plan_for(load)
    if as_json:
        typer.echo(json.dumps(asdict(planned), indent=2))
    else:
        _print(load, planned)


def _rate(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)/([smhd])", text.strip(), re.ASCII)
    if match is None or not float(match[1]):
        raise ConfigurationError("--rate", text, "write messages per time, for example 5000/s, 300/m or 2000000/d")
    return float(match[1]) / _PER[match[2]]


def _seconds(option: str, text: str, least: float = 1) -> float:
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError:
        seconds = -1.0
    if seconds < least:
        raise ConfigurationError(option, text, f"write a time of {least:g} s or more, for example 5ms, 30s, 24h or 7d")
    return seconds


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})(MB|GB|TB)", text.strip(), re.ASCII)
    if match is None or not int(match[1]):
        raise ConfigurationError("--memory", text, "write a size, for example 512MB or 16GB")
    return int(match[1]) * _SIZES[match[2]]


def _print(load: Load, planned: Plan) -> None:
    table = Table(box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for figure, words in _rows(load, planned):
        table.add_row(figure, words)
    wide_console().print(table)


def _rows(load: Load, planned: Plan) -> list[tuple[str, str]]:
    windows = f"in {planned.windows} windows, up to {planned.windows_growing} while they grow at first"
    rows = [
        (f"{planned.keys:,}", "keys remembered for certain"),
        (f"{planned.keys_held:,}", f"keys held at most, those of 2 × remember_for, {windows}"),
        (_size(planned.bytes_held), "memory of Redis for them at most"),
        (f"{planned.calls_per_s:,.0f}/s", "round trips"),
        (f"{planned.cpu:.0%}", "CPU of Redis, of one core"),
    ]
    if load.handler_ms:
        each = planned.handlers_at_once / load.processes
        at_once = f"handlers at once, {each:,.1f} in each process: partitions, or concurrency with another order"
        rows.append((f"{planned.handlers_at_once:,.1f}", at_once))
    shards = "shard: one server does" if planned.shards == 1 else "shards, each on a server of its own"
    chance = f"1 : {1 / planned.mistaken:.0e}" if planned.mistaken else "0"
    return [*rows, (chance, "that any of these keys is taken for another"), (str(planned.shards), shards)]


def _size(count: int) -> str:
    name, unit = next(((name, unit) for name, unit in reversed(_SIZES.items()) if count >= unit), ("MB", 2**20))
    return f"{count / unit:,.1f} {name}"
