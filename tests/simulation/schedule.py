"""The scheduler: first a time of faults, then a calm one in which everything has to come to rest."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from kafka_once.core.claims import Claimed
from tests.simulation.faults import inject
from tests.simulation.history import AtRest
from tests.simulation.plan import PICKED
from tests.simulation.wire import key_of

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Schedule"]

_CALM_MS = 120_000
_CALM_STEPS = 30_000
_CALM_TICK_MS = 3
_IDLE_MS = 25


class Schedule:
    """Completes what is pending, one thing a step."""

    def __init__(self, world: World) -> None:
        self.steps = 0
        self._world = world
        self._ending = False
        self._tick_ms = world.plan.odds.tick_ms
        self._doing = (
            self._turn,
            world.wire.advance,
            self._run_handler,
            self._commit,
            self._publish,
            self._group,
            self._late,
        )
        self._marks = list(accumulate(world.plan.odds.weights[kind] for kind in PICKED))

    def run(self) -> None:
        """All of it, to the end."""
        world, odds = self._world, self._world.plan.odds
        for _ in range(world.plan.steps):
            if odds.fault and world.random.random() < odds.fault:
                inject(world)
            self._step()
        self._calm()

    # ----------------------------------------------------------------------------------------------------------- a step

    def _step(self) -> None:
        world = self._world
        random = world.random
        self.steps += 1
        if random.random() < 0.3:
            world.pass_time(random.randint(1, self._tick_ms))
        first = bisect(self._marks, random.random() * self._marks[-1])
        if not any(doing() for doing in self._doing[first:]) and not any(doing() for doing in self._doing[:first]):
            self._idle()

    def _idle(self) -> None:
        """Nothing is on its way: only time brings something."""
        self._world.pass_time(_IDLE_MS)
        for worker in self._world.living():
            worker.turn()

    def _turn(self) -> bool:
        world = self._world
        wanting = [worker for worker in world.living() if worker.wants_turn()]
        if wanting:
            world.random.choice(wanting).turn()
        return bool(wanting)

    def _run_handler(self) -> bool:
        busy = [worker for worker in self._world.living() if worker.runs.busy]
        return bool(busy) and self._world.random.choice(busy).runs.step()

    def _commit(self) -> bool:
        commit = next(iter(self._world.pending["commit"]), None)
        if commit is not None:
            self._world.pending["commit"].remove(commit)
            commit.worker.answers.append(self._world.group.commit(commit))
        return commit is not None

    def _publish(self) -> bool:
        publish = self._take("publish")
        if publish is None:
            return False
        taken, known = self._world.publish_fate()
        publish.worker.published(publish.delivery, taken=taken, known=known)
        return True

    def _late(self) -> bool:
        late = self._world.pending["late"]
        due = [copy for copy in late if copy.due_ms <= self._world.now_ms]
        if due:
            copy = self._world.random.choice(due)
            late.remove(copy)
            self._world.wire.execute_copy(copy)
        return bool(due)

    def _take(self, kind: str) -> Any:
        items = self._world.pending[kind]
        return items.pop(self._world.random.randrange(len(items))) if items else None

    # ------------------------------------------------------------------------------------------------- around the group

    def _group(self) -> bool:
        """Messages are produced, the sleeping wake, the dead are missed and started again, orphans get an owner."""
        world = self._world
        choices = [*self._of_processes()]
        if world.group.producing:
            choices.append(world.group.produce)
        choices += [partial(world.group.give_one, name, takers) for name, takers in world.group.orphans()]
        if choices:
            world.random.choice(choices)()
        return bool(choices)

    def _of_processes(self) -> Iterator[Callable[[], None]]:
        world = self._world
        for worker in world.processes:
            if worker.state == "paused" and worker.wakes_ms <= world.now_ms:
                yield worker.wake
        for slot, worker in enumerate(world.slots):
            if worker.state in {"dead", "ended"} and not self._ending:
                yield partial(world.restart, slot)
        for owner in dict.fromkeys(world.group.owners.values()):
            if owner.state == "dead":
                yield partial(world.group.forget, owner)

    # ------------------------------------------------------------------------------------------------------------ calm

    def _calm(self) -> None:
        """No more faults. Late copies may still arrive, the sleeping wake, the dead come back."""
        world = self._world
        world.faulty = False
        self._tick_ms = _CALM_TICK_MS
        self._marks = list(range(1, len(self._doing) + 1))
        world.silent_until_ms = 0
        for worker in world.processes:
            worker.wakes_ms = min(worker.wakes_ms, world.now_ms)
            worker.stalled_until_ms = worker.cut_off_until_ms = 0
        until_ms, until_steps = world.now_ms + _CALM_MS, self.steps + _CALM_STEPS
        while not self._settled() and world.now_ms < until_ms and self.steps < until_steps:
            self._step()
            self._nudge()
        settled = self._settled()
        self._stop_all(until_steps)
        self._note_rest(settled=settled)

    def _settled(self) -> bool:
        world = self._world
        if (
            world.group.producing
            or any(world.pending.values())
            or world.wire.busy
            or any(w.state != "alive" for w in world.slots)
        ):
            return False
        if len(world.processes) > len(world.slots) or not all(worker.idle for worker in world.processes):
            return False
        return not world.group.lag() and not any(worker.engine.unfinished for worker in world.processes)

    def _nudge(self) -> None:
        """A zombie's late commit may rewind what the owner committed, which the owner cannot know: only the next
        assignment finds it (a rewind is redelivery, never loss). Brings that assignment about."""
        group = self._world.group
        for name in sorted(group.rewound):
            owner = group.owners.get(name)
            if owner is not None and owner.state == "alive" and owner.idle and not owner.engine.unfinished:
                group.rewound.discard(name)
                group.ask_back(name)

    def _stop_all(self, until_steps: int) -> None:
        world = self._world
        for worker in world.living():
            worker.stop()
        self._ending = True
        while world.processes and self.steps < until_steps:
            self._step()

    def _note_rest(self, *, settled: bool) -> None:
        world = self._world
        world.note(
            AtRest(
                settled=settled and not world.processes,
                lag=world.group.lag(),
                unfinished=sum(worker.engine.unfinished for worker in world.processes),
                claims=self._claims(),
                doubts=tuple(sorted({key_of(doubt.digest) for doubt in world.store.doubts(100_000)})),
            )
        )

    def _claims(self) -> int:
        """Of messages that are there: nobody gets those of a topic that was deleted, and claims have no end."""
        world = self._world
        if not world.group.generation:
            return world.store.survey().claims
        there = world.group.keys()
        records = world.store._records.keys.items()
        return sum(isinstance(record, Claimed) and key_of(digest) in there for digest, record in records)
