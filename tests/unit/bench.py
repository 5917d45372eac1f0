"""The engine on a bench: no threads, no sockets, time by hand. A test says what happens and looks at the effects."""

from collections.abc import Callable

from kafka_once.core.calls import CommitResult, Committed, Exchange, LogBounds, Seek
from kafka_once.core.delivery import Defect, Delivery
from kafka_once.core.engine import Engine
from kafka_once.core.events import Note
from kafka_once.core.lane import Group
from kafka_once.core.rules import Effects, OpenSession, Rules, StoreCall, TakeOwnerships
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import Namespace
from kafka_once.stores.memory import MemoryState, MemoryStore

ROW = [TopicPartition("t", number) for number in range(4)]
WHOLE = LogBounds(0, 1_000_000)
SET_BACK = Committed(0, None, "")  # by an operator's tool


class World:
    """One store and one clock, shared by the workers of a test."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.state = MemoryState()
        self.tokens = iter(range(1, 10_000))

    def store(self, lease_ms: int) -> MemoryStore:
        return MemoryStore(Namespace("c", "g"), lease_ms, clock_ms=lambda: self.now_ms, state=self.state)


class Worker:
    """One engine and what it asked for. Store calls are answered at once unless `store_answers` is False."""

    def __init__(self, world: World | None = None, **rules: object) -> None:
        self.world = world or World()
        self.rules = Rules(**{"commit_every_ms": 100, **rules})  # type: ignore[arg-type]
        self.engine = Engine(self.rules)
        self.store = self.world.store(self.rules.lease_ms)
        self.store_answers = True
        self.running: list[Group] = []
        self.publishing: list[Delivery] = []
        self.committed: dict[TopicPartition, int] = {}
        self.commits_answered = True
        self.paused: set[TopicPartition] = set()
        self.sought: list[Seek] = []
        self.found: dict[TopicPartition, tuple[LogBounds, Committed | None]] = {}  # what looking up finds
        self.calls: list[StoreCall] = []
        self.withdrawn = False
        self.observe: Callable[[Note], None] = lambda _note: None
        self.rejoins: list[str] = []
        self.notes: list[Note] = []
        self.cancelled: list[Group] = []

    # ----------------------------------------------------------------------------------------------- what the test says

    def own(self, *names: TopicPartition, log: LogBounds = WHOLE, committed: Committed | None = None) -> "Worker":
        self.tick()
        self.engine.on_assigned(names or ROW[:1])
        for name in names or ROW[:1]:
            self.found[name] = (log, committed)
            self.engine.on_looked_up(name, log, committed)
        return self.turn()

    def deliver(self, *keys: str, partition: TopicPartition = ROW[0], start: int = 0) -> "Worker":
        """Idempotency keys; with a record key in front, as in "account:key", where the order goes by that."""
        self.tick()
        for number, text in enumerate(keys):
            name, _, key = text.rpartition(":")
            digest = key.encode().ljust(16, b".") if key else None
            record_key = name.encode() if name else None
            message = Message(partition.topic, partition.partition, start + number, key=record_key)
            self.engine.on_delivered(partition, [message], [(digest, None)])
        return self.turn()

    def deliver_defect(self, *, fatal: bool) -> "Worker":
        self.tick()
        defect = Defect("no idempotency key", ValueError(), fatal=fatal)
        self.engine.on_delivered(ROW[0], [Message("t", 0, 0)], [(b"coordinates 0000", defect)])
        return self.turn()

    def run(self, *errors: BaseException | None, group: Group | None = None, took_ms: float = 10.0) -> "Worker":
        """End a running group (the oldest): each of its messages returns, or raises what is given in its place."""
        chosen = group or self.running[0]
        self.running.remove(chosen)
        results = list(errors) or [None] * len(chosen.deliveries)
        chosen.results.extend(results)
        chosen.took_ms = took_ms
        self.tick()
        self.engine.on_ran(chosen)
        return self.turn()

    def run_all(self) -> "Worker":
        while self.running:
            self.run(took_ms=0.001)
        return self

    def publish(self, error: BaseException | None = None) -> "Worker":
        self.tick()
        self.engine.on_published(self.publishing.pop(0), error)
        return self.turn()

    def pass_time(self, ms: int) -> "Worker":
        self.world.now_ms += ms
        return self.turn()

    def die(self) -> None:
        """kill -9: the session lapses, nothing is sent any more."""
        self.world.now_ms += self.rules.lease_ms + 1

    # ------------------------------------------------------------------------------------------------- the small runner

    def tick(self) -> None:
        self.engine.tick(self.world.now_ms, 0)

    def turn(self) -> "Worker":
        for _ in range(50):
            self.tick()
            effects = self.engine.decide()
            self._perform(effects)
            committed = effects.commit and self.commits_answered
            if not (effects.calls and self.store_answers) and not committed and not effects.look_up:
                return self
        raise AssertionError("it never comes to rest")

    def _perform(self, effects: Effects) -> None:
        if effects.rejoin:
            self.rejoins.append(effects.rejoin)
            self.engine.on_rejoined()
        self.cancelled += effects.cancel
        self.running += effects.groups
        for group in effects.groups:
            group.began = True
        self.withdrawn = self.withdrawn or effects.withdraw
        self.publishing += effects.publish
        self.sought += effects.seek
        for name in effects.look_up:
            self.engine.on_looked_up(name, *self.found[name])
        self.notes += effects.notes
        self.paused |= set(effects.pause)
        self.paused -= set(effects.resume)
        for note in effects.notes:
            self.observe(note)
        for call in effects.calls:
            self.calls.append(call)
            if self.store_answers:
                self.answer(call)
        if effects.commit and self.commits_answered:
            self.committed.update({mark.partition: mark.offset for mark in effects.commit})
            self.engine.on_committed([CommitResult(mark, "ok") for mark in effects.commit])

    def answer(self, call: StoreCall) -> None:
        self.tick()
        if isinstance(call, OpenSession):
            self.engine.on_session(call, self.store.open_session(next(self.world.tokens), call.instance, call.previous))
        elif isinstance(call, TakeOwnerships):
            session = self.session
            self.engine.on_ownerships(call, self.store.take_ownerships(session, call.call, call.asks))
        else:
            self.engine.on_exchanged(call, self.store.exchange(call))

    @property
    def session(self):  # type: ignore[no-untyped-def]
        return self.engine._desk.conversation.session

    @property
    def keys(self) -> list[str]:
        """What runs now."""
        return [d.digest.rstrip(b".").decode() for group in self.running for d in group.deliveries if d.digest]

    @property
    def last_exchange(self) -> Exchange:
        return next(call for call in reversed(self.calls) if isinstance(call, Exchange))

    def count(self, name: str) -> int:
        return self.engine.counters[name]

    def outcomes(self) -> dict[str, int]:
        names = ("completed", "redelivery", "repeat", "dead_lettered", "skipped", "handed_back", "dropped")
        return {name: self.count(name) for name in names if self.count(name)}
