"""Where the namespace's server is: at one address, where sentinels say, or at the cluster node that owns its slot.

A place is asked each time that a connection is made, and told what each failure was. So whoever drops a connection and
connects again finds the new primary after a failover, and the new owner of a slot that moved. The connections are
redis-py's; its own clients for sentinels and clusters are not used, because they repeat calls by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, parse_url
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, ClusterError, MovedError, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from kafka_once.errors import ConfigurationError

__all__ = ["FORM", "Place", "place_of", "without_password"]

FORM = (
    "redis://user:password@host:port/database, rediss:// for TLS, unix:// with a path, "
    "redis+sentinel://user:password@host:port,host:port/service/database, "
    "or redis+cluster://user:password@host:port,host:port"
)
_SENTINEL_PORT, _REDIS_PORT = 26379, 6379


class Address(NamedTuple):
    host: str
    port: int


class Place(Protocol):
    """Finds the server that holds the namespace."""

    shown: str
    """For the texts of errors, without a password."""

    follows: bool
    """Whether MOVED is obeyed."""

    def connection(self) -> Any:
        """A connection of redis-py to it, not connected yet. Raises redis-py's errors if nobody tells where."""
        ...

    def confirm(self) -> None:
        """Called when the server has answered for the first time. Raises redis-py's errors if it is not the one."""
        ...

    def failed(self, error: Exception) -> None:
        """What the last connection failed with."""
        ...


def place_of(url: str, key: str, timeout_s: float, *, options: Mapping[str, Any]) -> Place:
    """The place that the URL tells of.

    Args:
        url: see `FORM`.
        key: one key of the namespace; in a cluster its slot decides.
        timeout_s: how long a connection may take to be made, and an answer to come.
        options: further settings of redis-py's connection; those about time-outs, retries and the protocol are fixed.

    Raises:
        ConfigurationError: the URL cannot be read.
    """
    try:
        return _place_of(url, key, timeout_s, options)
    except (ValueError, TypeError):  # their texts may quote the password
        raise ConfigurationError("store", without_password(url), f"write {FORM}") from None


def _place_of(url: str, key: str, timeout_s: float, options: Mapping[str, Any]) -> Place:
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    if not kind:
        return _OnePlace(url, timeout_s, options)
    parts = urlsplit(url)
    secret, _, hosts = parts.netloc.rpartition("@")
    if kind == "sentinel":
        addresses = [_address(host, _SENTINEL_PORT) for host in hosts.split(",")]
        service, _, database = parts.path.strip("/").partition("/")
        if not service or not (database or "0").isdecimal():
            raise ValueError("no service, or no database")
        query = parse_qs(parts.query)
        own = {name: query.pop(f"sentinel_{name}", [None])[0] for name in ("username", "password")}
        host = f"{secret}@service" if secret else "service"
        plain = urlunsplit((scheme, host, database, urlencode(query, doseq=True), ""))
        return _BySentinels(without_password(url), service, addresses, own, _settings(plain, timeout_s, options))
    if kind == "cluster" and parts.path.strip("/") in ("", "0"):
        addresses = [_address(host, _REDIS_PORT) for host in hosts.split(",")]
        plain = urlunsplit((scheme, f"{secret}@node" if secret else "node", "", parts.query, ""))
        return _InCluster(without_password(url), addresses, key, _settings(plain, timeout_s, options))
    raise ValueError("no such kind")


def without_password(url: str) -> str:
    """Show a store's address: scheme, hosts and database, without user, password and settings."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _address(text: str, port: int) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path:
        raise ValueError("no host")
    return Address(parts.hostname, parts.port or port)


def _settings(url: str, timeout_s: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a connection; "connection_class" says of which."""
    fixed: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,  # with 3 redis-py would let the server prolong time-outs
    }
    if not url.startswith("unix:"):
        fixed["socket_connect_timeout"] = timeout_s
    # In this order: settings in the url must not undo what is fixed.
    settings = {**options, **parse_url(url), **fixed}  # type: ignore[no-untyped-call]
    if settings.get("connection_class") is SSLConnection:
        settings.setdefault("ssl_check_hostname", True)  # redis-py before 6.0 does not by itself
    settings.pop("max_connections", None)
    _connect(settings)  # makes no connection; tells unknown settings now
    return settings


