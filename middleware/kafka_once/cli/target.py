"""What a command looks at: the app that `module:app` names, or a group and its store given by options."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from kafka_once.cli.loading import load_app
from kafka_once.core.semantics import Semantics
from kafka_once.errors import ConfigurationError
from kafka_once.intake import Routes
from kafka_once.member import Adapters
from kafka_once.ports import Namespace, Store
from kafka_once.setting_checks import shown_store
from kafka_once.setting_sources import Layers
from kafka_once.settings import Settings

__all__ = ["AppName", "Cluster", "Group", "Json", "KafkaConfig", "Servers", "StoreUrl", "Target", "target_of"]

_STORE_VARIABLE = "KAFKA_ONCE_STORE"

AppName = Annotated[
    str | None, typer.Argument(metavar="MODULE:APP", help="The app, for example billing:app. Or give the options.")
]
Servers = Annotated[str | None, typer.Option("--bootstrap-servers", metavar="HOST:PORT", help="Kafka's addresses.")]
Group = Annotated[str | None, typer.Option("--group", metavar="NAME", help="The consumer group.")]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", envvar=_STORE_VARIABLE, help="The Redis that holds the claims."),
]
KafkaConfig = Annotated[
    Path | None,
    typer.Option(
        "--kafka-config", metavar="FILE", help="librdkafka's settings, one name=value a line: security and passwords."
    ),
]
Cluster = Annotated[
    str | None, typer.Option("--cluster", metavar="NAME", help="The app's `cluster` setting, if it has one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Target:
    """A group of consumers: how it is set, what it reads, what holds its claims.

    Attributes:
        settings: checked.
        routes: the app's handlers and their keys; None if the target was given by options.
        adapters: how the store is made.
    """

    settings: Settings
    routes: Routes | None = None
    adapters: Adapters = field(default_factory=Adapters)

    def topics(self) -> list[str]:
        """What the app's handlers read; patterns begin with ^. Empty if it is not known."""
        return [] if self.routes is None else self.routes.topics()

    def namespace(self, cluster_id: str) -> Namespace:
        """What the app's records in the store belong to."""
        return Namespace(self.settings.cluster or cluster_id, self.settings.group)

    def open_store(self, cluster_id: str) -> Store:
        """The store, unchecked.

        Raises:
            ConfigurationError: the target has none.
        """
        if self.settings.store is None:
            remedy = "there are no claims to look at: name the store that the app uses"
            raise ConfigurationError("store", None, remedy)
        return self.adapters.store(self.settings, self.namespace(cluster_id))


def target_of(
    app_name: str | None,
    *,
    servers: str | None,
    group: str | None,
    store: str | None,
    kafka_config: Path | None = None,
    cluster: str | None = None,
) -> Target:
    """The target that was named on the command line.

    Raises:
        ConfigurationError: neither an app nor its options, or both; or they are wrong.
        ImportFailed: the app's module raised.
    """
    if app_name is None:
        return Target(_settings(servers, group, store, kafka_config, cluster))
    told = {"bootstrap-servers": servers, "group": group, "cluster": cluster, "kafka-config": kafka_config}
    for option, value in told.items():
        if value is not None:
            raise ConfigurationError(f"--{option}", str(value), f"the app {app_name} says it already; leave it out")
    if store is not None and store != os.environ.get(_STORE_VARIABLE):  # that one is a setting of apps, too
        raise ConfigurationError("--store", shown_store(store), f"the app {app_name} says it already; leave it out")
    app = load_app(app_name)
    return Target(app.settings, Routes(app._routes), app._adapters)


def _settings(
    servers: str | None, group: str | None, store: str | None, kafka_config: Path | None, cluster: str | None
) -> Settings:
    options = {"bootstrap_servers": servers, "group": group, "store": store, "cluster": cluster}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if kafka_config is not None:
        given["kafka"] = _read(kafka_config)
    layers = Layers(given, Settings.model_fields)
    for name in ("bootstrap_servers", "group"):
        if layers.saying(name) is None:
            remedy = "name an app (module:app), or give --bootstrap-servers and --group"
            raise ConfigurationError(f"--{name.replace('_', '-')}", None, remedy)
    if layers.saying("store") is None:
        given["semantics"] = Semantics.AT_LEAST_ONCE  # the only one that needs no store
    return Settings(**given)


def _read(file: Path) -> dict[str, str]:
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("--kafka-config", str(file), f"it cannot be read ({type(error).__name__})") from None
    settings = {}
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator:  # the line is not shown: it may be a password
            raise ConfigurationError("--kafka-config", str(file), f"line {number} is not of the form name=value")
        settings[name.strip()] = value.strip()
    return settings
