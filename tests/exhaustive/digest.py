"""Sixteen bytes that are the same for two worlds only if everything that can still happen in them is the same.

The walk goes over every field of every object, so that a field that somebody adds to the engine counts by itself (at
worst nothing looks equal any more, and the search says that it did not end). What is named in `_FIELDS` is taken for
less than it is: numbers that are only ever compared by their rank among their like, times by how far away they are,
and what decides nothing (counters, notes, fences) not at all.
"""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from hashlib import blake2b
from itertools import count
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from kafka_once.core import (
    assignment,
    calls,
    claiming,
    claims,
    commits,
    correspondence,
    delivery,
    desk,
    engine,
    lane,
    lanes,
    reminder,
    watch,
)
from kafka_once.core import partition as partition_
from kafka_once.core.rules import OpenSession, Rules, TakeOwnerships
from kafka_once.core.timer import Timer
from kafka_once.message import Message
from kafka_once.stores import memory
from tests.exhaustive.books import books
from tests.simulation import group, handlers, plan, wire, worker, world

if TYPE_CHECKING:
    from tests.exhaustive.small_world import SmallWorld

__all__ = ["digest"]

_NEVER = -1
_LONG_AGO_MS = 1_000
_FAR_MS = 1_000_000
_REMEMBERED_MS = 2_100  # and longer is forgotten with the next one
_MOST_REFUSALS = 8  # the wait does not grow any more

Field = Callable[["_Walk", Any, Any], None]  # walk, the object, the field's value


def digest(world: SmallWorld) -> bytes:
    rules = world.plan.rules
    assert min(rules.stall_ms, rules.stalled_after_ms) >= _FAR_MS, "how long something stood still is not told here"
    walk = _Walk(world)
    walk.whole()
    return walk.digest()


def _rank(kind: str) -> Field:
    return lambda walk, _owner, number: walk.rank(kind, number)


def _rank_all(kind: str) -> Field:
    return lambda walk, _owner, numbers: [walk.rank(kind, number) for number in numbers] and None


def _ahead(walk: _Walk, _owner: Any, time_ms: Any) -> None:
    """How far away; all of the past is one, and so is what is too far to be reached."""
    walk.add(_NEVER if time_ms is None else min(max(time_ms - walk.now_ms, 0), _FAR_MS))


def _since(walk: _Walk, _owner: Any, time_ms: int) -> None:
    """How long ago; past a lease and more it is all one."""
    walk.add(min(walk.now_ms - time_ms, _LONG_AGO_MS))


def _call(walk: _Walk, owner: Any, number: int) -> None:
    """Call numbers are compared within one session."""
    session = owner.session
    walk.rank(f"call {session if isinstance(session, int) else session.number}", number)


def _epoch(walk: _Walk, _owner: Any, epoch: int) -> None:
    """Compared with others; and the first is told from the later ones."""
    walk.rank("epoch", epoch)
    walk.add(min(epoch, 2))


def _metadata(walk: _Walk, _owner: Any, metadata: str) -> None:
    """What a commit carries: mark, topic id, epoch, offset."""
    parts = metadata.split(":")
    walk.add(len(parts))
    for number, part in enumerate(parts):
        if number == len(parts) - 2 and part.isdigit():
            _epoch(walk, None, int(part))
        else:
            walk.add(part)


def _nothing(_walk: _Walk, _owner: Any, _value: Any) -> None:
    pass


def _tenure(walk: _Walk, _owner: Any, message: Message) -> None:
    walk.add(message.offset)
    walk.rank("number", walk.tenures.get(message, 0))


def _name(walk: _Walk, _owner: Any, name: str) -> None:
    walk.rank("worker", int(name[1:]))


def _error(walk: _Walk, _owner: Any, error: Any) -> None:
    walk.add(type(error).__name__)


