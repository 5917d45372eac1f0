"""`python -m tests.simulation --seeds 1-2000`: many schedules; a run of 500 or more fails if it was vacuous.

`--seed N --trace` replays one and prints everything that happens, `--bank` runs the wrong variants, each of which has
to be caught. The last line of each is a summary in JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.simulation.campaign import Campaign, campaign, play
from tests.simulation.plan import plan_of
from tests.simulation.shrink import Shrunk
from tests.simulation.sweep import PLANS, Strike, strike
from tests.simulation.variants import VARIANTS, row_of

_NON_VACUOUS_FROM = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1-2000", help="first-last")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--shrunk", help="what is left of it, as a failure's line tells")
    parser.add_argument("--strike", help="one strike of the sweep instead: PLAN/PLACE:NUMBER:FAULT")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--bank", action="store_true", help="the wrong variants instead")
    arguments = parser.parse_args()
    if arguments.bank:
        return _bank()
    if arguments.strike is not None:
        return _strike(arguments.strike, trace=arguments.trace)
    if arguments.seed is not None:
        return _one(arguments.seed, arguments.shrunk, trace=arguments.trace)
    first, last = (int(part) for part in arguments.seeds.split("-"))
    return _many(range(first, last + 1))


def _many(seeds: range) -> int:
    result = campaign(seeds)
    missing = result.missing() if len(seeds) >= _NON_VACUOUS_FROM else []
    if missing:
        print("it never happened, so nothing was shown about it:", ", ".join(missing))
    print(json.dumps(_summary(result, missing)))
    return 1 if result.failed or missing else 0


def _strike(text: str, *, trace: bool) -> int:
    name, _, places = text.partition("/")
    strikes = [Strike.read(place) for place in places.split("+")]
    struck = strike(PLANS[name], strikes, trace=print if trace else None)
    for violation in struck.violations:
        print(f"{text}: {violation}")
    print(json.dumps({"strike": text, "struck": struck.struck, "violations": len(struck.violations)}))
    return 1 if struck.violations else 0


def _one(seed: int, shrunk: str | None, *, trace: bool) -> int:
    plan = plan_of(seed) if shrunk is None else Shrunk.read(seed, shrunk).plan()
    if trace:
        print(plan.rules, plan.odds, f"{plan.workers} workers, static {plan.static}", plan.behaviours, sep="\n")
    played = play(plan, trace=print if trace else None)
    for violation in played.violations:
        print(f"seed {seed}: {violation}")
    print(json.dumps({"seed": seed, "steps": played.steps, "violations": len(played.violations), "seen": played.seen}))
    return 1 if played.violations else 0


def _bank() -> int:
    """As rows of a table: docs/correctness.md has them."""
    began_s, escaped = time.perf_counter(), []
    for variant in VARIANTS:
        played = variant.caught()
        if played is None:
            escaped.append(variant.name)
        print(row_of(variant, played), flush=True)
    caught = len(VARIANTS) - len(escaped)
    seconds = round(time.perf_counter() - began_s, 1)
    print(json.dumps({"variants": len(VARIANTS), "caught": caught, "escaped": escaped, "seconds": seconds}))
    return 1 if escaped else 0


def _summary(result: Campaign, missing: list[str]) -> dict[str, object]:
    seconds = max(result.seconds, 0.001)
    return {
        "schedules": result.schedules,
        "steps": result.steps,
        "seconds": round(seconds, 1),
        "schedules_per_second": round(result.schedules / seconds),
        "steps_per_second": round(result.steps / seconds),
        "checks": dict(result.evaluated),
        "faults": {kind[7:]: count for kind, count in sorted(result.seen.items()) if kind.startswith("fault: ")},
        "seen": {kind: count for kind, count in sorted(result.seen.items()) if not kind.startswith("fault: ")},
        "missing": missing,
        "failed": len(result.failed),
    }


if __name__ == "__main__":
    sys.exit(main())
