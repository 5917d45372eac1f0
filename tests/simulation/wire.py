"""Between the workers and the store: requests and replies get lost, come late, or twice. Keeps books of the leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka_once.core.calls import Exchange, ExchangeReply, Session
from kafka_once.core.claims import Completion, Grant
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import StoreUnavailable
from tests.simulation.faults import overtake
from tests.simulation.history import Duplicate, FrontierKept, Granted, Over, Recorded

if TYPE_CHECKING:
    from kafka_once.ports import Store
    from kafka_once.stores.memory import MemoryState
    from tests.simulation.worker import Worker
    from tests.simulation.world import World

__all__ = ["Copy", "Wire", "digest_of", "key_of"]

Answer = tuple[str, tuple[Any, ...]]  # what to tell the engine: plain data, so that a world can be copied


def digest_of(key: str) -> bytes:
    return key.encode().ljust(16, b".")


def key_of(digest: bytes) -> str:
    return digest.rstrip(b".").decode()


@dataclass(slots=True, eq=False)
class Copy:
    """A call that the network still holds, until `due_ms` at least."""

    worker: Worker
    call: StoreCall
    session: Session | None
    due_ms: int


@dataclass(slots=True)
class _Trip:
    """A call on a connection. `answer` is there once it was executed."""

    call: StoreCall
    session: Session | None
    fate: str
    answer: Answer | None = None


@dataclass(slots=True)
class _Lease:
    """`jumped`: the store's clock did, since it was renewed, so that it may end before its time is over."""

    worker: Worker
    ends_ms: int
    jumped: bool = False


