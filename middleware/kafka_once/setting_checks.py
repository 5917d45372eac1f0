"""What the settings must satisfy, each by itself and together; and how much of a value may be shown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from kafka_once.core.order import Order
from kafka_once.core.semantics import FailurePolicy, Semantics, StartReset, needs_store
from kafka_once.durations import parse_duration, show_duration
from kafka_once.errors import ConfigurationError
from kafka_once.ports import GroupTimes

if TYPE_CHECKING:
    from kafka_once.settings import Settings

__all__ = [
    "HIDDEN",
    "STORE_FORM",
    "check_lease",
    "check_together",
    "checked_order",
    "file_path",
    "group_times",
    "handler_deadline",
    "legal_name",
    "never_as_none",
    "no_bool",
    "printable",
    "server_list",
    "shown",
    "shown_store",
    "stall_ms",
    "start_reset",
    "store_url",
    "with_derived_defaults",
]

# librdkafka's defaults, used where the user's dict says nothing.
SESSION_TIMEOUT_MS: Final = 45_000
MAX_POLL_INTERVAL_MS: Final = 300_000
# Ours, and the broker's for group.protocol=consumer.
HEARTBEAT_MS: Final = 1_000
BROKER_HEARTBEAT_MS: Final = 5_000

STORE_FORM: Final = (
    'a URL: "redis://localhost:6379/0", "rediss://…" (TLS), "unix:///path/to/socket", '
    '"redis+sentinel://host:26379,host:26379/service/0", "redis+cluster://host:6379,host:6379" or "memory://"'
)

_ADDRESS: Final = r"(?:[A-Za-z_]+://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?"
_SERVERS: Final = re.compile(rf"{_ADDRESS}(?:,{_ADDRESS})*", re.ASCII)
_STORE_SCHEMES: Final = frozenset(
    ("memory", "unix", "redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
)
_HOST: Final = r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]*)(?::\d{1,5})?"
_PLACES: Final = rf"{_HOST}(?:,{_HOST})*(?:/[A-Za-z0-9._-]*)?(?:/\d*)?"
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}", re.ASCII)


# ---------------------------------------------------------------------------------------------- what may be shown of it


class _Unshown:
    """Stands for a value in an error."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __repr__(self) -> str:
        return f"<{self._what}>"


HIDDEN: Final = _Unshown("not shown")


def shown(setting: str, value: object) -> object:
    """What an error may say of a value: all of plain ones, nothing of what may hold a password."""
    if setting == "store":
        return shown_store(value) if isinstance(value, str) else HIDDEN
    if setting == "kafka":
        return _Unshown(f"a {type(value).__name__}")
    if isinstance(value, str):
        return HIDDEN if "@" in value or len(value) > 300 else value
    if value is None or isinstance(value, bool | int | float | timedelta):
        return value
    return _Unshown(f"a {type(value).__name__}")


def shown_store(url: str) -> str:
    """A store's URL without user, password and parameters; only its scheme if it is not plainly a URL.

    A password with "/", "?", "#" or "@" in it, not escaped, moves the places where a URL is cut.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _STORE_SCHEMES:
        return "***"
    secret, _, place = rest.rpartition("@")
    place = place.partition("?")[0]
    if scheme == "unix":
        plain = place.startswith("/") and not secret
    else:
        plain = re.fullmatch(_PLACES if "+" in scheme else rf"{_HOST}(?:/\d*)?", place) is not None
    if not plain or re.search(r"[/?#@]", secret) or "@" in rest.partition("?")[2]:
        return f"{scheme}://***"
    return f"{scheme}://***@{place}" if secret else f"{scheme}://{place}"


# ------------------------------------------------------------------------------------------------------ each by itself
# Plain ValueErrors become "write …" with the setting's own form.


def no_bool(value: object) -> object:
    """True is no 1."""
    if isinstance(value, bool):
        raise ValueError("no number")  # noqa: TRY004  (pydantic takes ValueErrors)
    return value


def never_as_none(value: object) -> object:
    """TOML and the environment have no None."""
    return None if isinstance(value, str) and value.strip().lower() == "never" else value


def file_path(path: object) -> object:
    """One text of a text or a path."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ValueError("no path")
    return os.fspath(path)


def printable(text: str) -> str:
    """One line that shows what it is: it stands in logs and in the store's key names."""
    if not text.strip() or not text.isprintable():
        raise ValueError("not printable")
    return text


