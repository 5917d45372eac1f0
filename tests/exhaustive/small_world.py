"""A world whose every choice is an action that can be listed: nothing in it is left to chance.

It is the simulation's world (the production engine, the runner's turns, the claim table of the memory store) with the
dice taken out. What the search may do next is `actions`; `perform` does one. Faults cost of a budget, everything else
is free and may happen in any order.

What is cut off, and why nothing is lost by it:
- A turn is one action. A process that dies or stands still between two effects of a turn leaves the same behind as one
  that does so after the turn while what it sent vanishes, or arrives later; both of which are listed.
- What only one process sees (its turn, an answer on its way to it, a mere renewal) does not wait for the others: in
  whichever order, the same follows. Faults strike in between all the same.
- Time passes in steps of `TICK_MS`, and only when no process, call, answer or commit wants to go on: all of them are
  fast beside a lease. Handlers, new members, restarts and the sleeping may take any time. That a process is slow is the
  fault "pause"; that its lease runs out while the others go on is "lapse", for which its own clock jumps: monotonic
  clocks have nothing in common, so the others need not wait for it.
- The jitter of back-offs is 0: nothing depends on two back-offs being different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from kafka_once.core.calls import Exchange
from kafka_once.core.events import Outcome
from kafka_once.core.rules import OpenSession, StoreCall
from kafka_once.errors import StoreRefused
from kafka_once.stores.memory import MemoryState
from tests.simulation.amnesia import HELD_TO_IN_AMNESIA
from tests.simulation.checkers import Checker
from tests.simulation.group import Commit
from tests.simulation.history import AtRest, Event, Over
from tests.simulation.verdict import AT_THE_STORE, CHECKERS
from tests.simulation.wire import Copy, Wire, key_of
from tests.simulation.world import Build, World

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.worker import Worker

__all__ = ["FAULT_KINDS", "TICK_MS", "Action", "SmallWorld", "Violated"]

TICK_MS = 100
_NEVER_MS = 10**12

Action = tuple[Any, ...]

FAULT_KINDS = (
    "crash",  # a process dies
    "pause",  # a process stands still; its handlers may go on
    "lapse",  # its lease runs out, and nobody told it
    "move",  # the group asks for a partition back
    "snatch",  # the group gives it away, and tells the owner later
    "stop",  # SIGTERM
    "replace",  # a static instance starts again while its earlier process lives
    "request",  # a request to the store is lost
    "reply",  # its reply is lost
    "late",  # a request arrives after it was given up and sent again
    "refusal",  # the store refuses a call for good
    "commit",  # the answer to an offset commit is lost, and whether it was taken
    "publish",  # the same for a dead letter
    "failover",  # the store forgets its last write
)


_TAKES_ALONG = {"crash", "pause", "lapse", "move", "stop", "refusal"}


def _held_to(faults: Mapping[str, int]) -> list[type[Checker]]:
    """What is promised. Who ends, is away for a lease, or loses the partition, takes along what only he knew of what a
    failover forgot; and the replica of this world may lack more than a lease, for renewals alone do not come to it.
    """
    less = "failover" in faults and not _TAKES_ALONG.isdisjoint(faults)
    return [kind for kind in (HELD_TO_IN_AMNESIA if less else CHECKERS) if kind not in AT_THE_STORE]


class Violated(Exception):
    """A promise was broken."""


class _Fixed:
    """In the place of a random number generator: the first of each choice, as much as there is, and luck."""

    def __init__(self) -> None:
        self.drawn = 0
        self.roll = 0.0

    def choice(self, items: Any) -> Any:
        return items[0]

    def randint(self, _first: int, last: int) -> int:
        return last

    def randrange(self, _end: int) -> int:
        return 0

    def random(self) -> float:
        return self.roll

    def getrandbits(self, _bits: int) -> int:
        self.drawn += 1
        return self.drawn


class _SmallWire(Wire):
    """Each step of a trip is an action."""

    def trips(self, worker: Worker) -> list[Any]:
        return self._away.get(worker, [])

    def arrive(self, worker: Worker, fate: str = "fine") -> None:
        trip = next(trip for trip in self.trips(worker) if trip.answer is None)
        if fate == "request":
            self.trips(worker).remove(trip)
            self._break(worker)
        elif fate == "late":
            self._break(worker, later=trip)
        elif fate == "refusal":
            self.trips(worker).remove(trip)
            self.abandon(worker)
            worker.post(("on_refusal", (StoreRefused("no"),)))
        else:
            trip.answer = self._execute(worker, trip.call, trip.session)

    def answer(self, worker: Worker, *, lost: bool = False) -> None:
        trip = self.trips(worker)[0]
        if lost:
            trip.fate = "reply lost"
        self._answer(worker, self.trips(worker))

    def _execute(self, worker: Worker, call: StoreCall, session: Any) -> Any:
        """The replica lacks the last call that wrote something, as long as a failover may come."""
        world: Any = self._world
        if world.faults.get("failover") and not _only_renews(call):
            world.keep_replica()
        return super()._execute(worker, call, session)

    def forget(self) -> None:
        """Sessions that the new server does not know are over."""
        workers = self._store._records.workers  # type: ignore[attr-defined]
        for number, lease in self._leases.items():
            if lease.ends_ms >= 0 and number not in workers:
                self._end_lease(number, "forgotten")

    def abandon(self, worker: Worker, later: Any = None) -> None:
        """What a dying process had sent vanishes or arrives: both are actions. A broken connection keeps `later`."""
        for trip in self._away.pop(worker, []):
            if trip.answer is None and (trip is later or worker.state not in {"alive", "paused"}):
                self._world.pending["late"].append(Copy(worker, trip.call, trip.session, 0))

    def _keep_a_copy(self, worker: Worker, call: StoreCall) -> None:  # type: ignore[override]
        """Late copies are faults that the search chooses."""

    def lapse(self, worker: Worker) -> bool:
        """The lease of this process ends now. False if it has none."""
        session = worker.session
        lease = None if session is None else self._leases.get(session.number)
        if lease is None or lease.ends_ms < self._world.now_ms:
            return False
        assert session is not None
        holder = self._store._records.workers.get(session.number)  # type: ignore[attr-defined]
        if holder is None:  # the store knows nothing of it any more
            return False
        holder.lease_ends_ms = lease.ends_ms = self._world.now_ms
        self.expire()
        return True


def _only_renews(call: StoreCall) -> bool:
    """Or opens a session that ends no other."""
    if isinstance(call, OpenSession):
        return call.instance is None
    said = isinstance(call, Exchange) and (
        call.completes or call.releases or call.frontiers or call.ends or call.claims
    )
    return isinstance(call, Exchange) and not said


class SmallWorld(World):
    """`faults` is what is left of each kind. `checkers` judge while it happens."""

    def __init__(self, plan: Plan, faults: Mapping[str, int], build: Build | None = None, *, joined: bool) -> None:
        self.checkers: list[Checker] = [kind(plan.terms) for kind in _held_to(faults)]
        self._wanting: dict[type, list[Callable[[Any], None]]] = {}
        super().__init__(plan, build or Build())
        self.random = _Fixed()  # type: ignore[assignment]
        self.faulty = False
        self.follower: MemoryState | None = None
        self.faults: dict[str, int] = {}
        self._fails_over = "failover" in faults
        self.wire: _SmallWire = _SmallWire(self, self.store, plan.rules.lease_ms)
        self.store._state.lock = nullcontext()  # type: ignore[attr-defined]
        self.produced = False
        if joined:
            self._join()
        while self.group.producing:
            self.group.produce()
        self.faults = {kind: count for kind, count in faults.items() if count}

    def _join(self) -> None:
        """Sessions are open and partitions owned before anything goes wrong."""
        for number, name in enumerate(self.group.logs):
            self.group.give(name, self.slots[number % len(self.slots)])
        for _ in range(1_000):
            action = next((action for action in self.actions() if action[0] not in {"tick", "give"}), None)
            if action is None:
                return
            self.perform(action)
        raise AssertionError("it does not come to rest")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in {"seen", "history", "_wanting"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, seen=Counter(), history=[], _wanting={})

    # ------------------------------------------------------------------------------------------------------- the books

    def note(self, event: Event) -> None:
        kind = type(event)
        wanting = self._wanting.get(kind)
        if wanting is None:
            name = f"on_{kind.__name__.lower()}"
            wanting = self._wanting[kind] = [getattr(c, name) for c in self.checkers if hasattr(c, name)]
        for on_event in wanting:
            on_event(event)
        if self._trace is not None:
            super().note(event)

    def judge(self) -> None:
        """Raises if a checker has found something."""
        for checker in self.checkers:
            if checker.violations:
                raise Violated(checker.violations[0])
        for worker in self.processes:
            self._adds_up(worker)

    def looked(self) -> Counter[str]:
        """How often each checker looked since the last time."""
        looked = Counter({type(checker).__name__: checker.evaluated for checker in self.checkers if checker.evaluated})
        for checker in self.checkers:
            checker.evaluated = 0
        return looked

    def _adds_up(self, worker: Worker) -> None:
        """As `OutcomesAddUp`, but at any time."""
        counters = worker.engine.counters.as_dict()
        outcomes = sum(counters[outcome] for outcome in Outcome)
        if counters["deliveries"] != outcomes + worker.engine.unfinished:
            raise Violated(f"OutcomesAddUp: {worker.name}: {counters} and {worker.engine.unfinished} unfinished")

    def at_rest(self) -> bool:
        """Whether nothing but time would bring anything, and nothing is left to do."""
        if any(self.pending.values()) or self.wire.busy or self.wire.goodbyes:
            return False
        if len(self.processes) != len(self.slots) or not all(w.state == "alive" and w.idle for w in self.processes):
            return False
        if any(worker.engine.unfinished for worker in self.processes) or self.group.orphans():
            return False
        if self._fails_over and any(self._is_unheard(worker) for worker in self.processes):
            return False
        return not any(self.group.lag().values())

    def _is_unheard(self, worker: Worker) -> bool:
        """Whether it says something again that got no answer: another server may hear it."""
        talk = worker.engine._desk.talk
        return talk is not None and talk.silent

    def note_rest(self) -> None:
        lag, unfinished = self.group.lag(), sum(worker.engine.unfinished for worker in self.processes)
        doubts = tuple(sorted({key_of(doubt.digest) for doubt in self.store.doubts(100_000)}))
        self.note(AtRest(True, lag, unfinished, self.store.survey().claims, doubts))

    # ----------------------------------------------------------------------------------------------------- the actions

    def actions(self) -> list[Action]:
        """Everything that may happen next. Workers and copies are named by their place in the lists."""
        for place, worker in enumerate(self.processes):
            if worker.state == "alive" and self._is_private(worker):
                return [*self._of_the_worker(place, worker), *self._faults()]
        system = [*self._of_the_system()]
        free = [*system, *self._of_the_world()]
        if not system:
            free.append(("tick",))
        return [*free, *self._faults()]

    def _is_private(self, worker: Worker) -> bool:
        """Whether something goes on that only this process sees: its turn, an answer, a renewal, a handler's begin.
        That commutes with whatever the others do, so one order stands for all."""
        trips = self.wire.trips(worker)
        if (worker.runs._ready and not self.plan.rules.exclusive) or any(
            running.run is None for running in worker.runs.running
        ):
            return True
        return worker.wants_turn() or bool(trips and (trips[0].answer is not None or _only_renews(trips[0].call)))

    def _of_the_worker(self, place: int, worker: Worker) -> Iterator[Action]:
        """What goes on at once in it, and what of its own may still join its turn."""
        yield from self._of_its_loop(place, worker)
        if worker.state == "alive":
            for number, running in enumerate(worker.runs.running):
                if running.run is not None:
                    yield "end", place, number

    def _of_its_loop(self, place: int, worker: Worker) -> Iterator[Action]:
        if worker.state == "alive" and worker.wants_turn():
            yield "turn", place
        trips = self.wire.trips(worker)
        if trips:
            if trips[0].answer is not None:
                yield "answer", place
            if any(trip.answer is None for trip in trips):
                yield "arrive", place
        for number, running in enumerate(worker.runs.running):
            if running.run is None and worker.state == "alive":
                yield "begin", place, number
        if worker.runs._ready and not self.plan.rules.exclusive and worker.state == "alive":
            yield "hand", place

    def _of_the_system(self) -> Iterator[Action]:
        """What goes on at once."""
        for place, worker in enumerate(self.processes):
            yield from self._of_its_loop(place, worker)
        first: set[int] = set()
        for number, commit in enumerate(self.pending["commit"]):
            if id(commit.worker) not in first:
                first.add(id(commit.worker))
                if commit.worker.state != "paused":
                    yield from self._commits(number, commit)
        for number in range(len(self.pending["publish"])):
            yield "publish", number
        if self.wire.goodbyes:
            yield ("goodbye",)
        if any(copy.worker.state != "alive" for copy in self.pending["late"]):
            yield "copy", next(n for n, copy in enumerate(self.pending["late"]) if copy.worker.state != "alive")

    def _commits(self, number: int, commit: Commit) -> Iterator[Action]:
        yield "commit", number, "taken"
        if not commit.worker.fenced and any(
            self.group.owners.get(m.partition) is not commit.worker for m in commit.marks
        ):
            yield "commit", number, "accepted"

    def _of_the_world(self) -> Iterator[Action]:
        """What may take any time."""
        for place, worker in enumerate(self.processes):
            yield from self._of_its_handlers(place, worker)
            if worker.state == "paused":
                yield "wake", place
            if worker.told and worker.told[0].due_ms > self.now_ms:
                yield "tell", place
        for number, commit in enumerate(self.pending["commit"]):
            if commit.worker.state == "paused":
                yield from self._commits(number, commit)
        for number, copy in enumerate(self.pending["late"]):
            if copy.worker.state == "alive":
                yield "copy", number
        yield from self._of_the_group()

    def _of_its_handlers(self, place: int, worker: Worker) -> Iterator[Action]:
        for number, running in enumerate(worker.runs.running):
            if running.run is not None:
                yield "end", place, number
            elif worker.state == "paused":
                yield "begin", place, number

    def _of_the_group(self) -> Iterator[Action]:
        for slot, worker in enumerate(self.slots):
            if worker.state in {"dead", "ended"}:
                yield "restart", slot
        for name, owner in self.group.owners.items():
            if owner.state == "dead":
                yield "forget", name
        for name, takers in self.group.orphans():
            for taker in takers:
                yield "give", name, self.processes.index(taker)
        for name in sorted(self.group.rewound):
            owner = self.group.owners.get(name)  # type: ignore[assignment]
            if owner is not None and owner.state == "alive" and owner.idle and not owner.engine.unfinished:
                yield "again", name

    def _faults(self) -> Iterator[Action]:
        for place, worker in enumerate(self.processes):
            yield from self._faults_of(place, worker)
        for name, owner in self.group.owners.items():
            for kind in ("move", "snatch"):
                if kind in self.faults and owner.joined:
                    yield "fault", kind, name
        if "replace" in self.faults and self.plan.static:
            for slot, worker in enumerate(self.slots):
                if worker.state in {"alive", "paused"}:
                    yield "fault", "replace", slot
        if "failover" in self.faults and self.follower is not None:
            yield "fault", "failover"
        yield from self._unanswered("commit", "lost", "unanswered")
        yield from self._unanswered("publish", False, True)

    def _unanswered(self, kind: str, *fates: object) -> Iterator[Action]:
        if kind in self.faults:
            for number in range(len(self.pending[kind])):
                for fate in fates:
                    yield "fault", kind, number, fate

    def _faults_of(self, place: int, worker: Worker) -> Iterator[Action]:
        """Of one process and its connection to the store."""
        if "crash" in self.faults:
            yield from self._crashes(place, worker)
        kinds = ["pause", "lapse", *([] if worker.engine.stopping else ["stop"])] if worker.state == "alive" else []
        trips = self.wire.trips(worker)
        if any(trip.answer is None for trip in trips):
            kinds += ["request", "late", "refusal"]
        if trips and trips[0].answer is not None:
            kinds.append("reply")
        for kind in kinds:
            if kind in self.faults:
                yield "fault", kind, place

    def _crashes(self, place: int, worker: Worker) -> Iterator[Action]:
        """Of what it had written to the store's connection the first so many calls still arrive; a commit or not."""
        calls = sum(trip.answer is None for trip in self.wire.trips(worker))
        commits = any(commit.worker is worker for commit in self.pending["commit"])
        for kept in range(calls + 1):
            for committed in range(commits + 1):
                yield "fault", "crash", place, kept, bool(committed)

    # ------------------------------------------------------------------------------------------------------ performing

    def perform(self, action: Action) -> None:
        getattr(self, f"_do_{action[0]}")(*action[1:])

    def _do_turn(self, place: int) -> None:
        self.processes[place].turn()

    def _do_arrive(self, place: int) -> None:
        self.wire.arrive(self.processes[place])

    def _do_answer(self, place: int) -> None:
        self.wire.answer(self.processes[place])

    def _do_begin(self, place: int, number: int) -> None:
        runs = self.processes[place].runs
        runs._begin(runs.running[number])

    def _do_end(self, place: int, number: int) -> None:
        runs = self.processes[place].runs
        runs._end(runs.running[number])

    def _do_hand(self, place: int) -> None:
        runs = self.processes[place].runs
        runs.hand_out_next()

    def _do_commit(self, number: int, fate: str) -> None:
        commit = self.pending["commit"].pop(number)
        self.random.roll = 0.0 if fate == "accepted" else 1.0
        commit.worker.answers.append(self.group.commit(commit))
        self.random.roll = 0.0

    def _do_publish(self, number: int) -> None:
        publish = self.pending["publish"].pop(number)
        publish.worker.published(publish.delivery, taken=True, known=True)

    def _do_goodbye(self) -> None:
        self.wire._say_goodbye()

    def _do_wake(self, place: int) -> None:
        worker = self.processes[place]
        worker.wake()
        worker._stirred = True

    def _do_tell(self, place: int) -> None:
        worker = self.processes[place]
        worker.told[0] = worker.told[0]._replace(due_ms=0)
        worker._stirred = True

    def _do_copy(self, number: int) -> None:
        self.wire.execute_copy(self.pending["late"].pop(number))

    def _do_restart(self, slot: int) -> None:
        self.restart(slot)

    def _do_forget(self, name: Any) -> None:
        self.group.forget(self.group.owners[name])

    def _do_give(self, name: Any, place: int) -> None:
        self.group.give(name, self.processes[place])

    def _do_again(self, name: Any) -> None:
        self.group.rewound.discard(name)
        self.group.ask_back(name)

    def _do_tick(self) -> None:
        """To the next step of the clock at which something is due."""
        dues = [due - w.now_ms for w in self.living() if (due := w.engine.next_due_ms()) is not None]
        wait_ms = max(min(dues, default=0), 1)
        self.pass_time(-(-wait_ms // TICK_MS) * TICK_MS)

    def _do_fault(self, kind: str, *where: Any) -> None:
        self.faults[kind] -= 1
        if not self.faults[kind]:
            del self.faults[kind]
        self.saw(f"fault: {kind}")
        getattr(self, f"_fault_{kind}")(*where)

    def _fault_crash(self, place: int, kept: int, committed: bool) -> None:
        worker = self.processes[place]
        self.crash(worker)
        late = self.pending["late"]
        sent = [copy for copy in late if copy.worker is worker]
        late[:] = [copy for copy in late if copy.worker is not worker] + sent[:kept]
        if not committed:
            self._taken_out("commit", worker)
        if not self.plan.static:  # a static instance takes its partitions back, so when it comes makes a difference
            self.restart(self.slots.index(worker))

    def _fault_pause(self, place: int) -> None:
        self.processes[place].state = "paused"

    def _fault_lapse(self, place: int) -> None:
        worker = self.processes[place]
        self.wire.lapse(worker)
        worker._clock_ahead_ms += self.plan.rules.lease_ms
        worker._stirred = True

    def _fault_stop(self, place: int) -> None:
        self.processes[place].stop()

    def _fault_request(self, place: int) -> None:
        self.wire.arrive(self.processes[place], "request")

    def _fault_late(self, place: int) -> None:
        self.wire.arrive(self.processes[place], "late")

    def _fault_refusal(self, place: int) -> None:
        self.wire.arrive(self.processes[place], "refusal")

    def _fault_reply(self, place: int) -> None:
        self.wire.answer(self.processes[place], lost=True)

    def _fault_move(self, name: Any) -> None:
        self.group.ask_back(name)
        self.group.owners[name]._stirred = True

    def _fault_snatch(self, name: Any) -> None:
        self.group.take_away(name, _NEVER_MS)

    def _fault_replace(self, slot: int) -> None:
        self.restart(slot)

    def _fault_commit(self, number: int, fate: str) -> None:
        commit = self.pending["commit"].pop(number)
        commit.fate = fate
        commit.worker.answers.append(self.group.commit(commit))

    def keep_replica(self) -> None:
        self.follower = self.store._state.replica()  # type: ignore[attr-defined]
        self.follower.lock = nullcontext()  # type: ignore[assignment]

    def _fault_failover(self) -> None:
        """The primary dies, and the replica had not got its last write yet."""
        assert self.follower is not None
        self.store._state.fail_over(self.follower)  # type: ignore[attr-defined]
        self.follower = None
        self.wire.forget()

    def _fault_publish(self, number: int, taken: bool) -> None:
        publish = self.pending["publish"].pop(number)
        publish.worker.published(publish.delivery, taken=taken, known=False)

    # ----------------------------------------------------------------------------------------- without the dice of old

    def crash(self, worker: Worker) -> None:
        """What it had sent vanishes or arrives: both are actions."""
        self.saw("crash")
        worker.die("dead")
        self.processes.remove(worker)
        self.note(Over(worker.name, "crashed"))
        self.wire.abandon(worker)

    def cuts(self, worker: Worker) -> bool:
        return worker.state != "alive"