_FIELDS: dict[type, dict[str, Field]] = {
    engine.Engine: {"rules": _nothing, "counters": _nothing},
    desk.Desk: {
        "rules": _nothing,
        "counters": _nothing,
        "now_ms": _nothing,  # of the last turn; the next one brings its own
        "entropy": _nothing,
        "error": _error,
    },
    lanes.Lanes: {"now_ms": _nothing, "room": _nothing, "_exclusive": _nothing, "_concurrency": _nothing},
    Timer: {"_heap": lambda walk, _owner, heap: walk.timer(heap)},
    correspondence.Correspondence: {
        "_last_call": _nothing,  # the next one is the newest whatever it is
        "_previous": _rank("session"),
        "trusted_until_ms": _ahead,
        "_renew_due_ms": _ahead,
        "_repeat_due_ms": _ahead,
        "_marks": lambda walk, _owner, marks: walk.walk(list(marks.values())),
        "_ends": _rank_all("ownership"),
    },
    correspondence._Sent: {"sent_ms": _since},
    commits.Commits: {"due_ms": _ahead},
    assignment.Assignment: {"_rules": _nothing},
    claiming.Claiming: {"_rules": _nothing, "_settle_first": _nothing},
    reminder.Reminder: {
        "_server": lambda walk, _owner, server: walk.add(server == walk.server),
        "_ends": _rank_all("ownership"),
        "_kept": lambda walk, owner, kept: walk.kept(owner, kept),
    },
    calls.ExchangeReply: {"server": lambda walk, _owner, server: walk.add(server == walk.server)},
    calls.CommitMark: {"metadata": _metadata},
    calls.Committed: {"metadata": _metadata},
    partition_.Partition: {
        "epoch": _epoch,
        "_name_lane": _nothing,
        "ownerships": _rank_all("ownership"),
        "take_due_ms": _ahead,
    },
    lane.Lane: {"due_ms": _ahead},
    watch.Watch: {
        "_turned_ms": _nothing,  # nothing is ever too long here: see `digest`
        "_due_ms": _ahead,
        "_running": lambda walk, _owner, running: walk.walk(list(running)),  # groups have no order but their own
    },
    lane.Group: {
        "since_ms": _nothing,
        "begin_before_ms": _ahead,
        "results": lambda walk, _owner, results: walk.errors(results),
    },
    delivery.Delivery: {
        "session": _rank("session"),
        "call": _call,
        "fence": _nothing,
        "message": _tenure,
        "refusals": lambda walk, _owner, refusals: walk.add(min(refusals, _MOST_REFUSALS)),
        "error": _error,
    },
    calls.Session: {"number": _rank("session"), "token": _nothing},
    calls.Ownership: {
        "number": _rank("ownership"),
        "epoch": _epoch,
    },
    calls.Exchange: {"call": _call, "ends": _rank_all("ownership")},
    calls.CompleteAsk: {"session": _rank("session")},
    calls.ReleaseAsk: {"session": _rank("session"), "call": _call, "ownership": _rank("ownership")},
    calls.FrontierMark: {"ownership": _rank("ownership")},
    calls.ClaimAsk: {"ownership": _rank("ownership")},
    TakeOwnerships: {"call": _rank("take")},
    OpenSession: {"token": lambda walk, _owner, token: walk.opened(token), "previous": _rank("session")},
    claims.ClaimAnswer: {"fence": _nothing},
    claims.Claimed: {
        "session": _rank("session"),
        "ownership": _rank("ownership"),
        "call": _call,
        "fence": _nothing,
    },
    claims.Done: {"session": lambda walk, _owner, short: walk.rank("session", walk.shortened.get(short, 0))},
    memory._Partition: {
        "epoch": _epoch,
        "newest": _rank("ownership"),
        "frontier_by": _rank("ownership"),
    },
    memory._Take: {
        "call": _rank("take"),
        "ownership": _rank("ownership"),
        "epoch": _epoch,
    },
    group.Told: {"due_ms": _nothing},  # whether it is due is told with each process
    group.Commit: {},
    worker._Held: {"tenure": _rank("number")},
    worker._Revocation: {"until_ms": _ahead},
    handlers.Running: {"run": _rank("number"), "until_ms": _nothing},
    handlers.Runs: {"_world": _nothing, "_worker": _nothing, "_hand_out": _nothing},
    wire.Copy: {"due_ms": _nothing},
    worker.Worker: {
        "number": _nothing,
        "name": _name,
        "wakes_ms": _nothing,
        "stalled_until_ms": _nothing,
        "cut_off_until_ms": _nothing,
        "tenures": _nothing,  # told with each message
        "world": _nothing,
        "_clock_ahead_ms": _nothing,
        "_ticked_ms": _nothing,
        "_drain_until_ms": lambda walk, owner, until_ms: _ahead(
            walk, owner, None if until_ms is None else until_ms + owner._clock_ahead_ms
        ),
        "_turned_ms": lambda walk, owner, turned_ms: walk.add(min(owner.world.now_ms - turned_ms, 100)),
    },
}


