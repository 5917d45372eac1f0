"""How an exchange with the Redis scripts looks in bytes: packed here, unpacked in the scripts, and back.

Packed, because a batch of 500 claims is then one call with a handful of arguments, which neither side pays for by
message. Each format stands a second time in the script that reads it.
"""

from __future__ import annotations

import hashlib
import re
from struct import Struct
from typing import TYPE_CHECKING

from kafka_once.core.claims import ClaimAnswer, Completion, Grant, Release
from kafka_once.message import TopicPartition
from kafka_once.ports import Doubt, ExchangeReply, Ownership

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka_once.ports import Exchange, Namespace, OwnershipAsk, Session

__all__ = [
    "DIGEST_SIZE",
    "key_prefix",
    "packed_call",
    "packed_caller",
    "packed_exchange",
    "packed_ownership",
    "packed_session",
    "packed_settings",
    "read_doubt",
    "read_exchange",
    "read_frontiers",
    "read_ownership",
    "token_bytes",
]

DIGEST_SIZE = 16

_SETTINGS = Struct("<QQH")
_SESSION = Struct("<Q16s")
_CALL = Struct("<Q16sQ")
_COMPLETE = Struct("<QB")
_RELEASE = Struct("<16sQQBQq")
_FRONTIER = Struct("<QqiB")
_END = Struct("<Q")
_CLAIM = Struct("<QqB")
_ANSWER = Struct("<BBIQ")

_PARTITION = Struct("<i")
_SIZE = Struct("<H")
_OWNERSHIP = Struct("<QQqB")
_OFFSET_AND_EPOCH = Struct("<qi")
_STORED_FRONTIER = Struct("<qiQi")
_DOUBT = Struct("<Q16siqIQQB")

_NO_LEADER_EPOCH = -1
_REASONS = ("takeover", "raised")

# Answers without particulars, made once: by code, as are the names of the codes.
_PLAIN = [ClaimAnswer(grant) for grant in Grant]
_GRANTS = list(Grant)
_COMPLETIONS = list(Completion)
_RELEASES = list(Release)


def key_prefix(namespace: Namespace, shard: int = 0) -> str:
    """The beginning of all keys of a namespace; of one of its shards, each of which has a slot of its own.

    The group's name is there for people, without what could move the slot; the hash tells apart what the name does not.
    """
    hashed = hashlib.blake2b(digest_size=8)
    for part in namespace:
        encoded = part.encode()
        hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", namespace.group)[:24]
    tag = f"{name}-{hashed.hexdigest()}" + (f".{shard}" if shard else "")
    return f"kafka-once:{{{tag}}}:"


def token_bytes(token: int) -> bytes:
    """A session's token. Bytes, because the scripts' numbers hold 53 bits only."""
    return token.to_bytes(16, "little")


def packed_settings(lease_ms: int, remember_ms: int, shards: int) -> bytes:
    """Pack the settings that every script is given."""
    return _SETTINGS.pack(lease_ms, remember_ms, shards)


def packed_caller(settings: bytes, server: str, previous: str) -> bytes:
    """Say who asks: with which settings, and which server answers as far as the caller knows, and answered before."""
    return settings + _sized(server) + _sized(previous)


def packed_session(session: Session) -> bytes:
    """Name a session."""
    return _SESSION.pack(session.number, token_bytes(session.token))


def packed_call(session: Session, call: int) -> bytes:
    """Name a call of a session."""
    return _CALL.pack(session.number, token_bytes(session.token), call)


def packed_ownership(ask: OwnershipAsk) -> bytes:
    """Ask for a partition. Its identity is the topic's id where there is one: a topic made anew is another one.

    "#" cannot begin a topic's name, so an id is never taken for a name.
    """
    identity = (f"#{ask.topic_id}" if ask.topic_id else ask.topic) + f":{ask.partition}"
    return _PARTITION.pack(ask.partition) + _sized(identity) + _sized(ask.topic) + _sized(ask.topic_id)


def _sized(text: str) -> bytes:
    encoded = text.encode()
    return _SIZE.pack(len(encoded)) + encoded


