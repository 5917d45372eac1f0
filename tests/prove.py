"""`python -m tests.prove`: everything that shows that the promise is kept, on all cores; `--long` for the night.

What `--long` has come to is kept in build/prove: stopped, it goes on from there, as long as the code is the same.
The last line is JSON: schedules, states, checks evaluated, violations, bugs caught and all, seconds. Exit code 1 if
something was violated, if a wrong variant escaped, if a search did not end, or if a campaign was vacuous.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tests.exhaustive import scopes
from tests.exhaustive.__main__ import line
from tests.exhaustive.search import search
from tests.simulation import sweep
from tests.simulation.campaign import Campaign, campaign
from tests.simulation.variants import VARIANTS, row_of

__all__ = ["PARTS", "Part", "main"]

PARTS = ("worlds", "seeds", "crashes", "bugs")
_ROOT = Path(__file__).parents[1]
_CHUNK = 250
_NON_VACUOUS_FROM = 500


@dataclass(slots=True)
class Part:
    """What one task found. `campaign`: of seeds, to be added up and looked at for what never happened."""

    lines: list[str] = field(default_factory=list)
    schedules: int = 0
    states: int = 0
    violations: list[str] = field(default_factory=list)
    caught: int = 0
    bugs: int = 0
    evaluated: Counter[str] = field(default_factory=Counter)
    campaign: Campaign | None = None

    def add(self, other: Part) -> None:
        self.schedules += other.schedules
        self.states += other.states
        self.violations += other.violations
        self.caught += other.caught
        self.bugs += other.bugs
        self.evaluated.update(other.evaluated)


def _search(long: bool, number: int) -> Part:
    scope = (scopes.LONG if long else scopes.QUICK)[number]
    searched = search(scope.world(), scope.most_states)
    text = line(scope, searched)
    part = Part([text], searched.schedules, searched.states, [] if searched.holds else [text])
    part.evaluated.update(searched.looked)
    return part


def _seeds(first: int, last: int) -> Part:
    said: list[str] = []
    result = campaign(range(first, last), say=said.append)
    return Part(said, result.schedules, 0, said, evaluated=result.evaluated, campaign=result)


def _strikes(name: str, first: int, every: int, long: bool) -> Part:
    plan = sweep.PLANS[name]
    singles = ([strike] for strike in sweep.singles(plan))
    chosen: Iterable[Any] = sweep.pairs(plan, 7) if long else singles
    swept = sweep.sweep(name, islice(chosen, first, None, every))
    vacuous = [] if swept.struck else [f"{name}: no strike came to pass"]
    return Part(swept.failed, swept.schedules, 0, swept.failed + vacuous, evaluated=swept.evaluated)


def _variant(number: int) -> Part:
    variant = VARIANTS[number]
    played = variant.caught()
    text = row_of(variant, played)
    if played is None:
        return Part([text], bugs=1, violations=[text])
    return Part([text], schedules=played.seed - variant.first + 1, bugs=1, caught=1)


class _Kept:
    """What tasks of earlier runs on the same code have found, and how long those runs took."""

    def __init__(self, *, keep: bool) -> None:
        self.parts: dict[str, Part] = {}
        self.seconds = 0.0
        self._folder = _ROOT / "build/prove" / _digest() if keep else None
        if self._folder is not None and self._folder.exists():
            for path in sorted(self._folder.iterdir()):
                task, part, seconds = pickle.loads(path.read_bytes())
                self.parts[task] = part
                self.seconds = max(self.seconds, seconds)

    def add(self, task: str, part: Part, seconds: float) -> None:
        """In a file of its own, which is there whole or not at all."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            written = self._folder.with_suffix(".part")
            written.write_bytes(pickle.dumps((task, part, seconds)))
            written.rename(self._folder / hashlib.sha256(task.encode()).hexdigest()[:16])


def _digest() -> str:
    """Of the code under test, and of what tests it."""
    whole = hashlib.sha256()
    for folder in ("middleware", "tests/exhaustive", "tests/simulation"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def _name(task: tuple[Any, ...]) -> str:
    return f"{task[0].__name__}{task[1:]}"


def _tasks(parts: Collection[str], *, long: bool, seeds: int) -> Iterator[tuple[Any, ...]]:
    """The long ones first, so that all cores end together."""
    if "worlds" in parts:
        yield from ((_search, long, number) for number in range(len(scopes.LONG if long else scopes.QUICK)))
    if "seeds" in parts:
        yield from ((_seeds, first, min(first + _CHUNK, seeds + 1)) for first in range(1, seeds + 1, _CHUNK))
    if "crashes" in parts:
        every = 40 if long else 2
        yield from ((_strikes, name, first, every, long) for name in sweep.PLANS for first in range(every))
    if "bugs" in parts:
        yield from ((_variant, number) for number in range(len(VARIANTS)))


def _part_of(task: tuple[Any, ...], future: Future[Part]) -> Part:
    """What it found. An exception is a violation like any other: what else was found must not be lost by it."""
    error = future.exception()
    if error is None:
        return future.result()
    text = f"{_name(task)}: {type(error).__name__}: {error} {error.__cause__}"
    return Part([text], violations=[text])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seeds", type=int, help="default 5,000; 100,000 with --long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part")
    arguments = parser.parse_args()
    parts = arguments.only or PARTS
    seeds = arguments.seeds or (100_000 if arguments.long else 5_000)
    began_s, whole, seen = time.monotonic(), Part(), Campaign()
    kept = _Kept(keep=arguments.long)
    tasks = list(_tasks(parts, long=arguments.long, seeds=seeds))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = [None if _name(task) in kept.parts else pool.submit(*task) for task in tasks]
        for task, future in zip(tasks, waiting, strict=True):
            part = kept.parts[_name(task)] if future is None else _part_of(task, future)
            if future is not None and future.exception() is None:
                kept.add(_name(task), part, kept.seconds + time.monotonic() - began_s)
            print(*part.lines, sep="\n", end="\n" if part.lines else "", flush=True)
            whole.add(part)
            if part.campaign is not None:
                seen.seen += part.campaign.seen
                seen.evaluated += part.campaign.evaluated
    if "seeds" in parts and seeds >= _NON_VACUOUS_FROM:
        whole.violations += [f"it never happened: {what}" for what in seen.missing()]
    if not whole.evaluated and parts != ["bugs"]:
        whole.violations.append("nothing was checked")
    print(json.dumps(_summary(whole, kept.seconds + time.monotonic() - began_s)))
    return 1 if whole.violations else 0


def _summary(whole: Part, seconds: float) -> dict[str, object]:
    return {
        "schedules": whole.schedules,
        "states": whole.states,
        "checks": dict(sorted(whole.evaluated.items())),
        "checks_evaluated": sum(whole.evaluated.values()),
        "violations": whole.violations,
        "bugs_caught": whole.caught,
        "bugs": whole.bugs,
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
