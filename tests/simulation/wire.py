"""Between the workers and the store: requests and replies get lost, come late, or twice. Keeps books of the leases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kafka_once.core.calls import Exchange, ExchangeReply, Session
from kafka_once.core.claims import Completion, Grant
from kafka_once.core.engine import Engine
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import StoreUnavailable
from tests.simulation.history import Granted, Over, Recorded

if TYPE_CHECKING:
    from kafka_once.ports import Store
    from tests.simulation.worker import Worker
    from tests.simulation.world import World

__all__ = ["Copy", "Trip", "Wire", "digest_of", "key_of"]

Answer = Callable[[Engine], None]

_STEPS = {
    "fine": ("execute", "reply"),
    "request lost": ("silence",),
    "reply lost": ("execute", "silence"),
    "copy later": ("execute", "copy", "reply"),
    "reply lost, copy later": ("execute", "copy", "silence"),
    "only later": ("copy", "silence"),
}


def digest_of(key: str) -> bytes:
    return key.encode().ljust(16, b".")


def key_of(digest: bytes) -> str:
    return digest.rstrip(b".").decode()


@dataclass(slots=True)
class Copy:
    """A call that the network still holds."""

    worker: Worker
    call: StoreCall
    session: Session | None


@dataclass(slots=True)
class Trip:
    """A worker's one call that is away: the steps that are still before it. `closing`: a goodbye follows."""

    worker: Worker
    call: StoreCall | None
    session: Session | None
    steps: list[str]
    answer: Answer | None = None
    closing: bool = False


@dataclass(slots=True)
class _Lease:
    worker: Worker
    ends_ms: int


class Wire:
    def __init__(self, world: World, store: Store, lease_ms: int) -> None:
        self._world = world
        self._store = store
        self._lease_ms = lease_ms
        self._leases: dict[int, _Lease] = {}
        self._instances: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------------------- the trips

    def send(self, worker: Worker, call: StoreCall) -> None:
        fate = self._fate()
        self._world.saw(fate)
        self._world.pending["store"].append(Trip(worker, call, worker.session, list(_STEPS[fate])))

    def _fate(self) -> str:
        world = self._world
        if not world.faulty:
            return "fine"
        if world.now_ms < world.silent_until_ms:
            return world.random.choice(("request lost", "reply lost"))
        chance = world.random.random()
        for fate, odds in world.plan.odds.wire.items():
            chance -= odds
            if chance < 0:
                return fate
        return "fine"

    def advance(self, trip: Trip) -> None:
        """One step of a trip; back among what is pending if more follow."""
        step = trip.steps.pop(0)
        if step == "execute":
            trip.answer = self._execute(trip.worker, trip.call, trip.session)
        elif step == "copy":
            assert trip.call is not None
            self._world.pending["late"].append(Copy(trip.worker, trip.call, trip.session))
        elif step == "reply":
            assert trip.answer is not None
            trip.worker.post(trip.answer)
        else:
            trip.worker.post(lambda engine: engine.on_silence(StoreUnavailable("no answer")))
        if trip.steps:
            self._world.pending["store"].append(trip)
        elif trip.closing:
            self.close(trip.worker)

    def close(self, worker: Worker) -> None:
        """The goodbye, behind what is on its way."""
        trips = self._world.pending["store"]
        trip = next((trip for trip in trips if trip.worker is worker), None)
        if trip is not None:
            trip.closing = True
        elif worker.session is not None and not (self._world.faulty and self._fate() != "fine"):
            trips.append(Trip(worker, None, worker.session, ["execute"]))

    def abandon(self, worker: Worker) -> None:
        """The worker died: what it had sent vanishes, or is executed later."""
        world = self._world
        trips = world.pending["store"]
        for trip in [trip for trip in trips if trip.worker is worker]:
            trips.remove(trip)
            sent = trip.call is not None and trip.answer is None and "execute" in trip.steps
            if sent and trip.call is not None and world.random.random() < 0.5:
                world.saw("executed after the crash")
                world.pending["late"].append(Copy(worker, trip.call, trip.session))

    def execute_copy(self, copy: Copy) -> None:
        self._world.saw("late copy executed")
        self._execute(copy.worker, copy.call, copy.session)

    # --------------------------------------------------------------------------------------------------- in the store

    def _execute(self, worker: Worker, call: StoreCall | None, session: Session | None) -> Answer | None:
        if call is None:
            assert session is not None
            self._store.close_session(session)
            self._end_lease(session.number, "closed")
            return None
        if isinstance(call, OpenSession):
            return self._open(worker, call)
        if isinstance(call, TakeOwnerships):
            assert session is not None
            ownerships = self._store.take_ownerships(session, call.call, call.asks)
            return lambda engine: engine.on_ownerships(ownerships)
        reply = self._store.exchange(call)
        self._observe(worker, call, reply)
        return lambda engine: engine.on_exchanged(reply)

    def _open(self, worker: Worker, call: OpenSession) -> Answer:
        session = self._store.open_session(call.token, call.instance, call.previous)
        if session.number not in self._leases:
            self._world.saw("session opened")
            self._replace(worker, call, session.number)
        lease = self._leases.setdefault(session.number, _Lease(worker, 0))
        if lease.ends_ms == 0 or lease.ends_ms > self._world.now_ms:
            lease.ends_ms = self._world.now_ms + self._lease_ms

        def answer(engine: Engine) -> None:
            worker.session = session
            engine.on_session(session)

        return answer

    def _replace(self, worker: Worker, call: OpenSession, number: int) -> None:
        """A later process of a static instance ends the session of the earlier one; nothing else does."""
        if call.instance is None:
            return
        earlier = self._instances.get(call.instance)
        lease = self._leases.get(earlier) if earlier is not None else None
        if lease is None or lease.worker.number <= worker.number:
            self._instances[call.instance] = number
            if lease is not None and earlier is not None and lease.worker is not worker:
                self._end_lease(earlier, "replaced")

    def _observe(self, worker: Worker, call: Exchange, reply: ExchangeReply) -> None:
        world = self._world
        if reply.session_lives:
            self._leases[call.session.number].ends_ms = world.now_ms + self._lease_ms
        else:
            world.saw("session over")
        for complete, completion in zip(call.completes, reply.completes, strict=True):
            world.saw(f"completion {completion.name.lower()}")
            if completion is not Completion.FENCED:
                world.note(Recorded(worker.name, key_of(complete.digest)))
        for release in reply.releases:
            world.saw(f"release {release.name.lower()}")
        for claim, answer in zip(call.claims, reply.claims, strict=True):
            world.saw(f"claim {answer.grant.name.lower()}" + (" alone" if claim.alone else ""))
            if answer.grant is Grant.ACQUIRED or answer.grant is Grant.RECLAIMED:
                world.note(Granted(worker.name, key_of(claim.digest)))

    # ------------------------------------------------------------------------------------------------------ the leases

    def expire(self) -> None:
        """Time has passed."""
        now_ms = self._world.now_ms
        for number, lease in self._leases.items():
            if 0 <= lease.ends_ms <= now_ms:
                self._end_lease(number, "lapsed")

    def _end_lease(self, number: int, why: str) -> None:
        lease = self._leases[number]
        if lease.ends_ms >= 0:
            lease.ends_ms = -1
            self._world.saw(f"session {why}")
            self._world.note(Over(lease.worker.name, why))
