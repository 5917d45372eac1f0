"""The group's offset expires, and late commits put it back, at any moment and among all other faults."""

from collections import Counter
from dataclasses import replace

from kafka_once.core.semantics import Semantics
from tests.simulation.campaign import play
from tests.simulation.plan import plan_of


def test_whatever_happens_to_the_committed_offset_nothing_is_lost_and_nothing_runs_again_untold() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1, 81):
        plan = plan_of(seed, (Semantics.EFFECTIVELY_ONCE, True))
        faults = {**plan.odds.faults, "move": 5, "expire": 5, "late commit": 5}
        played = play(replace(plan, odds=replace(plan.odds, fault=0.06, faults=faults)))
        assert played.violations == [], f"seed {seed}"
        seen += played.seen

    assert seen["fault: expire"] > 50
    assert seen["fault: late commit"] > 50
    assert seen["started at the frontier"] > 50
