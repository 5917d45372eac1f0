"""Several stores that work as one: each holds the keys whose digests fall to it. In a cluster each has its own slot.

What belongs to a key (claim, done) lives in its shard; what belongs to a worker (session, ownership, epoch) lives in
all of them, because each judges its claims by itself:

- Each shard gives out numbers of its own. To the caller a session, or an ownership, goes by the number of the first
  shard; this object knows the others, for as long as it lives, which is as long as its process needs them.
- Every exchange goes to every shard, so it renews everywhere, and an answer means that all have answered: trust is the
  least of theirs. A session that is over in one shard is over; opening the next one ends it in the others.
- Frontiers and counters are kept in the first shard only.
- A lane's claims may fall to several shards, which do not see each other's refusals: what is granted behind a refusal
  is given back by the caller (`core/claiming.py`), and within a shard still only a prefix is claimed.
- A call that some shards did not answer is repeated to all; to repeat is harmless in each.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from kafka_once.core.claims import ClaimAnswer, Completion, Release
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.ports import (
    ClaimAsk,
    CompleteAsk,
    Doubt,
    Exchange,
    ExchangeReply,
    Ownership,
    OwnershipAsk,
    ReleaseAsk,
    Session,
    Store,
    StorePipe,
    Survey,
)

__all__ = ["ShardedStore", "shard_of"]

_NEVER_GIVEN = 0  # to a session or an ownership


def shard_of(digest: bytes, shards: int) -> int:
    """Which of so many shards holds the key. By the digest's end: within a shard its beginning names the bucket."""
    return int.from_bytes(digest[-4:], "big") % shards


@dataclass(slots=True)
class _Part:
    """What one shard is asked of an exchange, and at which places of the whole it stands."""

    exchange: Exchange
    completes: list[int] = field(default_factory=list)
    releases: list[int] = field(default_factory=list)
    claims: list[int] = field(default_factory=list)


class _Numbers:
    """The number of the first shard → those of all shards."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._known: dict[int, tuple[int, ...]] = {}

    def learn(self, numbers: Sequence[int]) -> int:
        self._known[numbers[0]] = tuple(numbers)
        return numbers[0]

    def of(self, number: int) -> tuple[int, ...]:
        return self._known.get(number) or (number, *(_NEVER_GIVEN,) * (self._shards - 1))  # unknown: another process's


class _Map:
    """Splits calls and joins answers. It has no connection and decides nothing about keys."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._sessions = _Numbers(shards)
        self._ownerships = _Numbers(shards)

    def sessions(self, session: Session) -> list[Session]:
        return [session._replace(number=number) for number in self._sessions.of(session.number)]

    def previous(self, number: int | None) -> Sequence[int | None]:
        return (None,) * self._shards if number is None else self._sessions.of(number)

    def join_sessions(self, sessions: Sequence[Session]) -> Session:
        self._sessions.learn([session.number for session in sessions])
        return sessions[0]

    def join_ownerships(self, answers: Sequence[Sequence[Ownership] | None]) -> list[Ownership] | None:
        """The least epoch, because one shard that lost its memory is memory lost; the highest offset ever claimed."""
        each_shard = [answer for answer in answers if answer is not None]
        if len(each_shard) < self._shards:
            return None
        joined = []
        for of_partition in zip(*each_shard, strict=True):
            number = self._ownerships.learn([ownership.number for ownership in of_partition])
            epoch = min(ownership.epoch for ownership in of_partition)
            claimed_up_to = max(ownership.claimed_up_to for ownership in of_partition)
            joined.append(of_partition[0]._replace(number=number, epoch=epoch, claimed_up_to=claimed_up_to))
        return joined

    def split(self, exchange: Exchange) -> list[_Part]:
        parts = [_Part(Exchange(session, exchange.call)) for session in self.sessions(exchange.session)]
        self._split_completes(exchange, parts)
        self._split_releases(exchange, parts)
        self._split_claims(exchange, parts)
        for number in exchange.ends:
            for part, own in zip(parts, self._ownerships.of(number), strict=True):
                part.exchange.ends = [*part.exchange.ends, own]
        parts[0].exchange.frontiers = exchange.frontiers
        return parts

    def _split_completes(self, exchange: Exchange, parts: list[_Part]) -> None:
        asks: list[list[CompleteAsk]] = [[] for _ in parts]
        for place, ask in enumerate(exchange.completes):
            shard = shard_of(ask.digest, self._shards)
            parts[shard].completes.append(place)
            asks[shard].append(ask._replace(session=self._sessions.of(ask.session)[shard]))
        for part, its_asks in zip(parts, asks, strict=True):
            part.exchange.completes = its_asks

    def _split_releases(self, exchange: Exchange, parts: list[_Part]) -> None:
        asks: list[list[ReleaseAsk]] = [[] for _ in parts]
        for place, ask in enumerate(exchange.releases):
            shard = shard_of(ask.digest, self._shards)
            parts[shard].releases.append(place)
            session, ownership = self._sessions.of(ask.session)[shard], self._ownerships.of(ask.ownership)[shard]
            asks[shard].append(ask._replace(session=session, ownership=ownership))
        for part, its_asks in zip(parts, asks, strict=True):
            part.exchange.releases = its_asks

    def _split_claims(self, exchange: Exchange, parts: list[_Part]) -> None:
        asks: list[list[ClaimAsk]] = [[] for _ in parts]
        of_this_lane: set[int] = set()
        for place, ask in enumerate(exchange.claims):
            shard = shard_of(ask.digest, self._shards)
            if not ask.follows:
                of_this_lane.clear()
            follows = shard in of_this_lane  # what stands before it in its lane and is in the same shard
            of_this_lane.add(shard)
            parts[shard].claims.append(place)
            asks[shard].append(ask._replace(ownership=self._ownerships.of(ask.ownership)[shard], follows=follows))
        for part, its_asks in zip(parts, asks, strict=True):
            part.exchange.claims = its_asks

    @staticmethod
    def join(exchange: Exchange, parts: Sequence[_Part], replies: Sequence[ExchangeReply]) -> ExchangeReply:
        completes: list[Completion] = [Completion.FENCED] * len(exchange.completes)
        releases: list[Release] = [Release.FENCED] * len(exchange.releases)
        claims: list[Any] = [None] * len(exchange.claims)
        for part, reply in zip(parts, replies, strict=True):
            _place(completes, part.completes, reply.completes)
            _place(releases, part.releases, reply.releases)
            _place(claims, part.claims, reply.claims)
        answered: list[ClaimAnswer] = claims
        servers = [reply.server for reply in replies]
        return ExchangeReply(
            session_lives=all(reply.session_lives for reply in replies),
            completes=completes,
            releases=releases,
            claims=answered,
            server=" ".join(servers) if all(servers) else "",
        )


