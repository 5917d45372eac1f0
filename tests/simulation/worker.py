"""One process: the production engine, and what the runner does with it, cut into turns that the scheduler takes.

The order of things in a turn is the runner's. Between any two effects the process may be stopped or killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kafka_once.core.delivery import Defect
from kafka_once.core.engine import Engine
from kafka_once.core.lane import Group as LaneGroup
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import BrokerRefused, BrokerUnavailable, MissingKey
from kafka_once.message import Message, TopicPartition
from tests.simulation.group import Commit, Told
from tests.simulation.handlers import Runs
from tests.simulation.history import Asked, DeadLettered, Delivered, Given, Gone, Left, StoodStill
from tests.simulation.wire import digest_of

if TYPE_CHECKING:
    from kafka_once.core.calls import CommitMark, CommitResult, Seek, Session
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.rules import Effects
    from tests.simulation.plan import Planned
    from tests.simulation.wire import Answer
    from tests.simulation.world import World

__all__ = ["Publish", "Worker"]

_TURN_AT_LEAST_EVERY_MS = 100  # what the runner waits at most, more or less


_EFFECTS = {
    "start": "start handlers",
    "append": "publish a dead letter",
    "_commit": "commit",
    "update": "pause partitions",
    "difference_update": "resume partitions",
    "withdraw": "withdraw",
}


def _describe(call: StoreCall) -> str:
    if isinstance(call, OpenSession):
        return "send: open a session"
    if isinstance(call, TakeOwnerships):
        return "send: take ownerships"
    parts = {"claim": call.claims, "complete": call.completes, "release": call.releases, "end": call.ends}
    said = [name for name, asks in parts.items() if asks]
    return "send: " + (", ".join(said) or "renew")


@dataclass(slots=True)
class _Held:
    """One assignment: the next message of the log to fetch; None until the engine has said where it starts. Of a topic
    that was made anew it gets nothing until it is assigned again."""

    position: int | None
    tenure: int
    generation: int = 0


@dataclass(slots=True)
class _Revocation:
    names: list[TopicPartition]
    until_ms: int


@dataclass(slots=True)
class Publish:
    """A dead letter on its way."""

    worker: Worker
    delivery: Delivery


class Worker:
    """`state`: "alive" | "paused" | "dead" | "ended"."""

    def __init__(self, world: World, number: int, engine: Engine) -> None:
        rules = engine.rules
        self.number = number
        self.name = f"w{number}"
        self.engine = engine
        self.state = "alive"
        self.wakes_ms = 0
        self.stalled_until_ms = 0  # its loop stands still, its handlers go on
        self.cut_off_until_ms = 0  # the store is out of its reach
        self.session: Session | None = None  # of the last call to open one, as the store's link keeps it
        self.bound: set[TopicPartition] = set()  # what it holds or thinks it holds
        self.told: deque[Told] = deque()
        self.fenced = False  # another process has its static id
        self.answers: list[list[CommitResult]] = []
        self.tenures: dict[Message, int] = {}
        self.runs = Runs(world, self, None if rules.exclusive else world.plan.hand_out)
        self.world = world
        self._clock_ahead_ms = number * 1_000_003  # monotonic clocks have nothing in common
        self._inbox: deque[Callable[[], None]] = deque()
        self._rest: deque[Callable[[], None]] = deque()  # effects that the process was stopped before
        self._held: dict[TopicPartition, _Held] = {}
        self._paused: set[TopicPartition] = set()
        self._fresh: list[TopicPartition] = []
        self._revocation: _Revocation | None = None
        self._closing = False
        self._drain_until_ms: int | None = None
        self._turned_ms = -1_000
        self._ticked_ms = self.now_ms
        self._stirred = True

    # --------------------------------------------------------------------------------------------------- looked at

    @property
    def now_ms(self) -> int:
        return self.world.now_ms + self._clock_ahead_ms

    @property
    def joined(self) -> bool:
        """Whether the group gives it partitions."""
        return self.state in {"alive", "paused"} and not self._closing and not self.fenced

    @property
    def idle(self) -> bool:
        return not (self._inbox or self._rest or self._revocation or self.runs.busy or self.told or self._fetchable())

    def wants_turn(self) -> bool:
        now_ms = self.world.now_ms
        if now_ms < self.stalled_until_ms:
            return False
        if self._inbox or self._rest or self._stirred or self.answers or self._fetchable():
            return True
        if now_ms == self._turned_ms:  # only time could bring something
            return False
        if self._revocation is not None or (self.told and self.told[0].due_ms <= now_ms):
            return True
        due_ms = self.engine.next_due_ms()
        return (due_ms is not None and due_ms <= self.now_ms) or now_ms - self._turned_ms >= _TURN_AT_LEAST_EVERY_MS

    def _fetchable(self) -> list[TopicPartition]:
        logs, generation = self.world.group.logs, self.world.group.generation
        unpaused = [
            (name, held.position)
            for name, held in self._held.items()
            if name not in self._paused and held.generation == generation
        ]
        return [name for name, position in unpaused if position is not None and position < len(logs[name])]

    # --------------------------------------------------------------------------------------------------- from outside

    def post(self, answer: Answer) -> None:
        """Nothing here is a closure: a copy of the world must be one of its parts too."""
        name, told = answer
        self._inbox.append(partial(self._on_answer, name, told))

    def _on_answer(self, name: str, told: tuple[Any, ...]) -> None:
        if name == "on_session":
            self.session = told[1]
        getattr(self.engine, name)(*told)

    def post_ran(self, group: LaneGroup) -> None:
        self._inbox.append(partial(self.engine.on_ran, group))

    def wake(self) -> None:
        self.state = "alive"

    def stop(self) -> None:
        self._inbox.append(self.engine.stop)

    def fence(self, told_ms: int) -> None:
        """Its static instance has joined again: Kafka refuses this one for good, which it learns in a later poll."""
        self.fenced = True
        self.told.append(Told("fenced", sorted(self.bound), told_ms))

    # ------------------------------------------------------------------------------------------------------- the turns

    def turn(self) -> None:
        self._turned_ms = self.world.now_ms
        self._stirred = False
        if self._rest:
            self._go_on()
        elif self._revocation is not None:
            self._drain(self._revocation)
        else:
            self._whole_turn()

    def _whole_turn(self) -> None:
        self._tick()
        self._take_inbox()
        self._perform(self.engine.decide(), inside_callback=False)
        if self.state == "alive":
            self._poll()
        if self.state != "alive" or self._revocation is not None:
            return
        self._read_committed()
        self._deliver()
        if self.engine.stopping:
            self._end_if_drained()

    def look_at_the_clock(self) -> None:
        """For the onlooker: was this process still for too long? Its own clock says so as well."""
        if self.now_ms - self._ticked_ms >= self.engine.rules.stall_ms:
            self.world.saw("stood still")
            self.world.note(StoodStill(self.name, self.world.next_number()))
            self._ticked_ms = self.now_ms

    def _tick(self) -> None:
        self.look_at_the_clock()
        self._ticked_ms = self.now_ms
        self.engine.tick(self.now_ms, self.world.random.getrandbits(53))
        if not self.engine.rules.exclusive:
            self.engine.offer(self.runs.room())

    def _take_inbox(self) -> None:
        while self._inbox:
            self._inbox.popleft()()
        for running in self.runs.running:
            if len(running.group.results) > running.group.seen:
                self.engine.on_results(running.group)

    def _poll(self) -> None:
        for results in self.answers:
            self._tick()
            self.engine.on_committed(results)
        self.answers.clear()
        while self.told and self.told[0].due_ms <= self.world.now_ms and self._revocation is None:
            self._on_told(self.told.popleft())

    def _on_told(self, told: Told) -> None:
        self._tick()
        self._stirred = True
        if told.what == "assigned":
            self.engine.on_assigned(told.names)
            for name in told.names:
                self.world.note(Given(self.name, name.partition))
                self._held[name] = _Held(None, self.world.next_number())
                self._paused.discard(name)
            self._fresh.extend(told.names)
            return
        names = [name for name in told.names if name in self._held]
        if told.what == "revoked":
            self._revoke(names)
            return
        self.world.saw(f"{told.what} told")
        self.engine.on_lost(names)
        self.runs.withdraw(names)
        self._let_go(names)
        if told.what == "fenced":
            self.engine.stop(BrokerRefused("fenced"))

    def _let_go(self, names: list[TopicPartition]) -> None:
        for name in names:
            self._held.pop(name, None)
            self.world.note(Gone(self.name, name.partition))
        self._fresh = [name for name in self._fresh if name not in names]
        self.world.group.released(self, names)

    def _read_committed(self) -> None:
        if not self._fresh or (self.world.faulty and self.world.random.random() < 0.2):
            return
        self._tick()
        for name in self._fresh:
            self._held[name].generation = self.world.group.generation
            self.engine.on_looked_up(name, *self.world.group.standing(name))
        self._fresh.clear()

    def _deliver(self) -> None:
        fetchable = self._fetchable()
        if not fetchable:
            return
        self._tick()
        self._stirred = True
        name = self.world.random.choice(fetchable)
        held = self._held[name]
        log = self.world.group.logs[name]
        assert held.position is not None
        for planned in log[held.position : held.position + self.world.random.randint(1, 8)]:
            held.position += 1
            self._deliver_one(name, planned, held.tenure)

    def _deliver_one(self, name: TopicPartition, planned: Planned, tenure: int) -> None:
        record_key = None if planned.record_key is None else planned.record_key.encode()
        topic_id = self.world.group.topic_id
        message = Message(name.topic, name.partition, planned.offset, key=record_key, leader_epoch=0, topic_id=topic_id)
        self.tenures[message] = tenure
        self.world.note(Delivered(self.name, self.world.group.place(name, topic_id), planned.offset))
        digest = digest_of(planned.key) if planned.kind != "unprotected" and self.engine.rules.store else None
        defect = Defect("no idempotency key", MissingKey("none"), fatal=False) if planned.kind == "defect" else None
        self.engine.on_delivered(name, [message], [(digest, defect)])

    # ----------------------------------------------------------------------------------------------------- the effects

    def _perform(self, effects: Effects, *, inside_callback: bool) -> None:
        steps = self._rest
        world = self.world
        if effects.rejoin and not inside_callback:
            steps.append(self._rejoin)
        steps.extend(partial(world.wire.send, self, call) for call in effects.calls)
        if effects.withdraw:
            steps.append(partial(self.runs.withdraw, None))
        steps.extend(partial(self.runs.start, group) for group in effects.groups)
        publishing = world.pending["publish"]
        steps.extend(partial(publishing.append, Publish(self, delivery)) for delivery in effects.publish)
        if effects.commit:
            steps.append(partial(self._commit, effects.commit, inside_callback=inside_callback))
        steps.extend(partial(self._fresh.append, name) for name in effects.look_up)
        steps.extend(partial(self._seek, seek) for seek in effects.seek)
        if effects.pause:
            steps.append(partial(self._paused.update, effects.pause))
        if effects.resume:
            steps.append(partial(self._paused.difference_update, effects.resume))
        self._go_on()

    def _rejoin(self) -> None:
        """A new membership: what the old one was told, and not yet heard, counts no more."""
        self.world.saw("rejoined")
        self.told = deque(told for told in self.told if told.what == "fenced")
        names = list(self.bound)
        self._tick()
        self.engine.on_lost(names)
        self.runs.withdraw(names)
        self._let_go(names)
        self.engine.on_rejoined()

    def _seek(self, seek: Seek) -> None:
        if seek.partition in self._held:
            if seek.offset > self.world.group.committed.get(seek.partition, 0):
                self.world.saw("started at the frontier")
            self._held[seek.partition].position = self.world.group.index_of(seek.partition, seek.offset)

    def _go_on(self) -> None:
        """The process may be stopped, or killed, before any of its effects."""
        while self._rest and not self.world.cuts(self):
            self._rest.popleft()()

    @property
    def next_effect(self) -> str:
        """What it is about to do, in words."""
        effect = self._rest[0]
        if not isinstance(effect, partial):
            return "effect"
        name = effect.func.__name__
        if name == "send":
            return _describe(effect.args[1])
        return _EFFECTS.get(name, name)

    def _commit(self, marks: list[CommitMark], *, inside_callback: bool) -> None:
        for mark in marks:
            self.world.note(Asked(self.name, mark.partition.partition, mark.offset))
        commit = Commit(self, marks, self.world.commit_fate())
        if not inside_callback:
            self.world.pending["commit"].append(commit)
            return
        self.world.finish_commits(self)
        self.engine.on_committed(self.world.group.commit(commit))

    # ------------------------------------------------------------------------------------------ revocations and the end

    def _revoke(self, names: list[TopicPartition]) -> None:
        self.engine.on_revoked(names)
        self.runs.withdraw(names)
        until_ms = self._drain_until_ms or self.world.now_ms + self.world.plan.drain_ms
        self._revocation = _Revocation(names, until_ms)

    def _drain(self, revocation: _Revocation) -> None:
        """A turn without a poll, inside the callback."""
        drained = self.engine.drained(revocation.names)
        if not drained and self.world.now_ms < revocation.until_ms:
            self._turn_without_poll()
            if self.state == "alive" and self.engine.awaits_commit(revocation.names):
                self._commit_last()
                self.engine.on_uncommitted(revocation.names)
            return
        self.world.saw("revoked, drained" if drained else "revoked, not drained")
        self._commit_last()
        self.engine.on_gone(revocation.names)
        self._revocation = None
        self._let_go(revocation.names)
        self._turn_without_poll()
        if self._closing and self.state == "alive":
            self._end()

    def _turn_without_poll(self) -> None:
        self._tick()
        self._take_inbox()
        self._perform(self.engine.decide(), inside_callback=True)

    def _commit_last(self) -> None:
        self._tick()
        marks = self.engine.commit_last()
        if marks:
            self._commit(marks, inside_callback=True)

    def _end_if_drained(self) -> None:
        if self._drain_until_ms is None:
            self.runs.withdraw(None)
            self._drain_until_ms = self.world.now_ms + self.world.plan.drain_ms
        if self.engine.drained() or self.world.now_ms >= self._drain_until_ms:
            self._closing = True
            self._commit_last()
            self._revoke(list(self._held))

    def _end(self) -> None:
        """The goodbye; then the process is no more."""
        clean = self.engine.drained() and not self.runs.busy
        self.world.saw("ended, drained" if clean else "ended, not drained")
        self.world.wire.close(self)
        self.world.end(self)
        self.world.note(Left(self.name, clean, self.engine.counters.as_dict()))

    def die(self, state: str) -> None:
        """Nothing more comes from here."""
        self.state = state
        self.runs.die()
        self._inbox.clear()
        self._rest.clear()

    # ----------------------------------------------------------------------------------------------------- dead letters

    def published(self, delivery: Delivery, *, taken: bool, known: bool) -> None:
        if taken:
            name = delivery.partition.name
            group, topic_id = self.world.group, delivery.message.topic_id
            key = group.key_at(name, topic_id, delivery.offset)
            self.world.note(DeadLettered(group.place(name, topic_id), delivery.offset, key))
        if self.state in {"alive", "paused"}:
            error = None if known else BrokerUnavailable("no answer")
            self._inbox.append(partial(self.engine.on_published, delivery, error))
