"""A connection to the server that holds the namespace: made when needed, dropped when the next answer is unsure.

It never repeats anything. What it adds to redis-py's connection is that it knows which server it speaks to.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import MovedError, NoPermissionError, NoScriptError, ReadOnlyError

from kafka_once.errors import StoreUnavailable
from kafka_once.stores.redis_errors import translated
from kafka_once.stores.redis_places import Place

__all__ = ["Line", "fields_of_info"]


class Line:
    """Args:
    place: tells where the server is, each time that a connection is made.
    scripts: texts that the server must know before the first call.

    Attributes:
        server: the run id of the server at the other end, which changes when it restarts and differs after a failover;
            empty while there is no connection, and where INFO is not permitted.
        previous: the run id before that one, if it was another.
    """

    def __init__(self, place: Place, scripts: list[str] | None = None) -> None:
        self._place = place
        self._scripts = scripts or []
        self._connection: Any = None
        self._last = ""
        self.server = ""
        self.previous = ""

    @property
    def address(self) -> str:
        """As it may be shown."""
        return self._place.shown

    def connect(self) -> None:
        """Connect if it is not. Raises `StoreError`."""
        if self._connection is not None:
            return
        try:
            self._connection = self._place.connection()
            self._connection.connect()
            self._meet(self._server_info())
            self._place.confirm()
            for script in self._scripts:  # so that no call is ever told NOSCRIPT, short of a SCRIPT FLUSH
                self._ask("SCRIPT", "LOAD", script)
        except (redis.RedisError, OSError) as error:
            self.drop()
            raise self._failure(error) from error

    def send(self, *command: bytes | str | int) -> None:
        """Write a command; whoever calls has connected. Raises `StoreError`."""
        try:
            self._connection.send_command(*command, check_health=False)
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error

    def read(self) -> Any:
        """The answer to the oldest command that has none. Raises `NoScriptError`, or `StoreError`."""
        try:
            return self._connection.read_response()
        except NoScriptError:
            raise
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error

    def call(self, *command: bytes | str | int) -> Any:
        """Send and read. After a silence it is not connected any more. Raises as `read` does."""
        self.connect()
        try:
            self.send(*command)
            return self.read()
        except StoreUnavailable:
            self.drop()
            raise

    def readable(self) -> bool:
        """Whether an answer is there."""
        try:
            return self._connection is not None and bool(self._connection.can_read(0))
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error

    def descriptor(self) -> int:
        """Readable when an answer is there; -1 while not connected."""
        return -1 if self._connection is None else int(self._connection._sock.fileno())

    def drop(self) -> None:
        """Disconnect; the next call connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _ask(self, *command: str) -> Any:
        self._connection.send_command(*command, check_health=False)
        return self._connection.read_response()

    def _server_info(self) -> dict[str, str]:
        with suppress(NoPermissionError):  # then a failover goes unnoticed; `RedisStore.check` warns
            return fields_of_info(self._ask("INFO"))
        return {}

    def _meet(self, info: dict[str, str]) -> None:
        if info.get("role") == "slave":  # it answers from what it has, which may be old
            raise ReadOnlyError("READONLY it says that it is a replica")
        self.server = info.get("run_id", "")
        if self.server and self.server != self._last:
            self.previous, self._last = self._last, self.server

    def _failure(self, error: Exception) -> Exception:
        self._place.failed(error)
        if isinstance(error, MovedError) and self._place.follows:
            return StoreUnavailable(f"{self.address}: the namespace has moved to another node of the cluster")
        return translated(error, self.address)


def fields_of_info(text: bytes) -> dict[str, str]:
    """The fields of an answer to INFO."""
    return dict(re.findall(r"^(\w+):(.*?)\r?$", text.decode(errors="replace"), re.MULTILINE))