def _place(whole: list[Any], places: Sequence[int], answers: Sequence[Any]) -> None:
    for place, answer in zip(places, answers, strict=True):
        whole[place] = answer


class ShardedStore:
    """A `Store` of several. Args: `shards` are stores of one namespace, always the same number in the same order."""

    def __init__(self, shards: Sequence[Store]) -> None:
        self._shards = list(shards)
        self._map = _Map(len(self._shards))

    def check(self) -> list[str]:
        """All of them; what several say is told once."""
        return list(dict.fromkeys(warning for shard in self._shards for warning in shard.check()))

    def open_session(self, token: int, instance: str | None = None, previous: int | None = None) -> Session:
        """One in each shard; what is left of the previous one ends."""
        each = zip(self._shards, self._map.previous(previous), strict=True)
        return self._map.join_sessions([shard.open_session(token, instance, before) for shard, before in each])

    def take_ownerships(self, session: Session, call: int, asks: Sequence[OwnershipAsk]) -> list[Ownership] | None:
        """One in each shard, for each partition."""
        each = zip(self._shards, self._map.sessions(session), strict=True)
        return self._map.join_ownerships([shard.take_ownerships(its, call, asks) for shard, its in each])

    def exchange(self, exchange: Exchange) -> ExchangeReply:
        """One after another; the pipe asks them at the same time."""
        parts = self._map.split(exchange)
        replies = [shard.exchange(part.exchange) for shard, part in zip(self._shards, parts, strict=True)]
        return self._map.join(exchange, parts, replies)

    def close_session(self, session: Session) -> None:
        """In all of them."""
        for shard, its in zip(self._shards, self._map.sessions(session), strict=True):
            shard.close_session(its)

    def report(self, session: Session, counters: Mapping[str, int]) -> None:
        """In the first."""
        self._shards[0].report(self._map.sessions(session)[0], counters)

    def doubts(self, limit: int = 1000) -> list[Doubt]:
        """Of all of them, the newest first. The numbers of ownerships are those of the key's shard."""
        doubts = [doubt for shard in self._shards for doubt in shard.doubts(limit)]
        return sorted(doubts, key=lambda doubt: -doubt.time_ms)[: max(limit, 0)]

    def survey(self) -> Survey:
        """The sum; sessions, frontiers and counters as the first knows them."""
        first, *others = [shard.survey() for shard in self._shards]
        return replace(
            first,
            claims=first.claims + sum(other.claims for other in others),
            done=first.done + sum(other.done for other in others),
            doubts=first.doubts + sum(other.doubts for other in others),
        )

    def is_new(self) -> bool:
        """Whether any of them is."""
        return any(shard.is_new() for shard in self._shards)

    def close(self) -> None:
        """All of them."""
        for shard in self._shards:
            shard.close()


