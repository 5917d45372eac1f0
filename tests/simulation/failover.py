"""Worlds in which the store fails over, again and again, and nobody dies, ends, or is away for a lease: then nothing is
lost, nothing stands still, nothing runs twice unreported, although up to 1.5 s of what was acknowledged is forgotten.

Who ends in that time takes with him what only he knew; and the list of what was in doubt loses its last entries. So
among all the other faults less is promised: nothing is lost, and nothing stands still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from kafka_once.core.semantics import Semantics
from tests.simulation.amnesia import HELD_TO_IN_AMNESIA
from tests.simulation.campaign import Played
from tests.simulation.checkers import Checker
from tests.simulation.key_checkers import DoubtIsListed
from tests.simulation.plan import Behaviour, Plan, plan_of
from tests.simulation.schedule import Schedule
from tests.simulation.store_checkers import DoneStaysDone, TracesStay
from tests.simulation.verdict import CHECKERS, judge
from tests.simulation.world import Build, World

__all__ = ["HELD_TO", "plan_with_failovers", "play_with_all_faults", "play_with_failovers"]

_LEASE_MS = 3_000


_FORGOTTEN = (DoubtIsListed, DoneStaysDone, TracesStay)  # what they look at may be among what the replica lacks
HELD_TO = tuple(checker for checker in CHECKERS if checker not in _FORGOTTEN)


def plan_with_failovers(seed: int) -> Plan:
    rng = Random(seed)
    semantics = Semantics.EFFECTIVELY_ONCE if rng.random() < 0.8 else Semantics.AT_MOST_ONCE
    plan = plan_of(seed, (semantics, True))
    odds = replace(
        plan.odds,
        fault=rng.choice((0.02, 0.05)),
        faults={"fail over": 3, "move": rng.choice((0, 1))},
        ambush=0.0,
        cut=0.0,
        tick_ms=10,
    )
    rules = replace(plan.rules, lease_ms=_LEASE_MS, dead_letter_failures=True, dead_letter_payloads=True)
    behaviours = {key: Behaviour(raises=each.raises, doubts=each.doubts) for key, each in plan.behaviours.items()}
    return replace(plan, odds=odds, behaviours=behaviours, rules=rules)


def play_with_failovers(seed: int, build: Build | None = None) -> Played:
    return _play(plan_with_failovers(seed), HELD_TO, build)


def play_with_all_faults(seed: int, build: Build | None = None) -> Played:
    plan = plan_of(seed, (Semantics.EFFECTIVELY_ONCE, True))
    odds = replace(plan.odds, fault=max(plan.odds.fault, 0.02), faults={**plan.odds.faults, "fail over": 8})
    return _play(replace(plan, odds=odds), HELD_TO_IN_AMNESIA, build)


def _play(plan: Plan, checkers: Iterable[type[Checker]], build: Build | None) -> Played:
    world = World(plan, build or Build())
    schedule = Schedule(world)
    schedule.run()
    verdict = judge(plan.terms, world.history, checkers)
    return Played(plan.seed, schedule.steps, verdict.violations, world.seen, verdict.evaluated)