class Wire:
    """Each worker has a connection: its calls are executed and answered in order, until it breaks."""

    def __init__(self, world: World, store: Store, lease_ms: int) -> None:
        self._world = world
        self._store = store
        self._lease_ms = lease_ms
        self._away: dict[Worker, list[_Trip]] = {}
        self._leases: dict[int, _Lease] = {}
        self._instances: dict[str, int] = {}
        self.goodbyes: list[tuple[Worker, Session]] = []

    # ------------------------------------------------------------------------------------------------------- the trips

    @property
    def busy(self) -> bool:
        return bool(self._away or self.goodbyes)

    def send(self, worker: Worker, call: StoreCall) -> None:
        world = self._world
        if isinstance(call, Exchange) and self._is_ambush(call):
            overtake(world, worker)
        fate = self._fate(worker)
        world.saw(f"store call: {fate}", worker.name, call)
        self._away.setdefault(worker, []).append(_Trip(call, worker.session, fate))
        if isinstance(call, Exchange) and call.releases and world.faulty:
            self._keep_a_copy(worker, call)

    def _is_ambush(self, call: Exchange) -> bool:
        """Whether something goes wrong just when this is said."""
        world = self._world
        if not world.faulty or not (call.claims or call.completes):
            return False
        return world.random.random() < world.plan.odds.ambush / (2 if call.completes else 4)

    def _keep(self, worker: Worker, call: StoreCall, session: Session | None) -> None:
        due_ms = self._world.now_ms + self._world.random.choice((0, 20, 100, 500))
        self._world.pending["late"].append(Copy(worker, call, session, due_ms))

    def _keep_a_copy(self, worker: Worker, call: Exchange) -> None:
        """Late copies that give something back are the ones that could do harm: have more of them."""
        if self._world.random.random() < self._world.plan.odds.late_releases:
            self._keep(worker, call, worker.session)

    def _fate(self, worker: Worker) -> str:
        world = self._world
        if not world.faulty:
            return "fine"
        if world.now_ms < max(world.silent_until_ms, worker.cut_off_until_ms):
            return world.random.choice(("request lost", "reply lost"))
        chance = world.random.random()
        for fate, odds in world.plan.odds.wire.items():
            chance -= odds
            if chance < 0:
                return fate
        return "fine"

    def advance(self) -> bool:
        """One call is executed, one answer arrives, or a connection breaks."""
        random = self._world.random
        if not self._away:
            return self._say_goodbye()
        worker = random.choice(list(self._away))
        trips = self._away[worker]
        unexecuted = next((trip for trip in trips if trip.answer is None), None)
        if unexecuted is not None and (unexecuted is trips[0] or random.random() < 0.5):
            self._arrive(worker, unexecuted)
        else:
            self._answer(worker, trips)
        return True

    def _arrive(self, worker: Worker, trip: _Trip) -> None:
        if trip.fate == "request lost":
            self._away[worker].remove(trip)
            self._break(worker)
        elif trip.fate == "only later":
            self._break(worker, later=trip)
        else:
            trip.answer = self._execute(worker, trip.call, trip.session)
            if trip.fate.endswith("copy later"):
                self._keep(worker, trip.call, trip.session)

    def _answer(self, worker: Worker, trips: list[_Trip]) -> None:
        trip = trips[0]
        if trip.fate.startswith("reply lost"):
            self._break(worker)
            return
        assert trip.answer is not None
        worker.post(trip.answer)
        trips.pop(0)
        if not trips:
            del self._away[worker]

    def _break(self, worker: Worker, later: _Trip | None = None) -> None:
        """Nothing that is away on this connection is answered; what was not executed vanishes, or comes late."""
        self.abandon(worker, later)
        worker.post(("on_silence", (StoreUnavailable("no answer"),)))

    def abandon(self, worker: Worker, later: _Trip | None = None) -> None:
        for trip in self._away.pop(worker, []):
            if trip.answer is None and (trip is later or self._world.random.random() < 0.5):
                self._keep(worker, trip.call, trip.session)

    def close(self, worker: Worker) -> None:
        """The goodbye, if it gets through."""
        self.abandon(worker)
        if worker.session is not None and self._fate(worker) == "fine":
            self.goodbyes.append((worker, worker.session))

    def _say_goodbye(self) -> bool:
        if not self.goodbyes:
            return False
        _, session = self.goodbyes.pop()
        self._store.close_session(session)
        self._end_lease(session.number, "closed")
        return True

    def fail_over(self, replica: MemoryState) -> None:
        """Another server: connections break, and what was on its way goes down with the old one."""
        store = self._world.store
        store._state.fail_over(replica)
        self._world.pending["late"].clear()
        self.goodbyes.clear()
        for worker in list(self._away):
            del self._away[worker]
            worker.post(("on_silence", (StoreUnavailable("no answer"),)))
        for number, lease in self._leases.items():
            known = store._records.workers.get(number)
            if lease.ends_ms >= 0:
                lease.ends_ms = -1 if known is None else known.lease_ends_ms

    def execute_copy(self, copy: Copy) -> None:
        self._world.saw("late copy executed")
        self._execute(copy.worker, copy.call, copy.session)

    # --------------------------------------------------------------------------------------------------- in the store

    def _execute(self, worker: Worker, call: StoreCall, session: Session | None) -> Answer:
        if isinstance(call, OpenSession):
            return self._open(worker, call)
        if isinstance(call, TakeOwnerships):
            assert session is not None
            ownerships = self._store.take_ownerships(session, call.call, call.asks)
            return "on_ownerships", (call, ownerships)
        reply = self._store.exchange(call)
        self._observe(worker, call, reply)
        return "on_exchanged", (call, reply)

    def _open(self, worker: Worker, call: OpenSession) -> Answer:
        session = self._store.open_session(call.token, call.instance, call.previous)
        if session.number not in self._leases:
            self._world.saw("session opened", session.number)
            self._replace(worker, call, session.number)
        lease = self._leases.setdefault(session.number, _Lease(worker, 0))
        now_ms = self._world.read_clock_ms()
        if lease.ends_ms == 0 or lease.ends_ms > now_ms:
            lease.ends_ms, lease.jumped = now_ms + self._lease_ms, False
        return "on_session", (call, session)

    def _replace(self, worker: Worker, call: OpenSession, number: int) -> None:
        """The first session of a process ends the one that its static instance had, even if that is a later process's
        (an open that was long on its way); the next sessions of a process end only its own."""
        if call.instance is None:
            return
        earlier = self._instances.get(call.instance)
        lease = None if earlier is None else self._leases[earlier]
        if call.previous is None or lease is None or lease.worker is worker:
            self._instances[call.instance] = number
            if earlier is not None:
                self._end_lease(earlier, "replaced")

    def _observe(self, worker: Worker, call: Exchange, reply: ExchangeReply) -> None:
        world = self._world
        if reply.session_lives:
            lease = self._leases[call.session.number]
            lease.ends_ms, lease.jumped = world.read_clock_ms() + self._lease_ms, False
        else:
            world.saw("session over")
        for complete, completion in zip(call.completes, reply.completes, strict=True):
            world.saw(f"completion {completion.name.lower()}")
            if completion is not Completion.FENCED:
                world.note(Recorded(worker.name, key_of(complete.digest)))
        for release in reply.releases:
            world.saw(f"release {release.name.lower()}")
        if call.frontiers:
            self._note_frontiers(worker)
        for claim, answer in zip(call.claims, reply.claims, strict=True):
            world.saw(f"claim {answer.grant.name.lower()}" + (" alone" if claim.alone else ""))
            if answer.grant is Grant.ACQUIRED or answer.grant is Grant.RECLAIMED:
                key, (_, attempts, doubt, _, fence) = key_of(claim.digest), answer
                world.note(Granted(worker.name, key, claim.alone, fence, attempts, doubt))
            elif answer.grant is Grant.DUPLICATE:
                world.note(Duplicate(worker.name, key_of(claim.digest)))

    def _note_frontiers(self, worker: Worker) -> None:
        """What the store keeps now of each partition, whoever wrote it."""
        for identity, each in self._world.store._records.partitions.items():
            if each.frontier is not None:
                place = self._world.group.place(each.where, identity.topic_id)
                self._world.note(FrontierKept(worker.name, place, each.frontier[0]))

    # ------------------------------------------------------------------------------------------------------ the leases

    def expire(self) -> None:
        """Time has passed, for the store at least."""
        now_ms = self._world.read_clock_ms()
        for number, lease in self._leases.items():
            if 0 <= lease.ends_ms <= now_ms:
                self._end_lease(number, "over: its store's clock jumped" if lease.jumped else "lapsed")

    def jump(self) -> None:
        """The store's clock was set."""
        for lease in self._leases.values():
            lease.jumped = True
        self.expire()

    def evict(self) -> None:
        """The store has lost all sessions, and nobody knows yet."""
        for number in self._leases:
            self._end_lease(number, "evicted")

    def _end_lease(self, number: int, why: str) -> None:
        lease = self._leases[number]
        if lease.ends_ms >= 0:
            lease.ends_ms = -1
            self._world.saw(f"session {why}", number)
            self._world.note(Over(lease.worker.name, why))
