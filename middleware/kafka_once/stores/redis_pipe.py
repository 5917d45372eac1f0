"""A connection to Redis on which several calls may be away at once. It never waits for an answer.

Commands are answered in the order in which they were written, so the oldest unanswered call owns the next reply.
Whatever fails, the connection is dropped: a late answer is never read as that of another call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.exceptions import NoScriptError

from kafka_once.core.calls import Session
from kafka_once.core.rules import StoreCall
from kafka_once.errors import StoreUnavailable
from kafka_once.stores.redis_line import Line

__all__ = ["RedisPipe"]

Pack = Callable[[Line, Session | None, StoreCall], tuple[bytes | str | int, ...]]
Read = Callable[[Line, StoreCall, Any], object]


class RedisPipe:
    """See `ports.StorePipe`.

    Args:
        line: of its own, with the scripts that the server must know.
        pack: makes the command of a call.
        read: makes the answer to a call of the server's reply.
        timeout_s: how long an answer may take.
    """

    def __init__(self, line: Line, pack: Pack, read: Read, timeout_s: float) -> None:
        self._line = line
        self._pack = pack
        self._read = read
        self.timeout_s = timeout_s

    def send(self, session: Session | None, call: StoreCall) -> None:
        self._line.connect()  # before packing: a call tells the server which one it is
        self._line.send(*self._pack(self._line, session, call))

    def descriptor(self) -> int:
        return self._line.descriptor()

    def readable(self) -> bool:
        return self._line.readable()

    def receive(self, session: Session | None, call: StoreCall) -> object:  # noqa: ARG002
        try:
            reply = self._line.read()
        except NoScriptError as error:
            raise StoreUnavailable(f"{self._line.address} has forgotten the scripts; they are sent anew") from error
        return self._read(self._line, call, reply)

    def drop(self) -> None:
        self._line.drop()
