"""A store on a Redis server, or a Valkey server.

Everything is decided on the server, in scripts that execute at once and alone (`*.lua`, beside this file). Here calls
are packed, sent, and their failures sorted into "repeat the same call" and "repeating will not help".

- One connection, to the server that holds the namespace now (`redis_places`). A call that got no definite answer drops
  it: a late answer is never read as that of another call, and the next one finds the primary after a failover.
- redis-py repeats nothing by itself: only the caller knows that a call may be repeated, and until when it matters.
- The time-out is shorter than the lease, else a lease would lapse while its renewal is waited for.
- The text of errors names the server without the password.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import ConfigurationError
from kafka_once.ports import Session, Survey
from kafka_once.stores import redis_checks, redis_wire
from kafka_once.stores.redis_line import Line
from kafka_once.stores.redis_pipe import RedisPipe
from kafka_once.stores.redis_places import place_of
from kafka_once.stores.sharded import PipelinedShards

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kafka_once.ports import Doubt, Exchange, ExchangeReply, Namespace, Ownership, OwnershipAsk

__all__ = ["RedisStore", "open_shards"]


class _Script:
    """A constant text, known to the server by its hash."""

    def __init__(self, *names: str) -> None:
        self.text = "\n".join((files(__package__) / f"{name}.lua").read_text() for name in ("namespace", *names))
        self.sha1 = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_CHECK = _Script("check")
_OPEN_SESSION = _Script("open_session")
_CLOSE_SESSION = _Script("close_session")
_TAKE_OWNERSHIPS = _Script("take_ownerships")
_EXCHANGE = _Script("done_keys", "exchange")
_REPORT = _Script("report")
_SURVEY = _Script("done_keys", "survey")


class RedisStore:
    """A `Store` on a Redis server.

    Args:
        url: redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://, with user and password if there
            are any. The forms are in `redis_places.FORM`.
        namespace: what the records belong to.
        lease_ms: how long a session lives after its last renewal. Default 5 s.
        remember_ms: how long done keys are remembered at least. Default one day.
        timeout_ms: how long a call waits for its answer, and a connection to be made. Default: a third of the lease, at
            most 1 s. Always shorter than the lease.
        allow_eviction: work with a server that may evict what it acknowledged: messages then run twice. Default False.
        shard: which of the namespace's shards this is. Default 0.
        shards: how many it has; the same for all who use it. Default 1.
        client_options: further settings of redis-py's connection, for TLS or a credential provider. Those that decide
            about time-outs, retries and the protocol are fixed.

    Raises:
        ConfigurationError: a setting is wrong. Nothing was connected to yet.

    """

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        *,
        lease_ms: int = 5000,
        remember_ms: int = 86_400_000,
        timeout_ms: int | None = None,
        allow_eviction: bool = False,
        shard: int = 0,
        shards: int = 1,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        timeout_ms = min(lease_ms // 3, 1000) if timeout_ms is None else timeout_ms
        if not 0 < timeout_ms < lease_ms:
            raise ConfigurationError("timeout_ms", timeout_ms, f"make it shorter than the lease of {lease_ms} ms")
        self._allow_eviction = allow_eviction
        self._timeout_s = timeout_ms / 1000
        self._prefix = redis_wire.key_prefix(namespace, shard)
        self._find = partial(place_of, url, f"{self._prefix}meta", options=client_options or {})
        self._line = Line(self._find(self._timeout_s))
        self._mark = secrets.token_bytes(16)
        # What every script is given: one key, and who asks with which settings.
        self._head = (1, f"{self._prefix}meta", namespace.cluster, namespace.group, self._mark)
        self._settings = redis_wire.packed_settings(lease_ms, remember_ms, shards)

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix}… at {self._line.address}>"

    def check(self) -> list[str]:
        """Try every command that the scripts use, and look at the server's settings; return warnings as sentences.

        Raises:
            StoreRefused: with the remedy. Stop.
            StoreUnavailable: repeat.

        """
        self._line.call("PING")
        self._run(_CHECK)
        return redis_checks.check_settings(self._line.call, self._line.address, allow_eviction=self._allow_eviction)

    def is_new(self) -> bool:
        """Whether this store object made the namespace, or made it anew after the server lost it."""
        return bool(self._run(_CHECK) == self._mark)

    def open_session(self, token: int, instance: str | None = None, previous: int | None = None) -> Session:
        """Open a session; the same token again renews it if it lives, and answers the same."""
        before = "" if previous is None else str(previous)
        return Session(int(self._run(_OPEN_SESSION, redis_wire.token_bytes(token), instance or "", before)), token)

    def close_session(self, session: Session) -> None:
        """End the session and with it its ownerships."""
        self._run(_CLOSE_SESSION, redis_wire.packed_session(session))

    def take_ownerships(self, session: Session, call: int, asks: Sequence[OwnershipAsk]) -> list[Ownership] | None:
        """Take a new ownership of each partition; None if the session is over."""
        packed = [redis_wire.packed_ownership(ask) for ask in asks]
        answers = self._run(_TAKE_OWNERSHIPS, redis_wire.packed_call(session, call), *packed)
        return None if answers is None else [redis_wire.read_ownership(answer) for answer in answers]

    def exchange(self, exchange: Exchange) -> ExchangeReply:
        """Do all of it in one script, in the order that `Exchange` tells.

        While the server is out of memory an exchange with claims is refused as a whole (`StoreUnavailable`); one
        without them goes through.
        """
        reply = self._run(_EXCHANGE, *redis_wire.packed_exchange(exchange))
        return redis_wire.read_exchange(exchange, reply, self._line.server)

    def report(self, session: Session, counters: Mapping[str, int]) -> None:
        """Keep the counters for `survey`."""
        self._run(_REPORT, redis_wire.packed_session(session), json.dumps(dict(counters)))

    def doubts(self, limit: int = 1000) -> list[Doubt]:
        """List what was in doubt, the newest first."""
        if limit < 1:
            return []
        listed = self._line.call("ZREVRANGE", f"{self._prefix}x", 0, limit - 1, "WITHSCORES")
        return [redis_wire.read_doubt(listed[at], int(float(listed[at + 1]))) for at in range(0, len(listed), 2)]

    def survey(self) -> Survey:
        """Count what is held. Done keys are a sum of counters: it may contain some that were forgotten meanwhile."""
        sessions, claims, done, doubts, frontiers, counters = self._run(_SURVEY)
        totals: Counter[str] = Counter()
        for kept in counters:
            totals.update(json.loads(kept)["counters"])
        return Survey(sessions, claims, done, doubts, redis_wire.read_frontiers(frontiers), dict(totals))

    def pipe(self, connect_s: float | None = None) -> RedisPipe:
        """A connection of its own on which calls need not wait for each other's answers; made within `connect_s`, or
        within the time-out."""
        line = Line(
            self._find(connect_s or self._timeout_s),
            [script.text for script in (_OPEN_SESSION, _TAKE_OWNERSHIPS, _EXCHANGE)],
        )
        return RedisPipe(line, self._command_of, _answer_of, self._timeout_s)

    def _command_of(self, line: Line, session: Session | None, call: StoreCall) -> tuple[bytes | str | int, ...]:
        head = (*self._head, redis_wire.packed_caller(self._settings, line.server, line.previous))
        if isinstance(call, OpenSession):
            before = "" if call.previous is None else str(call.previous)
            arguments: tuple[bytes | str, ...] = (redis_wire.token_bytes(call.token), call.instance or "", before)
            return ("EVALSHA", _OPEN_SESSION.sha1, *head, *arguments)
        if isinstance(call, TakeOwnerships):
            assert session is not None
            packed = [redis_wire.packed_ownership(ask) for ask in call.asks]
            return ("EVALSHA", _TAKE_OWNERSHIPS.sha1, *head, redis_wire.packed_call(session, call.call), *packed)
        return ("EVALSHA", _EXCHANGE.sha1, *head, *redis_wire.packed_exchange(call))

    def close(self) -> None:
        """Close the connection. Sessions stay until they are closed or lapse."""
        self._line.drop()

    def _run(self, script: _Script, *arguments: bytes | str) -> Any:
        self._line.connect()
        caller = redis_wire.packed_caller(self._settings, self._line.server, self._line.previous)
        try:
            return self._line.call("EVALSHA", script.sha1, *self._head, caller, *arguments)
        except NoScriptError:  # never loaded there, or flushed, or another server by now
            return self._line.call("EVAL", script.text, *self._head, caller, *arguments)


def open_shards(url: str, namespace: Namespace, shards: int, **settings: Any) -> RedisStore | PipelinedShards:
    """The namespace in so many shards; see `RedisStore` for the rest. To connect to all takes no longer than to one."""
    if shards == 1:
        return RedisStore(url, namespace, **settings)
    stores = [RedisStore(url, namespace, shard=shard, shards=shards, **settings) for shard in range(shards)]
    timeout_s = stores[0]._timeout_s
    return PipelinedShards(stores, [partial(store.pipe, max(timeout_s / shards, 0.2)) for store in stores], timeout_s)


def _answer_of(line: Line, call: StoreCall, reply: Any) -> object:
    if isinstance(call, OpenSession):
        return Session(int(reply), call.token)
    if isinstance(call, TakeOwnerships):
        return None if reply is None else [redis_wire.read_ownership(answer) for answer in reply]
    return redis_wire.read_exchange(call, reply, line.server)
