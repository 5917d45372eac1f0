"""`python -m tests.mutation`: small changes to the core, one at a time, each of which some test must notice.

    --only claims.py    the mutants of these modules
    --survivors         only those that the last run left alive: for the time while tests are written
    --deep              many seeds and strikes, and small worlds; with --survivors, for it takes long
    --jobs 2            so many at a time
    --report            only what is known from the last run

It goes on where it was stopped, as long as neither the core nor the tests have changed. What survives is printed as
`file:line` with the change, unless it is explained in explained.py. The last line is JSON. Exit code 1 if
something survived unexplained, or if an explanation is of no mutant that survives.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.mutation.explained import EXPLAINED
from tests.mutation.ladder import TESTS, Baseline, Rung, baseline, with_rungs
from tests.mutation.mutants import CORE, Mutant, mutants
from tests.mutation.trial import NOT_RUN, NotPatched, Trial, climb, imports, patch, run_all

__all__ = ["main"]

_ROOT = Path(__file__).parents[2]
_KEPT = _ROOT / "build/mutation"


def _digest(*roots: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for root in roots for path in ([root] if root.is_file() else root.rglob("*.py"))):
        whole.update(path.name.encode() + path.read_bytes())
    return whole.hexdigest()[:16]


class _Results:
    """What is known of each mutant, in a file that grows by a line for each. "" is a survivor."""

    def __init__(self, core: str, whole: str, *, only_survivors: bool, only_read: bool) -> None:
        self.killed_by: dict[str, tuple[str, str]] = {}
        _KEPT.mkdir(parents=True, exist_ok=True)
        self._path = _KEPT / "results.jsonl"
        lines = self._lines()
        if only_read and lines and lines[0][0] == core:
            self.read_again()
        elif lines and (lines[0] == [core, whole] or (lines[0][0] == core and only_survivors)):
            self.killed_by = {name: (rung, what) for name, rung, what in lines[1:]}
        if only_survivors:
            self.killed_by = {name: told for name, told in self.killed_by.items() if told[0]}
        self.taken_over = len(self.killed_by)
        if only_read:
            return
        self._file = self._path.open("w")
        self._write([core, whole])
        for name, told in self.killed_by.items():
            self._write([name, *told])

    def _lines(self) -> list[list[str]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def read_again(self) -> None:
        """What a forked process has written."""
        self.killed_by = {name: (rung, what) for name, rung, what in self._lines()[1:]}

    def add(self, mutant: Mutant, rung: str, what: str) -> None:
        self.killed_by[mutant.name] = rung, what
        self._write([mutant.name, rung, what])

    def _write(self, line: object) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _forked(do: Callable[[], None]) -> None:
    """In a process of its own; whatever it imports is not imported here."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do()
            code = 0
        except BaseException:  # noqa: BLE001  (the other process only learns that it failed)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit("the tests cannot be run with the core as it is")


def _baseline(whole: str, *, deep: bool) -> Baseline:
    path = _KEPT / f"baseline-{whole}.pickle"

    def learn() -> None:
        def do(rungs: list[Rung]) -> None:
            path.write_bytes(pickle.dumps(baseline(rungs)))

        if with_rungs(do, deep=deep):
            raise SystemExit("the tests cannot be collected")

    if not path.exists():
        _forked(learn)
    learnt: Baseline = pickle.loads(path.read_bytes())
    if learnt.failed:
        path.unlink()
        raise SystemExit(f"these fail with the core as it is: {learnt.failed}")
    return learnt


