"""All settings of an app in one table, checked before anything is consumed.

A field below is a row of the README's table (`settings_table`). To add one: the field with its default, bounds, unit
and meaning; a property `…_ms` if it is a duration; a check in `setting_checks.py` if it depends on another.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from kafka_once import setting_checks as checks
from kafka_once import setting_problems as problems
from kafka_once.core.order import Order
from kafka_once.core.semantics import (
    ConflictPolicy,
    DoubtPolicy,
    FailurePolicy,
    HungPolicy,
    KeyPolicy,
    Semantics,
    StartReset,
)
from kafka_once.durations import in_ms, parse_duration, show_duration
from kafka_once.errors import ConfigurationError
from kafka_once.setting_sources import Layers
from kafka_once.setting_topics import check_topics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import StrEnum

    from pydantic.fields import FieldInfo

__all__ = ["Settings", "default_shown", "settings_table"]

Count = Annotated[int, BeforeValidator(checks.no_bool)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
FilePath = Annotated[str, BeforeValidator(checks.file_path)]
Name = Annotated[str, AfterValidator(checks.legal_name)]
Servers = Annotated[str, BeforeValidator(checks.server_list)]
StoreUrl = Annotated[SecretStr, BeforeValidator(checks.store_url)]
Text = Annotated[str, AfterValidator(checks.printable)]


def _setting(default: Any, form: str, unit: str, meaning: str, **more: Any) -> Any:
    """A field. `form` says what may be written, for the remedy when something else was."""
    extra = {"form": form, "unit": unit, "shown_default": more.pop("shown_default", None)}
    return Field(default, description=meaning, json_schema_extra=extra, **more)


def _count(default: int, low: int, high: int, unit: str, meaning: str) -> Any:
    return _setting(default, f"a whole number from {low:,} to {high:,}", unit, meaning, ge=low, le=high)


def _duration(default: float, low: float, high: float, meaning: str) -> Any:
    bounds = {"ge": timedelta(seconds=low), "le": timedelta(seconds=high)}
    return _setting(timedelta(seconds=default), _duration_form(**bounds), "duration", meaning, **bounds)


def _duration_form(ge: timedelta, le: timedelta) -> str:
    return (
        f"a duration from {show_duration(ge)} to {show_duration(le)}: text with its unit "
        "(200ms, 5s, 10m, 24h, 7d), a number of seconds or a timedelta"
    )


def _choice(default: StrEnum | None, kind: type[StrEnum], meaning: str) -> Any:
    form = "one of " + ", ".join(f'"{member.value}"' for member in kind)
    shown = None if default else "dead_letter with a dead_letter_topic, else stop"
    return _setting(default, form, "", meaning, shown_default=shown)


_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR

_DEADLINE_BOUNDS: Any = {"ge": timedelta(seconds=0.1), "le": timedelta(days=1)}
_ANYWHERE = "0.0.0.0"  # noqa: S104  (probes come from outside the container)
_REPORT_BOUNDS: Any = {"ge": timedelta(seconds=1), "le": timedelta(days=1)}


class Settings(BaseSettings):
    """The settings of an app, frozen. Durations are timedeltas here and whole milliseconds as `…_ms`.

    What the code does not say is taken from environment variables and from a file, see `setting_sources.py`.

    Args:
        given: what the code says.

    Raises:
        ConfigurationError: a setting is wrong: the first one found, with its value (never a secret), where it was set,
            and a remedy.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        protected_namespaces=(),  # older pydantic-settings keep names that begin with settings_ to themselves
    )

    bootstrap_servers: Servers = _setting(
        ..., 'host:port, more than one with commas between: "localhost:9092"', "", "Kafka's addresses to start from"
    )
    group: Text = _setting(..., "a name of 1 to 255 printable characters", "", "The consumer group", max_length=255)
    store: StoreUrl | None = _setting(
        None, checks.STORE_FORM, "URL", "Where claims are kept; needed for `effectively_once`. Never printed in clear"
    )
    semantics: Semantics = _choice(
        Semantics.EFFECTIVELY_ONCE, Semantics, "What is promised, see the table of semantics"
    )
    instance_id: Name | None = _setting(
        None,
        "a name of 1 to 249 characters out of a-z, A-Z, 0-9, dot, underscore and hyphen",
        "",
        "Static membership (`group.instance.id`): a restarted process has its partitions back at once",
    )
    kafka: dict[str, Any] = _setting(
        {},
        "a dict of librdkafka's settings by their own names; in the environment "
        'KAFKA_ONCE_KAFKA__SASL_PASSWORD=… for "sasl.password", in a file a table [kafka]',
        "",
        "Passed through to librdkafka: security, time-outs, assignment strategy",
        repr=False,  # passwords
        exclude=True,
    )
    lease: Duration = _duration(
        5, 0.5, _HOUR, "How long a worker's claims outlive it; with a tenth more, shorter than `session.timeout.ms`"
    )
    remember_for: Duration = _duration(
        _DAY, _MINUTE, 3650 * _DAY, "How long a completed key is known: longer than a producer goes on repeating"
    )
    attempts: Count = _count(
        5, 1, 1_000, "runs", "How often a handler may raise for a message before it fails for good"
    )
    backoff: Duration = _duration(0.2, 0.001, _HOUR, "Wait before the second attempt; doubled for each one more")
    backoff_max: Duration = _duration(30, 0.001, _DAY, "The longest wait between two attempts")
    drain: Duration = _duration(20, 0, _HOUR, "How long running handlers may take to end at a stop or a revoke")
    stalled_after: Duration = _duration(60, 0.1, _DAY, "A handler that runs longer is logged, with its coordinates")
    handler_deadline: Annotated[
        Annotated[Duration, Field(**_DEADLINE_BOUNDS)] | None, BeforeValidator(checks.never_as_none)
    ] = _setting(
        None,
        f'"never" (or None), or {_duration_form(**_DEADLINE_BOUNDS)}',
        "duration",
        "How long a handler may run; past it its message is in doubt, and an async handler is cancelled",
    )
    on_hung: HungPolicy = _choice(HungPolicy.WAIT, HungPolicy, "What happens when a handler passes its deadline")
    commit_every: Duration = _duration(0.5, 0.01, _MINUTE, "How often the frontier is committed to Kafka")
    report_every: Annotated[
        Annotated[Duration, Field(**_REPORT_BOUNDS)] | None, BeforeValidator(checks.never_as_none)
    ] = _setting(
        timedelta(seconds=60),
        f'"never" (or None), or {_duration_form(**_REPORT_BOUNDS)}',
        "duration",
        'How often the counters are logged; `"never"` for never',
    )
    order: Order = _choice(
        Order.PARTITION, Order, "What runs one after another: all of a partition, one record key, or nothing"
    )
    concurrency: Count = _count(
        16, 1, 10_000, "lanes", "How many handlers run at once: as many partitions, record keys or messages, by `order`"
    )
    buffer: Count = _count(2_000, 1, 1_000_000, "messages", "How many are held for a partition before it is paused")
    buffer_bytes: Count = _count(
        64 << 20, 1 << 20, 1 << 40, "bytes", "How many are held in all; a partition is paused at its equal share of it"
    )
    max_key_bytes: Count = _count(4096, 1, 1_048_576, "bytes", "A longer idempotency key counts as missing")
    dead_letter_topic: Name | None = _setting(
        None, "the name of a topic that is not consumed here", "", "Where messages go that cannot be processed"
    )
    on_missing_key: KeyPolicy = _choice(None, KeyPolicy, "What happens to a message without a usable idempotency key")
    on_bad_payload: FailurePolicy = _choice(None, FailurePolicy, "What happens to a payload that does not decode")
    on_failure: FailurePolicy = _choice(None, FailurePolicy, "What happens after the last attempt")
    on_doubt: DoubtPolicy = _choice(DoubtPolicy.RUN, DoubtPolicy, "What happens to a message that may have run before")
    on_position_conflict: ConflictPolicy = _choice(
        ConflictPolicy.SAFE,
        ConflictPolicy,
        "What happens when committed offset, stored frontier and log do not fit together",
    )
    scope: Text | None = _setting(
        None,
        "a name of 1 to 255 printable characters",
        "",
        "Within which keys are distinct; the same for topics that carry the same work",
        max_length=255,
        shown_default="the source topic",
    )
    allow_eviction: bool = _setting(
        default=False,
        form="True or False",
        unit="",
        meaning="Start although Redis may evict keys (`maxmemory-policy` is not `noeviction`)",
    )
    shards: Count = _setting(
        1,
        "a whole number from 1 to 64",
        "shards",
        "How many slots of a Redis Cluster hold the claims; never changed later",
        ge=1,
        le=64,
    )
    cluster: str = _setting(
        "", "a name of at most 255 characters", "", "Names the Kafka cluster instead of its id", max_length=255
    )
    red_after: Duration = _duration(
        300, 0.1, _DAY, "A partition that stands still for longer than this and `backoff_max` turns health red"
    )
    health_port: Annotated[int, BeforeValidator(checks.no_bool), Field(ge=0, le=65_535)] | None = _setting(
        None,
        "None for no server, or a port from 0 (any that is free) to 65,535",
        "port",
        "Where /healthz, /readyz and /metrics are served",
    )
    health_host: str = _setting(
        _ANYWHERE, "an address of this machine", "", "The address that `health_port` is served at", min_length=1
    )
    settings_file: FilePath | None = _setting(
        None, "the path of a TOML file", "", "A TOML file that says what neither the code nor the environment says"
    )

    _layers: Layers = PrivateAttr()

    def __init__(self, **given: Any) -> None:
        layers = Layers(given, type(self).model_fields)
        for layer in layers:
            for name in layer.values:
                if name not in type(self).model_fields:
                    raise problems.unknown(name, layer.place_of(name) if layer.path else "", type(self).model_fields)
        try:
            super().__init__(layers=layers)
        except ValidationError as exc:
            problem = problems.first_of(exc, layers, type(self).model_fields)
        except ConfigurationError as exc:
            problem = problems.placed(exc, layers)
        else:
            self._layers = layers
            return
        # Out here: a ValidationError, which carries the input, must not be its context. And without the path through
        # pydantic, so that a script's traceback ends with the line that says the setting.
        raise problem.with_traceback(None)

    @classmethod
    def of(cls, *, bootstrap_servers: str | None, group: str | None, store: str | None, **settings: Any) -> Self:
        """The settings of a program that leaves out, as None, what the environment or a file says."""
        named = {"bootstrap_servers": bootstrap_servers, "group": group, "store": store}
        return cls(**{name: value for name, value in named.items() if value is not None}, **settings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """One source for each layer, the strongest first. Read by us, so that an error can tell where a value stood."""
        assert isinstance(init_settings, InitSettingsSource)
        layers: Layers = init_settings.init_kwargs["layers"]
        return tuple(InitSettingsSource(settings_cls, dict(layer.values)) for layer in layers)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: dict[str, Any]) -> dict[str, Any]:
        return checks.with_derived_defaults(given)

    @model_validator(mode="after")
    def _check(self) -> Settings:
        checks.check_together(self)
        return self

    @property
    def layers(self) -> Layers:
        """What was said where."""
        return self._layers

    def placed(self, error: ConfigurationError) -> ConfigurationError:
        """An error of these settings, with the place where the value stood if that is not the code."""
        return problems.placed(error, self._layers)

    def check_topics(self, topics: Sequence[object]) -> None:
        """Refuse topics (names, or patterns that begin with "^") that cannot be consumed with these settings.

        Raises:
            ConfigurationError: there are none, one is no text, or the dead-letter topic is among them.
        """
        check_topics(self.dead_letter_topic, topics)

    def order_of_handler(self, order: Order | str | None) -> Order:
        """A handler's own order, or the app's if it says none.

        Raises:
            ConfigurationError: there is no such order, or it does not go with the semantics.
        """
        return self.order if order is None else checks.checked_order(order, self.semantics)

    def librdkafka(self) -> dict[str, Any]:
        """`kafka` with the addresses, the group and the instance id in it. Holds passwords: never print it."""
        settings = {**self.kafka, "bootstrap.servers": self.bootstrap_servers, "group.id": self.group}
        if self.instance_id is not None:
            settings["group.instance.id"] = self.instance_id
        return settings

    @property
    def store_shown(self) -> str | None:
        """The store's URL for people: no user, password or parameter."""
        return None if self.store is None else checks.shown_store(self.store.get_secret_value())

    @property
    def start_reset(self) -> StartReset:
        """Where a group begins that has neither an offset nor a frontier: `auto.offset.reset`."""
        return checks.start_reset(self.kafka)

    @property
    def session_timeout_ms(self) -> int:
        """After which Kafka gives a dead member's partitions to others, as far as the client knows."""
        return checks.group_times(self.kafka).session_timeout_ms

    @property
    def stall_ms(self) -> int:
        """How long the process may stand still before Kafka may have given its partitions to others."""
        return checks.stall_ms(self.kafka)

    @property
    def lease_ms(self) -> int:
        return in_ms(self.lease)

    @property
    def margin_ms(self) -> int:
        """How much earlier than the store a worker stops to trust its lease."""
        return max(100, self.lease_ms // 10)

    @property
    def remember_for_ms(self) -> int:
        return in_ms(self.remember_for)

    @property
    def backoff_ms(self) -> int:
        return in_ms(self.backoff)

    @property
    def backoff_max_ms(self) -> int:
        return in_ms(self.backoff_max)

    @property
    def drain_ms(self) -> int:
        return in_ms(self.drain)

    @property
    def stalled_after_ms(self) -> int:
        return in_ms(self.stalled_after)

    @property
    def handler_deadline_ms(self) -> int | None:
        return None if self.handler_deadline is None else in_ms(self.handler_deadline)

    def deadline_ms(self, deadline: object) -> int:
        """A handler's own deadline, checked like `handler_deadline`.

        Args:
            deadline: as the user wrote it.

        Raises:
            ConfigurationError: it is none, or does not fit the other settings.
        """
        return in_ms(checks.handler_deadline(deadline, self, _DEADLINE_BOUNDS, _duration_form(**_DEADLINE_BOUNDS)))

    @property
    def commit_every_ms(self) -> int:
        return in_ms(self.commit_every)

    @property
    def report_every_ms(self) -> int | None:
        return None if self.report_every is None else in_ms(self.report_every)


def settings_table() -> str:
    """All settings as a Markdown table: name, default, unit, meaning. The README's copy is compared with it."""
    rows = ["| setting | default | unit | meaning |", "|---|---|---|---|"]
    for name, info in Settings.model_fields.items():
        rows.append(f"| `{name}` | {default_shown(info)} | {_extra(info, 'unit') or '–'} | {info.description} |")
    return "\n".join(rows) + "\n"


def _extra(info: FieldInfo, name: str) -> str:
    assert isinstance(info.json_schema_extra, dict)
    return str(info.json_schema_extra[name] or "")


def default_shown(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if isinstance(info.default, timedelta):
        return show_duration(info.default)
    return _extra(info, "shown_default") or ("none" if info.default in (None, "", {}) else str(info.default))
