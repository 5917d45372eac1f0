"""Breadth first through all states of a world, each judged; then: does every one of them come to rest?"""

from __future__ import annotations

import copyreg
import gc
import pickle
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from kafka_once.core.rules import Rules
from tests.exhaustive.digest import digest
from tests.exhaustive.small_world import Action, SmallWorld, Violated
from tests.simulation.plan import Plan
from tests.simulation.world import Build

__all__ = ["Found", "Searched", "replay", "search", "step"]


_CONSTANT: dict[int, Any] = {}


def _constant_of(number: int) -> Any:
    return _CONSTANT[number]


def _as_constant(item: Any) -> tuple[Any, tuple[int]]:
    """What never changes is not copied."""
    _CONSTANT[id(item)] = item
    return _constant_of, (id(item),)


for _kind in (Plan, Rules, Build):
    copyreg.pickle(_kind, _as_constant)


@dataclass(slots=True)
class Found:
    """What was violated, and the shortest way to it."""

    violation: str
    way: list[Action]


@dataclass(slots=True)
class Searched:
    """Attributes:
    states: told apart by their digests; those in which only one thing can happen are passed through, judged, but
        not kept.
    schedules: ways that were followed to their end: a state at rest, or one that is known already.
    capped: the search did not end; then nothing was shown.
    """

    states: int = 0
    steps: int = 0
    schedules: int = 0
    resting: int = 0
    seconds: float = 0.0
    capped: bool = False
    found: Found | None = None
    looked: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        return not self.capped and self.found is None


class _Graph:
    """The states by number: how each was reached first, and from which ones without a fault."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}
        self.reached: list[tuple[int, Action]] = []
        self.sources: list[list[int]] = []
        self.resting: list[int] = []

    def add(self, name: bytes, source: int, action: Action) -> int:
        number = self.numbers[name] = len(self.reached)
        self.reached.append((source, action))
        self.sources.append([])
        return number

    def way(self, number: int) -> list[Action]:
        actions = []
        while number:
            number, action = self.reached[number]
            actions.append(action)
        return actions[::-1]

    def stuck(self) -> int | None:
        """The first state from which no way without a further fault leads to rest."""
        known = bytearray(len(self.reached))
        ahead = deque(self.resting)
        for number in ahead:
            known[number] = 1
        while ahead:
            for source in self.sources[ahead.popleft()]:
                if not known[source]:
                    known[source] = 1
                    ahead.append(source)
        number = known.find(0)
        return None if number < 0 else number


def search(world: SmallWorld, most_states: int) -> Searched:
    """All of it, or the first violation."""
    began_s, result, graph = time.perf_counter(), Searched(), _Graph()
    # Worlds are full of cycles, and hundreds are made in a second: what is new is looked at often, while it is near,
    # and what was there before the search never. Measured: a third faster than to look seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 500, 100)
    graph.add(digest(world), 0, ())
    ahead = deque([(0, _frozen(world))])
    while ahead and result.found is None and not result.capped:
        number, blob = ahead.popleft()
        _expand(graph, number, blob, ahead, result)
        result.capped = len(graph.reached) > most_states
    result.states = len(graph.reached)
    if result.holds and (stuck := graph.stuck()) is not None:
        result.found = Found("ComesToRest: from here nothing leads to rest", graph.way(stuck))
    result.seconds = time.perf_counter() - began_s
    gc.unfreeze()
    return result


def _frozen(world: SmallWorld) -> bytes:
    return pickle.dumps(world, pickle.HIGHEST_PROTOCOL)


def _expand(graph: _Graph, number: int, blob: bytes, ahead: deque[tuple[int, bytes]], result: Searched) -> None:
    world: SmallWorld = pickle.loads(blob)
    actions = world.actions()
    for action in actions:
        if action is not actions[0]:
            world = pickle.loads(blob)
        try:
            result.steps += step(world, action)
            result.looked += world.looked()
            name = digest(world)
            known = graph.numbers.get(name)
            if known is None and world.at_rest():
                world.note_rest()
                world.judge()
                result.looked += world.looked()
                result.resting += 1
        except (Violated, AssertionError) as violated:
            text = (
                str(violated) if isinstance(violated, Violated) else f"exception: {type(violated).__name__} {violated}"
            )
            result.found = Found(text, [*graph.way(number), action])
            return
        result.seen.update(world.seen)
        if known is None:
            known = graph.add(name, number, action)
            if world.at_rest():
                graph.resting.append(known)
                result.schedules += 1
            ahead.append((known, _frozen(world)))
        else:
            result.schedules += 1
        if action[0] != "fault":
            graph.sources[known].append(number)


def step(world: SmallWorld, action: Action) -> int:
    """Do it, and then whatever else is the only thing that can happen; how many actions that was."""
    count = 0
    following: list[Action] = [action]
    while len(following) == 1 and (not count or following[0][0] != "tick"):
        world.perform(following[0])
        world.judge()
        count += 1
        following = world.actions()
    return count


def replay(world: SmallWorld, way: list[Action]) -> None:
    """The same again, to be looked at."""
    for action in way:
        step(world, action)
    if world.at_rest():
        world.note_rest()
        world.judge()
