"""What a mutant has to pass, the fastest first: unit tests of the core, drawn schedules, strikes; deep: small worlds.

A rung is something that runs and says what is wrong. Each is played once with the core as it is, to learn which lines
of the core it comes to and how long it takes: a mutant is shown only to those that come to the changed statement.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.mutation.mutants import CORE, Mutant

__all__ = ["TESTS", "Baseline", "Rung", "baseline", "with_rungs"]

_ROOT = Path(__file__).parents[2]
_UNIT = (
    "assignment",
    "buffers",
    "calls",
    "claiming",
    "claims",
    "cluster_change",
    "commits",
    "correspondence",
    "engine",
    "failover",
    "frontier",
    "giving_up",
    "hunger",
    "interplay",
    "lanes",
    "lifecycle",
    "orders",
    "pace",
    "places",
    "retries",
    "rules",
    "sharded",
    "standing",
    "start",
    "suspects",
    "turns",
    "watch",
    "words",
)
TESTS = [f"tests/unit/test_{name}.py" for name in _UNIT]
_OPTIONS = [
    "-q",
    "--capture=no",
    "-p",
    "no:cacheprovider",
    "-o",
    "timeout=0",
    "-o",
    "faulthandler_timeout=0",
    "-m",
    "not integration and not docker and not chaos and not groups",
    "--hypothesis-profile=mutation",
]
_FEW, _MANY = 15, 200  # seeds
_SPARSE, _DENSE = 40, 8  # one strike of so many


@dataclass(frozen=True, slots=True)
class Rung:
    """`failed` says what is wrong, or nothing."""

    name: str
    failed: Callable[[], str]


@dataclass(slots=True)
class Baseline:
    """`seconds` of each rung with the core as it is, `touched`: (file, line) → the rungs that come there."""

    seconds: dict[str, float] = field(default_factory=dict)
    touched: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    failed: dict[str, str] = field(default_factory=dict)

    def chosen(self, mutant: Mutant) -> list[str]:
        """The rungs that can see it, the fastest first. What is evaluated at import any of them may see."""
        if not mutant.where:
            return sorted(self.seconds, key=lambda name: (self.seconds[name], name))
        lines = range(mutant.first, mutant.last + 1)
        seen = set().union(*(self.touched.get((mutant.file, line), set()) for line in lines))
        if not seen:  # nothing comes there
            seen = set().union(*(rungs for (file, _), rungs in self.touched.items() if file == mutant.file))
        return sorted(seen or self.seconds, key=lambda name: (self.seconds[name], name))


class _Loop:
    """Takes the place of pytest's own loop, once everything is collected."""

    def __init__(self, do: Callable[[list[Rung]], None], *, deep: bool) -> None:
        self._do, self._deep = do, deep
        self._wrong = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        from hypothesis import settings  # not before pytest: it wants to see it imported

        settings.register_profile("mutation", deadline=None, derandomize=True, database=None)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise pytest.UsageError("a test module cannot be imported")
        self._do([*(self._rung(item) for item in session.items), *_simulated(deep=self._deep)])
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._wrong = str(report.longrepr)[-2_000:]

    def _rung(self, item: pytest.Item) -> Rung:
        def failed() -> str:
            self._wrong = ""
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            return self._wrong

        return Rung(item.nodeid, failed)


def with_rungs(do: Callable[[list[Rung]], None], *, deep: bool) -> int:
    """Import and collect everything, then do it. The exit code is pytest's: 0 if it came so far."""
    return int(pytest.main([*_OPTIONS, *TESTS], plugins=[_Loop(do, deep=deep)]))


def _simulated(*, deep: bool) -> Iterable[Rung]:
    from tests.exhaustive.scopes import QUICK  # imported here: a changed core comes first
    from tests.exhaustive.search import search
    from tests.simulation import sweep
    from tests.simulation.campaign import play
    from tests.simulation.plan import plan_of

    def seed(number: int) -> str:
        return "; ".join(play(plan_of(number)).violations)

    def strike(plan: Any, each: Any) -> str:
        return "; ".join(sweep.strike(plan, [each]).violations)

    def world(scope: Any) -> str:
        searched = search(scope.world(), scope.most_states)
        return "" if searched.holds else f"{searched.found}"

    for number in range(1, (_MANY if deep else _FEW) + 1):
        yield Rung(f"seed {number}", lambda number=number: seed(number))
    for name, plan in sweep.PLANS.items():
        for each in sweep.singles(plan)[:: _DENSE if deep else _SPARSE]:
            yield Rung(f"strike {name}: {each}", lambda plan=plan, each=each: strike(plan, each))
    for scope in QUICK:
        if deep and scope.name in _WORLDS:
            yield Rung(f"world {scope.name}", lambda scope=scope: world(scope))


_WORLDS = {
    "2 × a, publish, never succeeds",
    "2 × a, reply, raises once",
    "2 × aa, reply",
    "2 × aa, reply, at_most_once",
}


def baseline(rungs: list[Rung]) -> Baseline:
    """Run all of them once, with the core as it is."""
    result = Baseline()
    measured = coverage.Coverage(data_file=None, config_file=False, source=[str(CORE)], messages=False)
    measured.start()
    for rung in rungs:
        measured.switch_context(rung.name)
        began_s = time.process_time()
        wrong = rung.failed()
        result.seconds[rung.name] = time.process_time() - began_s
        if wrong:
            result.failed[rung.name] = wrong
    measured.stop()
    data = measured.get_data()
    for file in data.measured_files():
        for line, names in data.contexts_by_lineno(file).items():
            result.touched[Path(file).name, line].update(name for name in names if name in result.seconds)
    return result
