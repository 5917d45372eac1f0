"""Many seeds: what each of them did, what was violated, and what never happened."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kafka_once.core.semantics import Semantics
from tests.simulation.amnesia import held_to
from tests.simulation.faults import FAULTS, FORGETS, LEASES
from tests.simulation.plan import FATES, Plan, plan_of
from tests.simulation.schedule import Schedule
from tests.simulation.shrink import shrink
from tests.simulation.verdict import CHECKERS, judge
from tests.simulation.world import Build, World

__all__ = ["EXPECTED", "Campaign", "Played", "campaign", "failure", "first_caught", "play"]

# What has to happen in every long campaign; a world in which it never does proves nothing about it.
EXPECTED = (
    *(f"fault: {kind}" for kind in (*FAULTS, *LEASES, *FORGETS)),
    *(f"store call: {fate}" for fate in FATES),
    "claim busy",
    "claim duplicate",
    "claim gone",
    "claim reclaimed",
    "claim skipped",
    "claim stale",
    "claim superseded",
    "claim acquired alone",
    "commit lost",
    "commit of an earlier topic",
    "commit rewinds",
    "commit unanswered",
    "completion doubled",
    "completion fenced",
    "completion forgotten",
    "ended, drained",
    "ended, not drained",
    "fenced told",
    "gap",
    "handler killed its process",
    "handler raised InDoubt",
    "handler raised NeverCompleted",
    "handler raised SystemExit",
    "handler raised UndecodablePayload",
    "handler raised ValueError",
    "killed between two effects",
    "late copy executed",
    "lost told",
    "not begun: lease not trusted",
    "order key",
    "order none",
    "order partition",
    "overtaken",
    "paused between two effects",
    "publish unconfirmed",
    "release fenced",
    "rejoined",
    "replaced while alive",
    "restarted",
    "restarted, static",
    "revoked, drained",
    "revoked, not drained",
    "session closed",
    "session evicted",
    "session lapsed",
    "session over",
    "session over: its store's clock jumped",
    "session replaced",
    "started at the frontier",
    "stood still",
    "waits for a place",
    "withdrawn",
    "zombie commit accepted",
    "zombie commit refused",
)


_SHRUNK = 3  # failures of a campaign that are made small: it takes up to a minute each


@dataclass(slots=True)
class Played:
    """One schedule."""

    seed: int
    steps: int
    violations: list[str]
    seen: Counter[str]
    evaluated: Counter[str]


@dataclass(slots=True)
class Campaign:
    """The sum of many."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    failed: dict[int, list[str]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    evaluated: Counter[str] = field(default_factory=Counter)

    def missing(self) -> list[str]:
        """What never happened, and the checkers that never looked at anything."""
        never = [kind for kind in EXPECTED if not self.seen[kind]]
        return never + [checker.__name__ for checker in CHECKERS if not self.evaluated[checker.__name__]]


def play(plan: Plan, build: Build | None = None, trace: Callable[[str], None] | None = None) -> Played:
    """One seed, judged. An exception out of the engine is a violation like any other."""
    world = World(plan, build or Build(), trace)
    schedule = Schedule(world)
    violations = []
    try:
        schedule.run()
    except Exception:  # noqa: BLE001  (whatever it is, the seed is the finding)
        violations.append("exception: " + traceback.format_exc(limit=-6))
    verdict = judge(plan.terms, world.history, held_to(plan))
    return Played(plan.seed, schedule.steps, violations or verdict.violations, world.seen, verdict.evaluated)


def campaign(seeds: Iterable[int], build: Build | None = None, say: Callable[[str], None] = print) -> Campaign:
    result = Campaign(evaluated=Counter({checker.__name__: 0 for checker in CHECKERS}))
    began_s = time.perf_counter()
    for seed in seeds:
        played = play(plan_of(seed), build)
        result.schedules += 1
        result.steps += played.steps
        result.seen += played.seen
        result.evaluated += played.evaluated
        if played.violations:
            result.failed[seed] = played.violations
            small = len(result.failed) <= _SHRUNK
            say(failure(seed, build, 60.0 if small else 0.0))
    result.seconds = time.perf_counter() - began_s
    return result


def failure(seed: int, build: Build | None = None, within_s: float = 60.0) -> str:
    """One line: what is violated, the smallest schedule that was found to show it, and how to replay that."""
    small = shrink(seed, lambda plan: bool(play(plan, build).violations), within_s)
    violation = " | ".join((play(small.plan(), build).violations or ["not again"])[0].splitlines())
    size = f"{small.workers} workers, {len(small.messages)} messages"
    return f"seed {seed}: {violation} · {size} · python -m tests.simulation --seed {seed} --shrunk '{small}' --trace"


def first_caught(seeds: Iterable[int], semantics: tuple[Semantics, bool] | None = None) -> Played | None:
    """The first seed that finds something wrong."""
    for seed in seeds:
        played = play(plan_of(seed, semantics))
        if played.violations:
            return played
    return None
