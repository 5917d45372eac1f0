"""The world of one seed: its clock, its processes, what is on its way, and the history that is judged afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from kafka_once.core.engine import Engine
from kafka_once.core.rules import Rules
from kafka_once.ports import Namespace, Store
from kafka_once.stores.memory import MemoryState, MemoryStore
from tests.simulation.group import Group
from tests.simulation.history import Event, Over
from tests.simulation.wire import Wire
from tests.simulation.worker import Worker

if TYPE_CHECKING:
    from tests.simulation.plan import Plan

__all__ = ["Build", "World"]

_BEGINS_MS = 1_000_000


def _memory_store(clock_ms: Callable[[], int], lease_ms: int) -> Store:
    return MemoryStore(Namespace("c", "g"), lease_ms, clock_ms=clock_ms, state=MemoryState())


@dataclass(frozen=True, slots=True)
class Build:
    """What is under test; broken variants put others here."""

    engine: Callable[[Rules], Engine] = Engine
    store: Callable[[Callable[[], int], int], Store] = _memory_store


class World:
    """Attributes:
    pending: what the scheduler may complete, by kind.
    slots: the newest process of each place; `processes` has earlier ones too that still live.
    faulty: whether anything may go wrong now.
    store_ahead_ms: by how much the store's clock is ahead of the true one; it may jump.
    """

    def __init__(self, plan: Plan, build: Build, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.random = Random(plan.seed + 1)
        self.now_ms = _BEGINS_MS
        self.history: list[Event] = []
        self.seen: Counter[str] = Counter()
        self.faulty = True
        self.store_ahead_ms = 0
        self.silent_until_ms = 0
        self.replica: tuple[int, MemoryState] | None = None
        self.runs_of_key: dict[str, int] = {}
        self.pending: dict[str, list[Any]] = {kind: [] for kind in ("commit", "publish", "late")}
        self._build = build
        self._trace = trace
        self._numbers = 0
        self.saw(f"order {plan.rules.order}")
        self.store = build.store(self.read_clock_ms, plan.rules.lease_ms)
        self.wire = Wire(self, self.store, plan.rules.lease_ms)
        self.group = Group(self)
        self.slots = [self._start(slot) for slot in range(plan.workers)]
        self.processes = list(self.slots)

    # ------------------------------------------------------------------------------------------------------- the books

    def note(self, event: Event) -> None:
        self.history.append(event)
        if self._trace is not None:
            self._trace(f"{self.now_ms - _BEGINS_MS:7d} {event}")

    def saw(self, what: str, *details: object) -> None:
        self.seen[what] += 1
        if self._trace is not None:
            self._trace(f"{self.now_ms - _BEGINS_MS:7d} - {what} {' '.join(map(str, details))}")

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    # ------------------------------------------------------------------------------------------------------------ time

    def read_clock_ms(self) -> int:
        """The store's."""
        return self.now_ms + self.store_ahead_ms

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.wire.expire()

    # --------------------------------------------------------------------------------------------------- the processes

    def members(self) -> list[Worker]:
        return [worker for worker in self.processes if worker.joined]

    def living(self) -> list[Worker]:
        return [worker for worker in self.processes if worker.state == "alive"]

    def _start(self, slot: int) -> Worker:
        rules = self.plan.rules
        if self.plan.static:
            rules = replace(rules, instance=f"i{slot}")
        return Worker(self, self.next_number(), self._build.engine(rules))

    def restart(self, slot: int) -> None:
        """A new process. A static instance has its partitions back at once; an earlier one that lives is fenced."""
        earlier = self.slots[slot]
        worker = self.slots[slot] = self._start(slot)
        self.processes.append(worker)
        self.saw("restarted, static" if self.plan.static else "restarted")
        if not self.plan.static:
            return
        names = [name for name, owner in self.group.owners.items() if owner is earlier]
        for name in names:
            self.group.give(name, worker)
        if earlier.state in {"alive", "paused"}:
            self.saw("replaced while alive")
            earlier.fence(self.now_ms + self.random.choice((0, 100, 1_000)))

    def crash(self, worker: Worker) -> None:
        """Nothing more comes from it; what it had sent vanishes, or arrives."""
        self.saw("crash")
        worker.die("dead")
        self.processes.remove(worker)
        self.note(Over(worker.name, "crashed"))
        self.wire.abandon(worker)
        for commit in self._taken_out("commit", worker):
            if self.random.random() < 0.5:
                self.group.commit(commit)
        for publish in self._taken_out("publish", worker):
            worker.published(publish.delivery, taken=self.random.random() < 0.5, known=False)

    def end(self, worker: Worker) -> None:
        """It left by itself: its partitions are free at once."""
        worker.die("ended")
        self.processes.remove(worker)
        self.group.forget(worker)

    def _taken_out(self, kind: str, worker: Worker) -> list[Any]:
        taken = [item for item in self.pending[kind] if item.worker is worker]
        self.pending[kind][:] = [item for item in self.pending[kind] if item.worker is not worker]
        return taken

    # ---------------------------------------------------------------------------------------- what goes wrong in a turn

    def cuts(self, worker: Worker) -> bool:
        """Whether the process is stopped or killed here, between two effects."""
        if worker.state != "alive":
            return True
        if not self.faulty or self.random.random() >= self.plan.odds.cut:
            return False
        if self.random.random() < 0.5:
            self.saw("killed between two effects")
            self.crash(worker)
        else:
            self.saw("paused between two effects")
            self.pause(worker, self.random.choice((20, 2 * self.plan.rules.lease_ms)))
        return True

    def interrupts(self, _worker: Worker) -> bool:
        """Whether the process is stopped or killed here, within a handler."""
        return False

    def pause(self, worker: Worker, ms: int) -> None:
        worker.state = "paused"
        worker.wakes_ms = self.now_ms + ms

    def commit_fate(self) -> str:
        if not self.faulty or self.random.random() >= self.plan.odds.commit:
            return "taken"
        return self.random.choice(("lost", "unanswered"))

    def publish_fate(self) -> tuple[bool, bool]:
        """Whether Kafka takes a dead letter, and whether it says so."""
        unsure = self.faulty and self.random.random() < self.plan.odds.publish
        if unsure:
            self.saw("publish unconfirmed")
        return not unsure or self.random.random() < 0.5, not unsure

    def finish_commits(self, worker: Worker) -> None:
        """One connection: what was sent before is answered before."""
        for commit in self._taken_out("commit", worker):
            worker.answers.append(self.group.commit(commit))
