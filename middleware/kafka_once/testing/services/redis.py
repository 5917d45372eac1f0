"""A real Redis (or Valkey) for the demo and the tests.

The module is named like redis-py; inside it `redis` is redis-py, since imports are absolute.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import redis

from kafka_once.testing.services import docker
from kafka_once.testing.services.choosing import ServiceUnavailable, choose, from_environment
from kafka_once.testing.services.process import HOST, ServerProcess, free_port
from kafka_once.testing.services.redis_programs import VERSIONS, Argv, embedded_program, local_program, program_of
from kafka_once.testing.services.server import Server

ENVIRONMENT = "KAFKA_ONCE_TEST_REDIS"
KINDS = ("docker", "local", "embedded", *VERSIONS)

# What kafka-once asks of a store: it never evicts, and it finds after a crash what it acknowledged.
DURABLE = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": '""'}


def start_redis(
    kind: str | None = None,
    *,
    password: str | None = None,
    config: Mapping[str, str] | None = None,
    binary: str | Path | None = None,
) -> "RedisServer":
    """A running Redis: `kind` is "env", "docker", "local" or "embedded"; without one, the first of these that works.
    Or a version: "redis-6.2", "redis-7.0", "redis-8.0", "valkey-8.1" or "valkey-9".

    The variable KAFKA_ONCE_TEST_REDIS holds an address (redis://…) or one of the kinds. `config` are lines of
    redis.conf, over append-only with fsync every second and `noeviction`. `binary` is the server program of a "local"
    one. ServiceUnavailable tells why there is none.
    """
    address = None
    if kind is None and binary is not None:
        kind = "local"
    if kind in (None, "env"):
        wanted, address = from_environment(ENVIRONMENT, KINDS)
        kind = wanted or kind
    settings = {**DURABLE, **(config or {})}
    if kind in VERSIONS:
        return LocalRedis(kind, program_of(kind), settings, password)
    return choose(
        "Redis",
        {
            "env": lambda: _ExternalRedis(address),
            "docker": lambda: _DockerRedis(settings, password),
            "local": lambda: LocalRedis("local", local_program(binary), settings, password),
            "embedded": lambda: LocalRedis("embedded", embedded_program(), settings, password),
        },
        kind,
    )


class RedisServer(Server):
    """A running Redis at `url`."""

    url: str

    def client(self, **options: Any) -> "redis.Redis":
        """A client of redis-py for this server; the caller closes it."""
        return redis.Redis.from_url(self.url, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind}: {self.version} at {without_password(self.url)}>"

    def _answers(self) -> bool:
        """Whether it serves now (false while it loads its data). Remembers its version. A refusal is raised."""
        client = self.client(socket_timeout=5, socket_connect_timeout=5, retry=None)
        try:
            info = client.info("server")
        except redis.AuthenticationError:
            raise
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
            return False
        finally:
            client.close()
        valkey = info.get("valkey_version")
        self.version = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
        return True


class _ExternalRedis(RedisServer):
    """Somebody else's, at an address from the environment."""

    kind = "env"

    def __init__(self, address: str | None) -> None:
        if address is None:
            raise ServiceUnavailable(f"{ENVIRONMENT} is not set")
        self.url = address if "://" in address else f"redis://{address}"
        try:
            answers = self._answers()
        except (redis.RedisError, ValueError) as error:
            raise ServiceUnavailable(f"{ENVIRONMENT}={without_password(self.url)}: {error}") from error
        if not answers:
            raise ServiceUnavailable(f"{ENVIRONMENT}={without_password(self.url)} does not answer")


class LocalRedis(RedisServer):
    """A process of ours, from a program on this machine or in a wheel."""

    def __init__(
        self,
        kind: str,
        program: Argv,
        settings: Mapping[str, str],
        password: str | None = None,
        port: int | None = None,
    ) -> None:
        self.kind = kind
        process = ServerProcess("redis")
        self.port = port = port or free_port()
        self.url = url_of(HOST, port, password)
        lines = {"bind": HOST, "port": str(port), "dir": str(process.folder), "daemonize": "no", **settings}
        if password:
            lines["requirepass"] = quoted(password)
        # A file, not arguments: everybody on the machine can read a process's arguments.
        conf = process.folder / "redis.conf"
        conf.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        process.argv = [*program, str(conf)]
        self._run(process)


class _DockerRedis(RedisServer):
    """A container."""

    kind = "docker"

    def __init__(self, settings: Mapping[str, str], password: str | None) -> None:
        container = docker.redis_container(settings, password)
        self.url = url_of(container.host, container.port, password)
        self._run(container)


def url_of(host: str, port: int, password: str | None) -> str:
    """The address of database 0 there."""
    secret = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{secret}{host}:{port}/0"


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def quoted(value: str) -> str:
    """The value as one argument in redis.conf."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