class _Walk:
    """Tokens in the order of the walk; numbers of a kind become their ranks at the end."""

    def __init__(self, world: SmallWorld) -> None:
        self.now_ms = 0
        self.tenures: dict[Message, int] = {}
        self.shortened = {number % claims.SHORT_SESSION: number for number in world.wire._leases}
        self._world = world
        self.server: str = world.store._state.server  # type: ignore[attr-defined]
        self._tokens: list[Any] = []
        self._ranked: dict[str, list[tuple[int, int]]] = {}
        self._seen: dict[int, int] = {}
        self.add = self._tokens.append

    def digest(self) -> bytes:
        tokens = self._tokens
        for places in self._ranked.values():
            ranks = {number: rank for rank, number in enumerate(sorted({number for _, number in places}))}
            for place, number in places:
                tokens[place] = ranks[number]
        return blake2b(marshal.dumps(tokens, 2), digest_size=16).digest()

    def rank(self, kind: str, number: int | None) -> None:
        if number is None:
            self._tokens.append(_NEVER)
            return
        self._ranked.setdefault(kind, []).append((len(self._tokens), number))
        self._tokens.append(None)

    # ------------------------------------------------------------------------------------------------- what there is

    def whole(self) -> None:
        world = self._world
        walk = self.walk
        walk(sorted(world.faults.items()))
        for process in world.processes:
            self.worker(process)
        for process in world.slots:
            walk(process)
        self.now_ms = world.now_ms
        self._store(world.store._records)  # type: ignore[attr-defined]
        self.add(world.follower is not None)
        if world.follower is not None:
            self._store(world.follower.records(world.store._namespace, None))  # type: ignore[attr-defined]
        for number, lease in sorted(world.wire._leases.items()):
            if lease.ends_ms >= 0:
                self.rank("session", number)
                self.add(lease.ends_ms - self.now_ms)
        for process, session in world.wire.goodbyes:
            walk(session)
            self.rank("worker", process.number)
        self._kafka()
        walk({kind: count for kind, count in world.runs_of_key.items() if kind in world.plan.behaviours})
        walk(world.pending)
        for item in books(world.checkers, self):
            walk(item)

    def worker(self, process: worker.Worker) -> None:
        self.now_ms, self.tenures = process.now_ms, process.tenures
        self.walk(process)
        self.walk(self._world.wire._away.get(process, ()))
        self.now_ms = self._world.now_ms
        self.walk([told.due_ms <= self.now_ms for told in process.told])

    def _store(self, records: Any) -> None:
        now_ms = self.now_ms
        self.walk(records.keys)
        for number, holder in sorted(records.workers.items()):
            if holder.lease_ends_ms > now_ms:  # one that lapsed is as good as none
                self.rank("session", number)
                self.add(holder.lease_ends_ms - now_ms)
                for ownership, owned in sorted(holder.ownerships.items()):
                    self.rank("ownership", ownership)
                    self.walk(owned.where)
                self.walk(holder.takes)
        for instance, number in sorted(records.instances.items()):
            self.add(instance)
            self.rank("session", number)
        self.walk(records.partitions)
        self.add(max(records.grace_until_ms - now_ms, 0))
        self.add(records.server in {"", self.server})
        self.walk({doubt.digest for doubt in records.doubts})

    def _kafka(self) -> None:
        kafka = self._world.group
        self.add(len(kafka._to_come))
        self.walk(kafka.committed)
        for _, metadata in sorted(kafka.metadata.items()):
            _metadata(self, None, metadata)
        for name in sorted(kafka.owners):
            self.walk(name)
            self.rank("worker", kafka.owners[name].number)
        self.walk(kafka.rewound)

    # ------------------------------------------------------------------------------------------------------- the walk

    def walk(self, value: Any) -> None:
        kind = type(value)
        if kind in _PLAIN:
            self._tokens.append(value)
            return
        walker = _WALKERS.get(kind)
        if walker is None:
            walker = _WALKERS[kind] = _walker_of(kind)
        walker(self, value)

    def first(self, value: Any) -> bool:
        """Whether the object is seen for the first time; else a reference to it is the token."""
        number = self._seen.get(id(value))
        if number is not None:
            self._tokens.append(number)
            return False
        self._seen[id(value)] = len(self._seen)
        return True

    def timer(self, heap: list[tuple[int, int, Any]]) -> None:
        self.add(len(heap))
        for due_ms, _, item in sorted(heap, key=lambda entry: entry[:2]):
            self.add(max(due_ms - self.now_ms, 0))
            self.walk(item)

    def kept(self, owner: reminder.Reminder, kept: Any) -> None:
        """What would be said again to another server; nothing if no other will come."""
        if "failover" in self._world.faults or owner._server != self.server:
            for sent_ms, completed, releases, ends in kept:
                self.add(min(self.now_ms - sent_ms, _REMEMBERED_MS))
                self.walk([*reminder._asks_of(completed), *releases])
                _rank_all("ownership")(self, owner, ends)

    def opened(self, token: int) -> None:
        """What the store says to that token, if it has seen it."""
        session = self._world.store._records.opened.get(token)  # type: ignore[attr-defined]
        self.rank("session", None if session is None else session.number)

    def errors(self, results: list[Any]) -> None:
        self.add(len(results))
        for error in results:
            self.add(type(error).__name__)