class _Run:
    def __init__(self, learnt: Baseline, results: _Results, jobs: int, *, deep: bool) -> None:
        self._learnt, self._results, self._jobs, self._deep = learnt, results, jobs, deep
        self._best: dict[str, Counter[str]] = {}  # of each module: what has killed most, first

    def of_functions(self, chosen: list[Mutant]) -> None:
        """Everything is imported once; each mutant is a fork of that."""

        def do(rungs: list[Rung]) -> None:
            self._climb(chosen, {rung.name: rung for rung in rungs})

        _forked(lambda: self._collected(do))

    def of_imports(self, chosen: list[Mutant]) -> None:
        """Each mutant is a fork that imports everything anew."""

        def start(mutant: Mutant) -> Trial:
            def do(tell: Callable[[str, str], None]) -> None:
                imports(mutant)
                if with_rungs(
                    lambda rungs: self._up(mutant, {rung.name: rung for rung in rungs}, tell), deep=self._deep
                ):
                    tell("import", "the tests cannot be collected")

            return Trial(do)

        run_all(chosen, start, self._ended, self._jobs)

    def _collected(self, do: Callable[[list[Rung]], None]) -> None:
        if with_rungs(do, deep=self._deep):
            raise SystemExit("the tests cannot be collected")

    def _climb(self, chosen: list[Mutant], rungs: dict[str, Rung]) -> None:
        def start(mutant: Mutant) -> Trial:
            def do(tell: Callable[[str, str], None]) -> None:
                try:
                    patch(mutant)
                except NotPatched:
                    tell(NOT_RUN, "")
                    return
                self._up(mutant, rungs, tell)

            return Trial(do)

        run_all(chosen, start, self._ended, self._jobs)

    def _up(self, mutant: Mutant, rungs: dict[str, Rung], tell: Callable[[str, str], None]) -> None:
        names = [name for name in self._learnt.chosen(mutant) if name in rungs]
        best = self._best.get(mutant.file, Counter[str]())
        names.sort(key=lambda name: self._learnt.seconds[name] / (1 + best[name]))
        climb(((name, rungs[name].failed, self._learnt.seconds[name]) for name in names), tell)

    def _ended(self, mutant: Mutant, rung: str, what: str) -> None:
        if rung == NOT_RUN:
            return  # it is left for `of_imports`, or for the next time
        self._best.setdefault(mutant.file, Counter())[rung] += 1
        self._results.add(mutant, rung, what)
        if not rung and mutant.name not in EXPLAINED:
            print(mutant.diff, flush=True)


def _summary(chosen: list[Mutant], results: _Results, seconds: float, *, whole: bool) -> tuple[int, dict[str, object]]:
    names = {mutant.name for mutant in chosen}
    run = names & results.killed_by.keys()
    alive = {name for name in run if not results.killed_by[name][0]}
    idle = sorted(EXPLAINED.keys() - alive - (names - run) if whole else (EXPLAINED.keys() & run) - alive)
    for name in idle:
        print(f"explained, but {'killed' if name in names else 'gone'}: {name}")
    by = Counter(_kind(results.killed_by[name][0]) for name in run - alive)
    survived = len(alive - EXPLAINED.keys())
    summary = {
        "mutants": len(names),
        "killed": len(run) - len(alive),
        "by": dict(by.most_common()),
        "explained": len(alive & EXPLAINED.keys()),
        "survived": survived,
        "not_run": len(names - run),
        "explanations_of_nothing": len(idle),
        "taken_over": results.taken_over,
        "seconds": round(seconds, 1),
    }
    return (1 if survived or idle or names - run else 0), summary


def _kind(rung: str) -> str:
    if rung.startswith("tests/"):
        return rung.split("/")[1]
    return rung.split(maxsplit=1)[0]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", action="append", default=[], help="the mutants of this module, claims.py")
    parser.add_argument("--survivors", action="store_true", help="those that the last run left alive")
    parser.add_argument("--deep", action="store_true", help="more seeds, more strikes, small worlds")
    parser.add_argument("--report", action="store_true", help="what is known; nothing is run")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="what is changed; nothing is run")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    chosen = [each for each in mutants() if not arguments.only or each.file in arguments.only]
    if arguments.list:
        print("\n".join(each.diff for each in chosen))
        return 0
    core = _digest(CORE)
    tests = [_ROOT / test for test in TESTS]
    whole = _digest(CORE, *tests, _ROOT / "tests/unit/bench.py", _ROOT / "tests/simulation", _ROOT / "tests/exhaustive")
    whole += "-deep" * arguments.deep
    results = _Results(core, whole, only_survivors=arguments.survivors, only_read=arguments.report)
    if arguments.report:
        alive = {name for name, (rung, _) in results.killed_by.items() if not rung}
        print("\n".join(each.diff for each in chosen if each.name in alive - EXPLAINED.keys()))
    else:
        run = _Run(_baseline(whole, deep=arguments.deep), results, arguments.jobs, deep=arguments.deep)
        run.of_functions([each for each in chosen if each.where and each.name not in results.killed_by])
        results.read_again()
        run.of_imports([each for each in chosen if each.name not in results.killed_by])
    code, summary = _summary(chosen, results, time.monotonic() - began_s, whole=not arguments.only)
    print(json.dumps(summary))
    return code


if __name__ == "__main__":
    sys.exit(main())
