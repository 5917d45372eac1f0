"""A connection to Redis on which several calls may be away at once. It never waits for an answer.

Commands are answered in the order in which they were written, so the oldest unanswered call owns the next reply.
Whatever fails, the connection is dropped: a late answer is never read as that of another call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import NoScriptError

from kafka_once.core.calls import Session
from kafka_once.core.rules import StoreCall
from kafka_once.errors import StoreUnavailable
from kafka_once.stores.redis_errors import translated

__all__ = ["RedisPipe"]

Pack = Callable[[Session | None, StoreCall], tuple[bytes | str | int, ...]]
Read = Callable[[StoreCall, Any], object]


class RedisPipe:
    """See `ports.StorePipe`.

    Args:
        connection: of its own, not connected yet.
        scripts: texts that the server must know before the first call.
        pack: makes the command of a call.
        read: makes the answer to a call of the server's reply.
        address: for the texts of errors, without a password.
        timeout_s: how long an answer may take.
    """

    def __init__(
        self, connection: Any, scripts: list[str], pack: Pack, read: Read, address: str, timeout_s: float
    ) -> None:
        self._connection = connection
        self._scripts = scripts
        self._pack = pack
        self._read = read
        self._address = address
        self._connected = False
        self.timeout_s = timeout_s

    def send(self, session: Session | None, call: StoreCall) -> None:
        command = self._pack(session, call)
        try:
            if not self._connected:
                self._connect()
            self._connection.send_command(*command, check_health=False)
        except (redis.RedisError, OSError) as error:
            raise translated(error, self._address) from error

    def _connect(self) -> None:
        self._connection.connect()
        for script in self._scripts:  # so that no call is ever told NOSCRIPT, short of a SCRIPT FLUSH
            self._connection.send_command("SCRIPT", "LOAD", script, check_health=False)
            self._connection.read_response()
        self._connected = True

    def descriptor(self) -> int:
        return self._connection._sock.fileno() if self._connected else -1

    def readable(self) -> bool:
        try:
            return self._connected and bool(self._connection.can_read(0))
        except (redis.RedisError, OSError) as error:
            raise translated(error, self._address) from error

    def receive(self, session: Session | None, call: StoreCall) -> object:  # noqa: ARG002
        try:
            reply = self._connection.read_response()
        except NoScriptError as error:
            raise StoreUnavailable(f"{self._address} has forgotten the scripts; they are sent anew") from error
        except (redis.RedisError, OSError) as error:
            raise translated(error, self._address) from error
        return self._read(call, reply)

    def drop(self) -> None:
        self._connected = False
        self._connection.disconnect()