def legal_name(name: str) -> str:
    """What Kafka allows as name of a topic or an instance."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ValueError("no legal name")
    return name


def server_list(servers: object) -> str:
    """One text of a text or a list of texts."""
    if isinstance(servers, list | tuple) and all(isinstance(server, str) for server in servers):
        servers = ",".join(servers)
    if not isinstance(servers, str) or not _SERVERS.fullmatch(servers := servers.replace(" ", "")):
        raise ValueError("no addresses")
    return servers


def store_url(url: object) -> object:
    """A URL that a store can be made of; whether it answers is seen later."""
    if isinstance(url, SecretStr):
        url = url.get_secret_value()
    if not isinstance(url, str):
        raise ValueError("no URL")  # noqa: TRY004  (pydantic takes ValueErrors)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _STORE_SCHEMES:
        raise ConfigurationError("store", shown_store(url), f"write {STORE_FORM}")
    if scheme.startswith("redis") and not _names_a_host(url):
        remedy = (
            f"no host or port can be read in it; write {STORE_FORM}, special characters in a password as %40 and so on"
        )
        raise ConfigurationError("store", shown_store(url), remedy)
    if _trusts_anybody(url):
        remedy = "leave ssl_cert_reqs and ssl_check_hostname out; name your own authority's file by ssl_ca_certs=…"
        raise ConfigurationError("store", shown_store(url), remedy)
    if scheme == "unix" and not rest.rpartition("@")[2].startswith("/"):
        raise ConfigurationError("store", shown_store(url), "name the socket's absolute path: unix:///run/redis.sock")
    return url


def _trusts_anybody(url: str) -> bool:
    """Whether it takes TLS certificates that nobody has checked, or that are another host's."""
    query = parse_qs(url.partition("?")[2])
    checks, names = query.get("ssl_cert_reqs", []), query.get("ssl_check_hostname", [])
    return any(check.lower() != "required" for check in checks) or any(name.lower() != "true" for name in names)


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",") if "+" in parts.scheme else [parts.netloc]
        places = [urlsplit(f"//{host}") for host in hosts]
        if parts.scheme.endswith("+sentinel") and not parts.path.strip("/"):
            return False  # which of their services
        return all(place.hostname and place.port != 0 for place in places) and "#" not in url
    except ValueError:  # its text quotes the URL
        return False


# ------------------------------------------------------------------------------------------------------------ together


