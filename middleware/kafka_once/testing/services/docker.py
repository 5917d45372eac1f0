"""The same servers as containers, by testcontainers, where a Docker engine answers."""

import atexit
import importlib.util
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from kafka_once.testing.services.broker_properties import kafka_version
from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.process import free_port

KAFKA_IMAGE = f"apache/kafka:{kafka_version()}"
REDIS_IMAGE = "redis:8"

LOOPBACK = "127.0.0.1"
KAFKA_PORT = 9092
REDIS_PORT = 6379


def docker_answers() -> bool:
    """Whether a Docker engine answers, at DOCKER_HOST or its usual place, and its Python client is installed."""
    if not _socket_open():
        return False
    try:
        import docker
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=5)
    except Exception:  # noqa: BLE001 - no socket, no right to it, a malformed DOCKER_HOST: all mean no
        return False
    try:
        return bool(client.ping())
    except Exception:  # noqa: BLE001
        return False
    finally:
        client.close()


def _socket_open() -> bool:
    """Whether somebody listens on the engine's socket. The client would answer later, and leave its own socket open."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix://")) == 0


def kafka_image() -> str:
    """The image of Apache Kafka: KAFKA_IMAGE, else the official one."""
    return os.environ.get("KAFKA_IMAGE") or KAFKA_IMAGE


def redis_image() -> str:
    """The image of Redis: REDIS_IMAGE, else the official one."""
    return os.environ.get("REDIS_IMAGE") or REDIS_IMAGE


def redis_container(settings: Mapping[str, str], password: str | None) -> "Container":
    """A Redis with these lines of redis.conf; not yet started."""
    _require_docker()
    # "" is how an empty value is written in redis.conf; as an argument of its own it is just empty.
    arguments = [part for name, value in settings.items() for part in (f"--{name}", "" if value == '""' else value)]
    if password:
        arguments += ["--requirepass", password]
    return Container(redis_image(), REDIS_PORT, free_port(), command=["redis-server", *arguments])


def kafka_container(properties: Mapping[str, str]) -> "Container":
    """A Kafka with these broker properties; not yet started."""
    _require_docker()
    port = free_port()
    listeners = {
        "listeners": f"PLAINTEXT://:{KAFKA_PORT},CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{engine_host()}:{port}",
        "controller.quorum.voters": "1@localhost:9093",
    }
    environment = {variable(name): value for name, value in {**properties, **listeners}.items()}
    return Container(kafka_image(), KAFKA_PORT, port, environment=environment)


def variable(name: str) -> str:
    """The variable by which Apache Kafka's image takes this broker property."""
    return "KAFKA_" + name.upper().replace(".", "_")


def engine_host() -> str:
    """The host under which the engine's published ports are reached."""
    from testcontainers.core.docker_client import DockerClient

    host = str(DockerClient().host())
    return LOOPBACK if host == "localhost" else host


def _require_docker() -> None:
    if not docker_answers():
        raise ServiceUnavailable("no Docker engine answers: start one, or set DOCKER_HOST")
    if importlib.util.find_spec("testcontainers") is None:
        raise ServiceUnavailable("testcontainers is not installed: pip install 'kafka-once[testing]'")


class Container:
    """One container with one published port. It keeps port and data until `close`."""

    pid = None  # a process of the engine, not ours

    def __init__(
        self,
        image: str,
        inner_port: int,
        port: int,
        *,
        command: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        from testcontainers.core.container import DockerContainer

        self.host = engine_host()
        self.port = port
        self._image = image
        self._started = False
        self._container = DockerContainer(image)
        # with_bind_ports would publish on every interface; docker-py takes a pair too.
        published: Any = (LOOPBACK, port) if self.host == LOOPBACK else port
        self._container.ports[str(inner_port)] = published
        if command:
            self._container.with_command(command)
        for name, value in (environment or {}).items():
            self._container.with_env(name, value)

    def start(self) -> None:
        """Run it, the first time or again. ServiceUnavailable if the image cannot be had."""
        if self._started:
            self._wrapped().start()
            return
        atexit.register(self.close)
        try:
            self._container.start()
        except Exception as error:  # a missing image, a refused pull, a taken port
            raise ServiceUnavailable(f"the image {self._image} cannot be run: {error}") from error
        self._started = True

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return when `ready()` is true. ServiceUnavailable with the log's last lines if it ends or time runs out."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline or self._status() in ("exited", "dead"):
                log = self._wrapped().logs(tail=15).decode(errors="replace")
                raise ServiceUnavailable(f"a container of {self._image} does not get ready; its log ends with:\n{log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it in time."""
        self._wrapped().stop(timeout=20)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._status() in ("running", "paused"):
            self._wrapped().kill()
            self._wrapped().wait()

    def pause(self) -> None:
        """Freeze all its processes."""
        self._wrapped().pause()

    def resume(self) -> None:
        """Let them go on."""
        self._wrapped().unpause()

    def close(self) -> None:
        """Remove it, with its data. May be called twice."""
        atexit.unregister(self.close)
        with suppress(Exception):  # never started, or already removed
            self._container.stop(force=True, delete_volume=True)

    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()

    def _status(self) -> str:
        wrapped = self._wrapped()
        wrapped.reload()
        return str(wrapped.status)