_PLAIN = frozenset({int, str, bytes, bool, float, type(None)})


def _sequence(walk: _Walk, items: Any) -> None:
    walk.add(len(items))
    for item in items:
        walk.walk(item)


def _set(walk: _Walk, items: Any) -> None:
    _sequence(walk, sorted(items, key=_order))


def _order(item: Any) -> Any:
    return item if isinstance(item, int | bytes) else repr(item)


def _dict(walk: _Walk, items: dict[Any, Any]) -> None:
    walk.add(len(items))
    for key, value in sorted(items.items(), key=_key_order):
        walk.walk(key)
        walk.walk(value)


def _key_order(item: tuple[Any, Any]) -> Any:
    return str(item[0])


def _partial(walk: _Walk, what: partial[Any]) -> None:
    walk.add(what.func.__name__)
    _sequence(walk, what.args)
    _dict(walk, what.keywords)


def _object(fields: tuple[tuple[str, Field | None], ...]) -> Callable[[_Walk, Any], None]:
    def walk_object(walk: _Walk, value: Any) -> None:
        if not walk.first(value):
            return
        for name, field in fields:
            if field is None:
                walk.walk(getattr(value, name, None))
            else:
                field(walk, value, getattr(value, name, None))

    return walk_object


def _open_object(specs: dict[str, Field]) -> Callable[[_Walk, Any], None]:
    """One without slots: its fields are what it has."""

    def walk_object(walk: _Walk, value: Any) -> None:
        if not walk.first(value):
            return
        for name, item in value.__dict__.items():
            field = specs.get(name)
            if field is None:
                walk.walk(item)
            elif field is not _nothing:
                field(walk, value, item)

    return walk_object


def _process(walk: _Walk, process: worker.Worker) -> None:
    """Nothing more comes from the dead."""
    if process.state in {"dead", "ended"}:
        walk.add(process.state)
    else:
        _PROCESS(walk, process)


def _named_tuple(fields: tuple[tuple[str, Field | None], ...]) -> Callable[[_Walk, Any], None]:
    def walk_tuple(walk: _Walk, value: Any) -> None:
        for (_, field), item in zip(fields, value, strict=True):
            if field is None:
                walk.walk(item)
            else:
                field(walk, value, item)

    return walk_tuple


def _walker_of(kind: type) -> Callable[[_Walk, Any], None]:
    if issubclass(kind, Enum):
        return lambda walk, value: walk.add(value.name)
    if issubclass(kind, BaseException):
        return lambda walk, value: walk.add(type(value).__name__)
    if kind.__module__.partition(".")[0] not in {"kafka_once", "tests"}:
        raise AssertionError(f"the digest does not know what to make of {kind}")
    specs = _FIELDS.get(kind, {})
    if issubclass(kind, tuple):
        return _named_tuple(tuple((name, specs.get(name)) for name in kind._fields))  # type: ignore[attr-defined]
    slots = [name for each in kind.__mro__ for name in getattr(each, "__slots__", ())]
    if not slots:
        return _open_object(specs)
    return _object(tuple((name, specs.get(name)) for name in slots if specs.get(name) is not _nothing))


_PROCESS = _open_object(_FIELDS[worker.Worker])

_WALKERS: dict[type, Callable[[_Walk, Any], None]] = {
    list: _sequence,
    tuple: _sequence,
    deque: _sequence,
    set: _set,
    frozenset: _set,
    dict: _dict,
    partial: _partial,
    FunctionType: lambda walk, function: walk.add(function.__name__),
    MethodType: lambda walk, method: walk.add(method.__name__),
    Rules: lambda _walk, _value: None,
    type(count()): lambda _walk, _value: None,
    plan.Plan: lambda _walk, _value: None,
    world.World: lambda _walk, _value: None,
    worker.Worker: _process,
}