def with_derived_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what follows from others filled in."""
    filled = dict(given)
    policy = FailurePolicy.DEAD_LETTER if filled.get("dead_letter_topic") else FailurePolicy.STOP
    for name in ("on_missing_key", "on_bad_payload", "on_failure"):
        if filled.get(name) is None:
            filled[name] = policy.value
    kafka = filled.get("kafka")
    if filled.get("instance_id") is None and isinstance(kafka, Mapping):
        filled["instance_id"] = kafka.get("group.instance.id")
    return filled


def check_together(settings: Settings) -> None:
    """Raise ConfigurationError for the first relation between settings that does not hold."""
    checks: Sequence[Callable[[Settings], None]] = (
        _check_store,
        _check_said_twice,
        _check_lease,
        _check_stall,
        _check_deadline,
        _check_drain,
        _check_order,
        _check_backoff,
        _check_dead_letter,
        _check_start_reset,
    )
    for check in checks:
        check(settings)


def _check_store(settings: Settings) -> None:
    if settings.store is None and needs_store(settings.semantics):
        remedy = (
            f'{settings.semantics} keeps its claims in a store; write store="redis://localhost:6379/0", '
            'or semantics="at_least_once" for handlers that are idempotent operations'
        )
        raise ConfigurationError("store", None, remedy)
    if settings.store is not None and settings.semantics is Semantics.AT_LEAST_ONCE:
        remedy = 'at_least_once needs no store and would not look into it; leave it out, or write "effectively_once"'
        raise ConfigurationError("store", settings.store_shown, remedy)


def _check_said_twice(settings: Settings) -> None:
    """The same thing said here and in the `kafka` dict must be the same."""
    for setting, names in (
        ("bootstrap_servers", ("bootstrap.servers", "metadata.broker.list")),
        ("group", ("group.id",)),
        ("instance_id", ("group.instance.id",)),
    ):
        value = getattr(settings, setting)
        for name in names:
            if name in settings.kafka and settings.kafka[name] != value:
                remedy = f'kafka["{name}"] says something else; leave it out there'
                raise ConfigurationError(setting, shown(setting, value), remedy)


def _check_lease(settings: Settings) -> None:
    check_lease(settings, group_times(settings.kafka), 'kafka["session.timeout.ms"]')
    if settings.remember_for <= settings.lease:
        lease = show_duration(settings.lease)
        remedy = f"it must be longer than lease, {lease}: else a key is forgotten while its repeat may be waiting"
        raise ConfigurationError("remember_for", show_duration(settings.remember_for), remedy)


def check_lease(settings: Settings, times: GroupTimes, raised_by: str) -> None:
    """ConfigurationError if the group gives up a member before its lease is over."""
    if settings.lease_ms + settings.margin_ms >= times.session_timeout_ms:
        remedy = (
            f"with its margin of {settings.margin_ms} ms it must be shorter than Kafka's session time-out, "
            f"{times.session_timeout_ms} ms: else a dead member's partitions move before its claims are free; "
            f"shorten it, or raise {raised_by}"
        )
        raise ConfigurationError("lease", show_duration(settings.lease), remedy)


def _check_stall(settings: Settings) -> None:
    stall_ms(settings.kafka)  # raises for what cannot be read


def _check_deadline(settings: Settings) -> None:
    if settings.handler_deadline is not None:
        _check_remembered(settings.handler_deadline, settings)


def _check_remembered(deadline: timedelta, settings: Settings) -> None:
    if settings.store is not None and deadline + settings.lease >= settings.remember_for:
        remedy = (
            f"with lease, {show_duration(settings.lease)}, it must be shorter than remember_for, "
            f"{show_duration(settings.remember_for)}: else its key is forgotten while it may be running"
        )
        raise ConfigurationError("handler_deadline", show_duration(deadline), remedy)


def handler_deadline(given: object, settings: Settings, bounds: Mapping[str, timedelta], form: str) -> timedelta:
    """See `Settings.deadline_ms`."""
    try:
        deadline = parse_duration(given)
    except (TypeError, ValueError):
        deadline = None
    if not isinstance(deadline, timedelta) or not bounds["ge"] <= deadline <= bounds["le"]:
        raise ConfigurationError("deadline", shown("deadline", given), f"write {form}")
    _check_remembered(deadline, settings)
    return deadline


def _check_drain(settings: Settings) -> None:
    max_poll_ms = _milliseconds(settings.kafka, "max.poll.interval.ms", MAX_POLL_INTERVAL_MS)
    if settings.drain_ms >= max_poll_ms:
        remedy = (
            f"it must be shorter than Kafka's max.poll.interval.ms, {max_poll_ms}: else Kafka throws the member out "
            "while it drains"
        )
        raise ConfigurationError("drain", show_duration(settings.drain), remedy)


def _check_order(settings: Settings) -> None:
    checked_order(settings.order, settings.semantics)


def checked_order(order: Order | str, semantics: Semantics) -> Order:
    """See `Settings.order_of_handler`."""
    try:
        chosen = Order(order)
    except ValueError:
        names = ", ".join(f'"{member.value}"' for member in Order)
        raise ConfigurationError("order", shown("order", order), f"write one of {names}") from None
    if chosen is not Order.PARTITION and semantics is Semantics.AT_MOST_ONCE:
        remedy = (
            "at_most_once commits a message before it runs, and commits follow the partition's order; "
            'write "partition", or another semantics'
        )
        raise ConfigurationError("order", chosen.value, remedy)
    return chosen


def _check_backoff(settings: Settings) -> None:
    if settings.backoff > settings.backoff_max:
        remedy = f"it must not be longer than backoff_max, {show_duration(settings.backoff_max)}"
        raise ConfigurationError("backoff", show_duration(settings.backoff), remedy)


def _check_dead_letter(settings: Settings) -> None:
    for name in ("on_missing_key", "on_bad_payload", "on_failure", "on_doubt"):
        if getattr(settings, name) == FailurePolicy.DEAD_LETTER.value and settings.dead_letter_topic is None:
            raise ConfigurationError(name, "dead_letter", "there is no topic for it; set dead_letter_topic")


def stall_ms(kafka: Mapping[str, Any], times: GroupTimes | None = None) -> int:
    """How long a member may stand still: its last heartbeat may have left one interval before, and its last poll counts
    too. `times`: as the broker told them; default: as the settings say."""
    session_ms, heartbeat_ms = times or group_times(kafka)
    silent_ms = max(session_ms - heartbeat_ms, session_ms // 2)
    return min(silent_ms, _milliseconds(kafka, "max.poll.interval.ms", MAX_POLL_INTERVAL_MS))


def group_times(kafka: Mapping[str, Any]) -> GroupTimes:
    """From the client's settings. Under the new protocol the broker decides: these are its defaults, and the session
    time-out is also the least that it allows by default."""
    if str(kafka.get("group.protocol", "classic")).lower() == "consumer":
        return GroupTimes(SESSION_TIMEOUT_MS, BROKER_HEARTBEAT_MS)
    return GroupTimes(
        _milliseconds(kafka, "session.timeout.ms", SESSION_TIMEOUT_MS),
        _milliseconds(kafka, "heartbeat.interval.ms", HEARTBEAT_MS),
    )


_RESETS: Final = {
    **dict.fromkeys(("earliest", "smallest", "beginning"), StartReset.EARLIEST),
    **dict.fromkeys(("latest", "largest", "end"), StartReset.LATEST),
    **dict.fromkeys(("error", "none"), StartReset.ERROR),
}


def start_reset(kafka: Mapping[str, Any]) -> StartReset:
    """`auto.offset.reset`, which counts for a group that has neither an offset nor a frontier: earliest by default."""
    value = kafka.get("auto.offset.reset", "earliest")
    reset = _RESETS.get(str(value).lower())
    if reset is None:
        name = 'kafka["auto.offset.reset"]'
        raise ConfigurationError(name, shown(name, value), "write earliest, latest or error")
    return reset


def _check_start_reset(settings: Settings) -> None:
    start_reset(settings.kafka)


def _milliseconds(kafka: Mapping[str, Any], name: str, default: int) -> int:
    value = kafka.get(name, default)
    if isinstance(value, int | str) and not isinstance(value, bool) and re.fullmatch(r"\d{1,9}", str(value).strip()):
        return int(value)
    raise ConfigurationError(f'kafka["{name}"]', shown(name, value), "write a whole number of milliseconds")
