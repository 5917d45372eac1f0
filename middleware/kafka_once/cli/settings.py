"""`kafka-once settings`: every setting with its value, its default and the place where it was set."""

import json
from collections.abc import Collection
from datetime import timedelta
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from kafka_once.brokers.kafka_settings import is_secret
from kafka_once.cli.endings import one_sentence
from kafka_once.cli.loading import load_app
from kafka_once.cli.printing import wide_console
from kafka_once.cli.target import Json
from kafka_once.core.semantics import Semantics
from kafka_once.durations import show_duration
from kafka_once.setting_sources import Layers, variable_of
from kafka_once.settings import Settings, default_shown

__all__ = ["settings"]


class Row(NamedTuple):
    """One setting. `variable` is its name in the environment."""

    setting: str
    value: str
    default: str
    source: str
    variable: str


def settings(
    app: Annotated[str | None, typer.Argument(metavar="MODULE:APP", help="The app, for example billing:app.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List every setting: its value, its default, and where it was set. Passwords are not shown.

    Without an app it lists what the environment and the settings file say to any.
    """
    with one_sentence():
        made, unsaid = _made() if app is None else (load_app(app).settings, frozenset())
        layers = made.layers if app is not None else Layers({}, Settings.model_fields)
        rows = _rows(layers, made, unsaid)
    if as_json:
        typer.echo(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        _print(rows)
    for variable in layers.ignored:
        typer.echo(f"kafka-once: {variable} is no setting; it is ignored", err=True)


def _made() -> tuple[Settings, frozenset[str]]:
    """The settings without an app, and what an app must say still: something stands in its place, so that the rest can
    be checked."""
    said = Layers({}, Settings.model_fields)
    stand_in = {"bootstrap_servers": "localhost", "group": "group"}
    if said.value_of("semantics") in (None, Semantics.EFFECTIVELY_ONCE):
        stand_in["store"] = "memory://"
    unsaid = {name: value for name, value in stand_in.items() if said.saying(name) is None}
    return Settings(**unsaid), frozenset(unsaid)


def _rows(layers: Layers, made: Settings, unsaid: Collection[str]) -> list[Row]:
    rows = []
    for name, info in Settings.model_fields.items():
        if name != "kafka":
            value = "" if name in unsaid else _value(made, name)
            default = default_shown(info)
            rows.append(Row(name, value or default, default, _source(name, layers), variable_of(name)))
    for name, value in sorted(layers.kafka().items()):
        setting = f'kafka["{name}"]'
        rows.append(
            Row(setting, _kafka_value(name, value), "librdkafka's", _source(setting, layers), variable_of(setting))
        )
    return rows


def _value(made: Settings, name: str) -> str:
    """As people write it; empty if there is none."""
    value = getattr(made, name)
    if name == "store":
        return made.store_shown or ""
    if value is None:
        return "never" if name == "report_every" else ""
    return show_duration(value) if isinstance(value, timedelta) else str(value)


def _kafka_value(name: str, value: object) -> str:
    """Nothing of what is secret, or could be."""
    plain = isinstance(value, bool | int | float) or (isinstance(value, str) and "@" not in value)
    return str(value) if plain and not is_secret(name) else "***"


def _source(setting: str, layers: Layers) -> str:
    layer = layers.saying(setting)
    if layer is None and setting == "instance_id":
        setting = 'kafka["group.instance.id"]'
        layer = layers.saying(setting)
    return "default" if layer is None else layer.place_of(setting)


def _print(rows: list[Row]) -> None:
    table = Table(box=None)
    for column in ("setting", "value", "default", "source"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(text.replace("[", "\\[") for text in row[:4]))
    wide_console().print(table)