class PipelinedShards(ShardedStore):
    """Of shards that offer a pipe. Args: `pipes` make one for each shard; see `ShardedPipe` for `timeout_s`."""

    def __init__(self, shards: Sequence[Store], pipes: Sequence[Any], timeout_s: float) -> None:
        super().__init__(shards)
        self._open_pipes = pipes
        self._timeout_s = timeout_s

    def pipe(self) -> StorePipe:
        """One connection to each shard, which look like one."""
        return ShardedPipe([open_pipe() for open_pipe in self._open_pipes], self._map, self._timeout_s)


@dataclass(slots=True)
class _Away:
    """A call that every shard was sent."""

    call: StoreCall
    calls: list[StoreCall]
    parts: list[_Part]
    sessions: list[Session | None]


class ShardedPipe:
    """See `ports.StorePipe`. Answers are taken from a shard as they come, and kept until all have answered a call."""

    def __init__(self, pipes: Sequence[StorePipe], shared: _Map, timeout_s: float) -> None:
        self._pipes = list(pipes)
        self._map = shared
        self.timeout_s = timeout_s
        self._away: deque[_Away] = deque()
        self._replies: list[deque[object]] = [deque() for _ in pipes]
        self._watched: list[int] = [-1] * len(self._pipes)
        self._selector: selectors.BaseSelector | None = None

    def send(self, session: Session | None, call: StoreCall) -> None:
        away = self._split(session, call)
        self._away.append(away)
        for pipe, its_session, its_call in zip(self._pipes, away.sessions, away.calls, strict=True):
            pipe.send(its_session, its_call)
        self._watch()

    def _split(self, session: Session | None, call: StoreCall) -> _Away:
        nobody: list[Session | None] = [None] * len(self._pipes)
        if isinstance(call, OpenSession):
            calls = [replace(call, previous=before) for before in self._map.previous(call.previous)]
            return _Away(call, list(calls), [], nobody)
        if isinstance(call, TakeOwnerships):
            assert session is not None
            return _Away(call, [call] * len(self._pipes), [], list(self._map.sessions(session)))
        parts = self._map.split(call)
        return _Away(call, [part.exchange for part in parts], parts, nobody)

    def _watch(self) -> None:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        for at, pipe in enumerate(self._pipes):
            descriptor = pipe.descriptor()
            if descriptor not in (self._watched[at], -1):
                self._watched[at] = descriptor
                self._selector.register(descriptor, selectors.EVENT_READ)

    def descriptor(self) -> int:
        """The selector's own: readable when any shard's is."""
        selector: Any = self._selector
        return -1 if selector is None else int(selector.fileno())

    def readable(self) -> bool:
        """Whether all have answered the oldest call. Takes what is there, or part of an answer would look like one."""
        for at, (pipe, replies) in enumerate(zip(self._pipes, self._replies, strict=True)):
            while len(replies) < len(self._away) and pipe.readable():
                away = self._away[len(replies)]
                replies.append(pipe.receive(away.sessions[at], away.calls[at]))
        return bool(self._away) and all(self._replies)

    def receive(self, session: Session | None, call: StoreCall) -> object:  # noqa: ARG002
        away = self._away.popleft()
        replies: list[Any] = [replies.popleft() for replies in self._replies]
        if isinstance(call, OpenSession):
            return self._map.join_sessions(replies)
        if isinstance(call, TakeOwnerships):
            return self._map.join_ownerships(replies)
        return self._map.join(call, away.parts, replies)

    def drop(self) -> None:
        self._away.clear()
        for replies in self._replies:
            replies.clear()
        if self._selector is not None:
            self._selector.close()
        self._selector, self._watched = None, [-1] * len(self._pipes)
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.drop()
