"""`kafka-once in-doubt`: the messages that may have run twice, so that a person can reconcile them."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from kafka_once.cli.endings import one_sentence
from kafka_once.cli.onlooker import Onlooker, looking_at
from kafka_once.cli.printing import wide_console
from kafka_once.cli.target import AppName, Cluster, Group, Json, KafkaConfig, Servers, StoreUrl, Target, target_of
from kafka_once.errors import BrokerRefused, ConfigurationError, MessageError, MissingKey
from kafka_once.keys import digest, header, parts_of
from kafka_once.message import Coordinates, Message, TopicPartition
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
    *,
    servers: Servers = None,
    group: Group = None,
    store: StoreUrl = None,
    kafka_config: KafkaConfig = None,
    cluster: Cluster = None,
    limit: Limit = 100,
    show_keys: ShowKeys = False,
    key_header: KeyHeader = None,
    scope: Scope = None,
    as_json: Json = False,
) -> None:
    """List the messages whose handler may have run before: after a crash, or because it said so itself.

    The list holds coordinates and digests. Keys in clear are shown only with --show-keys, which reads them from Kafka.
    """
    with one_sentence():
        target = target_of(app, servers=servers, group=group, store=store, kafka_config=kafka_config, cluster=cluster)
        keys = _Keys(target, key_header, scope) if show_keys else None
        with looking_at(target.settings) as kafka:
            doubts = _doubts(target, kafka.cluster_id(), limit)
            shown = [_shown(doubt) | ({} if keys is None else keys.of(doubt, kafka)) for doubt in doubts]
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    else:
        _print(shown)


def _doubts(target: Target, cluster_id: str, limit: int) -> list[Doubt]:
    store = target.open_store(cluster_id)
    try:
        return store.doubts(limit)
    finally:
        store.close()


def _shown(doubt: Doubt) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(doubt.time_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "topic": doubt.topic,
        "partition": doubt.partition,
        "offset": doubt.offset,
        "digest": doubt.digest.hex(),
        "attempts": doubt.attempts,
        "earlier_owner": doubt.earlier,
        "newer_owner": doubt.newer,
        "reason": doubt.reason,
    }


class _Keys:
    """Finds the key of a message by reading the message again.

    Raises:
        ConfigurationError: it is not known where the key stands.
    """

    def __init__(self, target: Target, key_header: str | None, scope: str | None) -> None:
        if key_header is None and target.routes is None:
            remedy = "where does the key stand? Name the app (module:app), or its header: --key-header NAME"
            raise ConfigurationError("--show-keys", None, remedy)
        self._routes = target.routes
        self._key = None if key_header is None else header(key_header)
        self._scope = scope or target.settings.scope

    def of(self, doubt: Doubt, kafka: Onlooker) -> dict[str, str | None]:
        """The key in clear, or a note that says why there is none."""
        try:
            message = kafka.message_at(TopicPartition(doubt.topic, doubt.partition), doubt.offset)
        except BrokerRefused as error:
            return _no_key(str(error))
        if message is None:
            return _no_key("the message is not in Kafka any more")
        try:
            key = self._key_of(message)
        except MessageError as error:
            return _no_key(str(error))
        except Exception as error:  # noqa: BLE001  (a deserializer whose registry does not answer)
            return _no_key(f"the payload cannot be read now ({type(error).__name__})")
        if digest(self._scope or doubt.topic, key) != doubt.digest:
            return _no_key("the key that stands there has another digest: another message, key definition or scope")
        return {"key": _as_text(key), "note": None}

    def _key_of(self, message: Message) -> bytes:
        if self._key is not None:
            return self._key.extract(message)
        assert self._routes is not None
        try:
            rule = self._routes.of(message.topic).rule
        except AssertionError:  # the app read it once, and does so no more
            rule = None
        if rule is None or rule.key is None:
            raise MissingKey(f"the app has no key for topic {message.topic!r}")
        return rule.extract(message)


def _no_key(why: str) -> dict[str, str | None]:
    return {"key": None, "note": why}


def _as_text(key: bytes) -> str:
    """As text where it is text, a composed one by its parts; never what a terminal would take for a command."""
    parts = parts_of(key)
    if parts is not None:
        return f"({', '.join(map(_as_text, parts))})"
    text = key.decode(errors="backslashreplace")
    return text if text.isprintable() else repr(key)


def _print(shown: list[dict[str, Any]]) -> None:
    console = wide_console()
    if not shown:
        console.print("nothing is in doubt")
        return
    table = Table(box=None, pad_edge=False)
    keys = ["key"] if "key" in shown[0] else []
    for name in ("time", "coordinates", "digest", "attempts", "owner", "reason", *keys):
        table.add_column(name, overflow="fold")  # a key that is cut off is of no use
    for each in shown:
        cells = [
            each["time"],
            str(Coordinates("", each["topic"], each["partition"], each["offset"])),
            each["digest"],
            str(each["attempts"]),
            f"{each['earlier_owner']} → {each['newer_owner']}",
            each["reason"],
        ]
        if keys:
            cells.append(each["key"] or f"({each['note']})")
        table.add_row(*map(Text, cells))
    console.print(table)
