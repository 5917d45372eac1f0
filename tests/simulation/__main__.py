"""`python -m tests.simulation --seeds 1-2000`: the last line is a summary in JSON. `--seed N --trace` replays one."""

from __future__ import annotations

import argparse
import json
import sys

from tests.simulation.campaign import Campaign, campaign, play
from tests.simulation.plan import plan_of

_NON_VACUOUS_FROM = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", default="1-2000", help="first-last")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _one(arguments.seed, trace=arguments.trace)
    first, last = (int(part) for part in arguments.seeds.split("-"))
    result = campaign(range(first, last + 1))
    print(json.dumps(_summary(result)))
    return 1 if result.failed else 0


def _one(seed: int, *, trace: bool) -> int:
    plan = plan_of(seed)
    if trace:
        print(plan.rules, plan.odds, f"{plan.workers} workers, static {plan.static}", plan.behaviours, sep="\n")
    played = play(plan, trace=print if trace else None)
    for violation in played.violations:
        print(f"seed {seed}: {violation}")
    print(json.dumps({"seed": seed, "steps": played.steps, "violations": len(played.violations), "seen": played.seen}))
    return 1 if played.violations else 0


def _summary(result: Campaign) -> dict[str, object]:
    return {
        "schedules": result.schedules,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "evaluated": dict(result.evaluated),
        "seen": dict(sorted(result.seen.items())),
        "failed": len(result.failed),
    }


if __name__ == "__main__":
    sys.exit(main())
