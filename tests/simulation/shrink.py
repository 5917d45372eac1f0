"""A failing schedule made small: faults, messages and processes are left out while it still fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.simulation.plan import Odds, Plan, plan_of

__all__ = ["Shrunk", "shrink"]

_WITHIN_S = 60.0
_SINGLE = ("ambush", "late_releases", "cut", "commit", "publish", "zombie_accepted", "lingers_ms")


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is left of a seed's plan. `without` names odds (`cut`, `faults.crash`, `wire.reply lost`) that are 0."""

    seed: int
    workers: int
    messages: tuple[int, ...]
    without: frozenset[str] = frozenset()

    def plan(self) -> Plan:
        plan = plan_of(self.seed)
        messages = [plan.messages[number] for number in self.messages]
        behaviours = {} if "behaviours" in self.without else plan.behaviours
        odds = _without(plan.odds, self.without)
        return replace(plan, workers=self.workers, messages=messages, behaviours=behaviours, odds=odds)

    def __str__(self) -> str:
        """As `--shrunk` takes it."""
        without = ";".join(sorted(self.without)).replace(" ", "-")
        return f"{self.workers}:{','.join(map(str, self.messages))}:{without}"

    @classmethod
    def read(cls, seed: int, text: str) -> Shrunk:
        workers, messages, without = text.split(":")
        numbers = tuple(int(number) for number in messages.split(",") if number)
        return cls(seed, int(workers), numbers, frozenset(without.replace("-", " ").split(";")) - {""})


def _without(odds: Odds, names: frozenset[str]) -> Odds:
    changed = {name: type(getattr(odds, name))(0) for name in _SINGLE if name in names}
    faults = {kind: 0 if f"faults.{kind}" in names else count for kind, count in odds.faults.items()}
    wire = {fate: 0.0 if f"wire.{fate}" in names else count for fate, count in odds.wire.items()}
    return replace(odds, **changed, faults=faults, wire=wire)  # type: ignore[arg-type]


def _names(plan: Plan) -> list[str]:
    singles = [name for name in _SINGLE if getattr(plan.odds, name)]
    faults = [f"faults.{kind}" for kind, count in plan.odds.faults.items() if count]
    wire = [f"wire.{fate}" for fate, count in plan.odds.wire.items() if count]
    return [*singles, *faults, *wire, *(["behaviours"] if plan.behaviours else [])]


def shrink(seed: int, fails: Callable[[Plan], bool], within_s: float = _WITHIN_S) -> Shrunk:
    """The smallest that still fails, found by leaving out one thing after another, again while that helps."""
    plan = plan_of(seed)
    small = Shrunk(seed, plan.workers, tuple(range(len(plan.messages))))
    until_s = time.monotonic() + within_s
    helped = True
    while helped:
        helped = False
        for smaller in _smaller(small, plan):
            if time.monotonic() > until_s:
                return small
            if fails(smaller.plan()):
                small, helped = smaller, True
                break
    return small


def _smaller(small: Shrunk, plan: Plan) -> Iterator[Shrunk]:
    """Every next step, the large ones first."""
    messages = small.messages
    half = len(messages) // 2
    while half:
        for first in range(0, len(messages), half):
            yield replace(small, messages=messages[:first] + messages[first + half :])
        half //= 2
    for name in _names(plan):
        if name not in small.without:
            yield replace(small, without=small.without | {name})
    if small.workers > 1:
        yield replace(small, workers=small.workers - 1)