def _connect(settings: Mapping[str, Any], address: Address | None = None, timeout_s: float | None = None) -> Any:
    kept = {name: value for name, value in settings.items() if name != "connection_class"}
    if address is not None:
        kept.update(address._asdict())
    if timeout_s is not None:
        kept.update(socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    return settings.get("connection_class", Connection)(**kept)


class _OnePlace:
    follows = False

    def __init__(self, url: str, timeout_s: float, options: Mapping[str, Any]) -> None:
        self.shown = without_password(url)
        self._settings = _settings(url, timeout_s, options)

    def connection(self) -> Any:
        return _connect(self._settings)

    def confirm(self) -> None:
        """There is no other."""

    def failed(self, error: Exception) -> None:
        """It is nowhere else."""


class _BySentinels:
    """The sentinels are asked in turn; the one that answered is asked first the next time."""

    follows = False

    def __init__(
        self, shown: str, service: str, sentinels: list[Address], own: Mapping[str, Any], settings: dict[str, Any]
    ) -> None:
        self.shown = shown
        self._service = service
        self._settings = settings
        self._found: Address | None = None
        # All of them silent must not take longer than one server that is.
        patience_s = max(settings["socket_timeout"] / len(sentinels), 0.1)
        tls = {name: value for name, value in settings.items() if name.startswith("ssl")}
        if issubclass(settings.get("connection_class", Connection), redis.SSLConnection):
            tls["ssl"] = True
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            [tuple(address) for address in sentinels],
            sentinel_kwargs={
                "socket_timeout": patience_s,
                "socket_connect_timeout": patience_s,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                **own,
                **tls,
            },
        )

    def connection(self) -> Any:
        self._found = self._ask()
        return _connect(self._settings, self._found)

    def confirm(self) -> None:
        """A primary that stood still when they named it, and wakes up now, may be none any more, and not know it."""
        if self._ask() != self._found:
            raise redis.ConnectionError("the sentinels name another primary meanwhile")

    def _ask(self) -> Address:
        return Address(*self._sentinel.discover_master(self._service))  # type: ignore[no-untyped-call]

    def failed(self, error: Exception) -> None:
        """Each connection asks anew."""


class _InCluster:
    """Follows MOVED; else any node that answers is asked who owns the slot."""

    follows = True

    def __init__(self, shown: str, nodes: list[Address], key: str, settings: dict[str, Any]) -> None:
        self.shown = shown
        self._first_nodes = nodes
        self._nodes = nodes
        self._slot = key_slot(key.encode())
        self._settings = settings
        self._owner: Address | None = None

    def connection(self) -> Any:
        if self._owner is None:
            self._owner = self._find_owner()
        return _connect(self._settings, self._owner)

    def confirm(self) -> None:
        """A node that does not own the slot says so with each call."""

    def failed(self, error: Exception) -> None:
        if isinstance(error, MovedError) and self._owner is not None:
            self._owner = Address(error.host or self._owner.host, error.port)
        else:
            self._owner = None

    def _find_owner(self) -> Address:
        patience_s = max(self._settings["socket_timeout"] / len(self._nodes), 0.1)
        silent: RedisError | OSError | None = None
        for node in self._nodes:
            try:
                with closing(_Asked(_connect(self._settings, node, patience_s))) as asked:
                    ranges = asked.slots()
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                silent = error
                continue
            return self._owner_in(ranges, node)
        raise redis.ConnectionError("no node of the cluster answered") from silent

    def _owner_in(self, ranges: list[Any], node: Address) -> Address:
        owner = None
        known: dict[Address, None] = {node: None}  # the one that answered is asked first the next time
        for begin, end, *members in ranges:
            addresses = [Address(_text(host) or node.host, port) for host, port, *_ in members]
            known.update(dict.fromkeys(addresses))
            if begin <= self._slot <= end:
                owner = addresses[0]
        self._nodes = list(known | dict.fromkeys(self._first_nodes))
        if owner is None:
            raise ClusterDownError("CLUSTERDOWN nobody serves the slot")
        return owner


class _Asked:
    """A node that is asked for the cluster's map."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def slots(self) -> list[Any]:
        self._connection.connect()
        self._connection.send_command("CLUSTER", "SLOTS", check_health=False)
        answer = self._connection.read_response()
        if not isinstance(answer, list):
            raise ClusterError(f"CLUSTER SLOTS answered {type(answer).__name__}")
        return answer

    def close(self) -> None:
        self._connection.disconnect()


def _text(host: bytes | str | None) -> str:
    """Empty where the node does not know under which name it is reached."""
    found = host.decode() if isinstance(host, bytes) else host or ""
    return "" if found == "?" else found