def read_ownership(answer: bytes) -> Ownership:
    """Unpack what `take_ownerships.lua` answers for one partition."""
    number, epoch, claimed_up_to, earlier_topic = _OWNERSHIP.unpack_from(answer)
    frontier = None
    if len(answer) > _OWNERSHIP.size:
        offset, leader_epoch = _OFFSET_AND_EPOCH.unpack_from(answer, _OWNERSHIP.size)
        frontier = (offset, None if leader_epoch == _NO_LEADER_EPOCH else leader_epoch)
    return Ownership(number, epoch, frontier, claimed_up_to, bool(earlier_topic))


def packed_exchange(exchange: Exchange) -> tuple[bytes, ...]:
    """Pack the arguments of `exchange.lua`."""
    completed = b"".join([ask[0] for ask in exchange.completes])
    claimed = b"".join([ask[0] for ask in exchange.claims])
    assert len(completed) == DIGEST_SIZE * len(exchange.completes), "a digest has 16 bytes"
    assert len(claimed) == DIGEST_SIZE * len(exchange.claims), "a digest has 16 bytes"
    complete, release, claim = _COMPLETE.pack, _RELEASE.pack, _CLAIM.pack
    return (
        packed_call(exchange.session, exchange.call),
        completed,
        b"".join([complete(session, dead) for _, session, dead in exchange.completes]),
        b"".join(
            [
                release(digest, session, call, failed | doubt << 1, ownership, offset)
                for digest, session, call, failed, doubt, ownership, offset in exchange.releases
            ]
        ),
        b"".join(
            [
                _FRONTIER.pack(ownership, offset, _NO_LEADER_EPOCH if leader_epoch is None else leader_epoch, back)
                for ownership, offset, leader_epoch, back in exchange.frontiers
            ]
        ),
        b"".join([_END.pack(ownership) for ownership in exchange.ends]),
        claimed,
        b"".join(
            [
                claim(ownership, offset, follows | alone << 1 | held << 2)
                for _, ownership, offset, follows, alone, held in exchange.claims
            ]
        ),
    )


def read_exchange(exchange: Exchange, answer: bytes, server: str) -> ExchangeReply:
    """Unpack what `exchange.lua` answered to this exchange."""
    after_completes = 1 + len(exchange.completes)
    after_releases = after_completes + len(exchange.releases)
    return ExchangeReply(
        session_lives=answer[0] == 1,
        completes=[_COMPLETIONS[code] for code in answer[1:after_completes]],
        releases=[_RELEASES[code] for code in answer[after_completes:after_releases]],
        claims=list(map(_Answers().__getitem__, _ANSWER.iter_unpack(memoryview(answer)[after_releases:]))),
        server=server,
    )


class _Answers(dict[tuple[int, int, int, int], ClaimAnswer]):
    """As sent → as answered. In a call most are the same, so each is made once."""

    def __missing__(self, sent: tuple[int, int, int, int]) -> ClaimAnswer:
        grant, flags, attempts, fence = sent
        made = (
            ClaimAnswer(_GRANTS[grant], attempts, bool(flags & 1), bool(flags & 2), fence) if fence else _PLAIN[grant]
        )
        self[sent] = made
        return made


def read_doubt(member: bytes, time_ms: int) -> Doubt:
    """Unpack an entry of the list of what was in doubt."""
    _, digest, partition, offset, attempts, earlier, newer, reason = _DOUBT.unpack_from(member)
    topic = member[_DOUBT.size :].decode()
    return Doubt(digest, topic, partition, offset, attempts, earlier, newer, time_ms, _REASONS[reason])


def read_frontiers(values: Iterable[bytes]) -> dict[TopicPartition, int]:
    """Unpack all stored frontiers. Of a topic that was made anew, the newest ownership's counts."""
    stored = [(*_STORED_FRONTIER.unpack_from(value), value[_STORED_FRONTIER.size :].decode()) for value in values]
    stored.sort(key=lambda each: each[2])
    return {TopicPartition(topic, partition): offset for offset, _, _, partition, topic in stored}
