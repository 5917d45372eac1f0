"""Where groups run: handlers beside each other, or messages handed out one by one to a user's loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kafka_once.core.delivery import Delivery
from kafka_once.core.lane import Group
from kafka_once.errors import InDoubt, NeverCompleted, UndecodablePayload
from kafka_once.executors import is_late
from kafka_once.message import TopicPartition
from tests.simulation.faults import overtake
from tests.simulation.history import Ended, Started
from tests.simulation.plan import Behaviour

if TYPE_CHECKING:
    from tests.simulation.worker import Worker
    from tests.simulation.world import World

__all__ = ["Running", "Runs"]

_PLAIN = Behaviour()


class Running:
    """A group that runs. `run` is the number of the handler run that has begun and not ended, which lasts until
    `until_ms` at least."""

    __slots__ = ("group", "run", "until_ms")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.run: int | None = None
        self.until_ms = 0

    @property
    def delivery(self) -> Delivery:
        return self.group.deliveries[len(self.group.results)]


class Runs:
    """The executor of one worker: as many groups run as there are places, the others wait (or, in a loop of the user's,
    those that were not taken yet). Each `step` begins or ends one handler."""

    def __init__(self, world: World, worker: Worker, hand_out: int | None) -> None:
        self._world = world
        self._worker = worker
        self._hand_out = hand_out
        self._places = world.plan.rules.concurrency
        self._ready: deque[Group] = deque()
        self.running: list[Running] = []

    def start(self, group: Group) -> None:
        if self._hand_out is None and len(self.running) < self._places:
            self.running.append(Running(group))
        else:
            if self._hand_out is None:
                self._world.saw("waits for a place")
            self._ready.append(group)

    def room(self) -> int:
        """As `HandOut.room`, with a steady pace."""
        return min(2, (self._hand_out or 0) - len(self.running)) - len(self._ready)

    def withdraw(self, names: Sequence[TopicPartition] | None) -> None:
        """End what was handed to us and nobody has begun."""
        back = [group for group in self._ready if names is None or group.lane.partition.name in names]
        for group in back:
            self._world.saw("withdrawn")
            self._ready.remove(group)
            self._worker.post_ran(group)

    @property
    def busy(self) -> bool:
        return bool(self.running or self._ready)

    def step(self) -> bool:
        """Begin or end one, any of them; False if nothing can be begun or ended now."""
        now_ms = self._world.now_ms
        due = [running for running in self.running if running.until_ms <= now_ms or not self._world.faulty]
        choices = len(due) + (1 if self._ready and self._hand_out is not None else 0)
        if not choices:
            return False
        choice = self._world.random.randrange(choices)
        if choice == len(due):
            self.hand_out_next()
        elif due[choice].run is None:
            self._begin(due[choice])
        else:
            self._end(due[choice])
        return True

    def hand_out_next(self) -> None:
        self.running.append(Running(self._ready.popleft()))

    def die(self) -> None:
        for running in self.running:
            if running.run is not None:
                self._world.note(Ended(running.run, "killed"))
        self.running.clear()
        self._ready.clear()

    # -------------------------------------------------------------------------------------------------- one handler run

    def _begin(self, running: Running) -> None:
        world, worker, delivery = self._world, self._worker, running.delivery
        if is_late(running.group, worker.now_ms / 1000):
            world.saw("not begun: lease not trusted")
            self._close(running)
            return
        worker.look_at_the_clock()
        message = delivery.message
        running.run = world.next_number()
        running.until_ms = world.now_ms + world.random.choice((0, world.plan.odds.lingers_ms))
        if world.faulty and world.random.random() < world.plan.odds.ambush:
            running.until_ms = world.now_ms + 2 * world.plan.rules.lease_ms
            overtake(world, worker)
        name = delivery.partition.name
        key = world.group.key_at(name, message.topic_id, message.offset)
        tenure = worker.tenures[message]
        world.runs_of_key[key] = world.runs_of_key.get(key, 0) + 1
        place = world.group.place(name, message.topic_id)
        world.note(Started(worker.name, running.run, tenure, place, message.offset, key, delivery.doubt))

    def _end(self, running: Running) -> None:
        world, group, run = self._world, running.group, running.run
        assert run is not None
        if world.interrupts(self._worker):
            return
        message = running.delivery.message
        key = world.group.key_at(running.delivery.partition.name, message.topic_id, message.offset)
        behaviour = world.plan.behaviours.get(key, _PLAIN)
        number = world.runs_of_key[key]
        if number <= behaviour.kills:
            world.saw("handler killed its process")
            world.crash(self._worker)
            return
        error = _error(behaviour, number - behaviour.kills)
        if error is not None:
            world.saw(f"handler raised {type(error).__name__}")
        world.note(Ended(run, _how(error)))
        running.run = None
        group.results.append(error)
        if error is None and len(group.results) < len(group.deliveries):
            return
        self._close(running)

    def _close(self, running: Running) -> None:
        group = running.group
        group.took_ms = self._world.plan.odds.handler_ms * len(group.results)
        self.running.remove(running)
        if self._ready and self._hand_out is None:
            self.running.append(Running(self._ready.popleft()))
        self._worker.post_ran(group)


def _how(error: BaseException | None) -> str:
    if error is None:
        return "returned"
    return "doubted" if isinstance(error, InDoubt | NeverCompleted) else "raised"


def _error(behaviour: Behaviour, number: int) -> BaseException | None:
    if number == behaviour.doubts:
        return InDoubt("did it happen?")
    if number == behaviour.abandons:
        return NeverCompleted("nobody will say")
    if number == behaviour.exits:
        return SystemExit(1)
    if number <= behaviour.raises:
        return UndecodablePayload("no") if behaviour.rejects else ValueError("again")
    return None
