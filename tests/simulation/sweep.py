"""Every gap between two effects of the runner, every call, every commit and every dead letter, with each fault that can
strike there: first each place by itself, then any two.

One quiet world is played once to count its places; then it is played again for each place and each fault. Nothing else
goes wrong, so what a place does is seen by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kafka_once.core.rules import Rules, StoreCall
from kafka_once.core.semantics import Semantics
from kafka_once.errors import StoreRefused
from tests.simulation.plan import FATES, Behaviour, Odds, Plan, Planned
from tests.simulation.schedule import Schedule
from tests.simulation.verdict import judge
from tests.simulation.wire import Wire
from tests.simulation.world import Build, World

if TYPE_CHECKING:
    from tests.simulation.worker import Worker

__all__ = ["KINDS", "PLANS", "Strike", "Struck", "Swept", "pairs", "places", "singles", "strike", "sweep"]

_LEASE_MS = 300
_DRAIN_MS = 200

KINDS: dict[str, tuple[str, ...]] = {
    "gap": ("kill", "pause past the lease", "pause past the session"),
    "call": (*FATES, "refused"),
    "commit": ("lost", "unanswered", "drop", "stop"),
    "publish": ("unconfirmed, taken", "unconfirmed, not taken"),
    "run": ("kill", "pause past the lease", "pause past the session"),
}


@dataclass(frozen=True, slots=True)
class Strike:
    """The `number`-th time that the world comes to such a place, this happens. `what` says which effect is next."""

    place: str
    number: int
    fault: str
    what: str = ""

    def __str__(self) -> str:
        return f"{self.place}:{self.number}:{self.fault}"

    @classmethod
    def read(cls, text: str) -> Strike:
        place, number, fault = text.split(":")
        return cls(place, int(number), fault)


class _SweptWire(Wire):
    def _fate(self, worker: Worker) -> str:
        fault: str | None = self._world.comes_to("call", worker)  # type: ignore[attr-defined]
        return fault or "fine"

    def _keep_a_copy(self, worker: Worker, call: StoreCall) -> None:
        """Copies come by strikes only."""

    def _arrive(self, worker: Worker, trip: Any) -> None:
        if trip.fate != "refused":
            super()._arrive(worker, trip)
            return
        self._away[worker].remove(trip)
        self.abandon(worker)
        worker.post(("on_refusal", (StoreRefused("no"),)))


class SweptWorld(World):
    """Nothing happens by chance but the order of things; `strikes` happen where they are named."""

    def __init__(
        self, plan: Plan, build: Build, strikes: Sequence[Strike], trace: Callable[[str], None] | None
    ) -> None:
        self.struck = 0
        self.places: list[Strike] = []
        self._strikes = {(strike.place, strike.number): strike for strike in strikes}
        self._been: Counter[str] = Counter()
        super().__init__(plan, build, trace)
        self.wire = _SweptWire(self, self.store, plan.rules.lease_ms)

    def comes_to(self, place: str, worker: Worker, what: str = "") -> str | None:
        """What happens here; once."""
        number = self._been[place]
        self._been[place] += 1
        self.places.append(Strike(place, number, "", what))
        strike = self._strikes.get((place, number))
        if strike is None:
            return None
        self.struck += 1
        self.saw(f"fault: {place} {strike.fault}", worker.name)
        return strike.fault

    def cuts(self, worker: Worker) -> bool:
        if worker.state != "alive":
            return True
        return self._stops(worker, self.comes_to("gap", worker, worker.next_effect))

    def _stops(self, worker: Worker, fault: str | None) -> bool:
        if fault == "kill":
            self.crash(worker)
        elif fault is not None:
            self.pause(worker, 2 * self.plan.rules.lease_ms)
            if fault == "pause past the session":
                for name in [name for name, owner in self.group.owners.items() if owner is worker]:
                    self.group.take_away(name, self.now_ms + 3 * self.plan.rules.lease_ms)
        return fault is not None

    def commit_fate(self) -> str:
        return self.comes_to("commit", self.slots[0]) or "taken"

    def publish_fate(self) -> tuple[bool, bool]:
        fault = self.comes_to("publish", self.slots[0])
        return fault != "unconfirmed, not taken", fault is None

    def interrupts(self, worker: Worker) -> bool:
        return self._stops(worker, self.comes_to("run", worker))


@dataclass(slots=True)
class Swept:
    schedules: int = 0
    struck: int = 0
    steps: int = 0
    evaluated: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)


def _plan(rules: Rules) -> Plan:
    """Two processes, two partitions, repeats in both, one that raises and one that never succeeds."""
    messages = [Planned(0, 0, "a", "plain", None), Planned(1, 0, "b", "plain", None), Planned(0, 1, "c", "plain", None)]
    messages += [
        Planned(1, 3, "a", "plain", None),
        Planned(0, 2, "d", "plain", None),
        Planned(0, 3, "a", "plain", None),
    ]
    odds = Odds(
        fault=0.0,
        faults={},
        wire={},
        ambush=0.0,
        late_releases=0.0,
        cut=0.0,
        commit=0.0,
        publish=0.0,
        zombie_accepted=1.0,
        weights=dict.fromkeys(("turn", "store", "run", "commit", "publish", "group", "late"), 1.0),
        tick_ms=3,
        lingers_ms=20,
        handler_ms=0.3,
    )
    behaviours = {"c": Behaviour(raises=1), "d": Behaviour(raises=9)}
    return Plan(7, 2, 2, False, rules, messages, odds, 0, _DRAIN_MS, 3, behaviours)


_LETTERS = Rules(
    concurrency=2,
    buffer=3,
    attempts=2,
    backoff_ms=20,
    backoff_most_ms=40,
    dead_letter_failures=True,
    dead_letter_payloads=True,
    lease_ms=_LEASE_MS,
    store_depth=4,
    commit_every_ms=20,
    mark="mark",
)

PLANS: dict[str, Plan] = {
    "effectively once": _plan(_LETTERS),
    "effectively once, handed out": _plan(replace(_LETTERS, exclusive=False)),
    "effectively once, static": replace(_plan(_LETTERS), static=True),
    "at most once": _plan(replace(_LETTERS, semantics=Semantics.AT_MOST_ONCE)),
    "at most once, no store": _plan(replace(_LETTERS, semantics=Semantics.AT_MOST_ONCE, store=False)),
    "at least once": _plan(replace(_LETTERS, semantics=Semantics.AT_LEAST_ONCE, store=False)),
}


@dataclass(slots=True)
class Struck:
    """One schedule. `struck`: how many of the strikes came to pass; an earlier one may lead elsewhere."""

    places: list[Strike]
    struck: int
    steps: int
    violations: list[str]
    evaluated: Counter[str]


def strike(
    plan: Plan, strikes: Sequence[Strike], build: Build | None = None, trace: Callable[[str], None] | None = None
) -> Struck:
    """Play it once."""
    world = SweptWorld(plan, build or Build(), strikes, trace)
    schedule = Schedule(world)
    try:
        schedule.run()
    except Exception as error:  # noqa: BLE001  (whatever it is, the strike is the finding)
        violations, evaluated = [f"exception: {type(error).__name__}: {error}"], Counter[str]()
    else:
        verdict = judge(plan.terms, world.history)
        violations, evaluated = verdict.violations, verdict.evaluated
    return Struck(world.places, world.struck, schedule.steps, violations, evaluated)


def places(plan: Plan) -> list[Strike]:
    """Every place that the quiet world comes to."""
    quiet = strike(plan, ())
    assert not quiet.violations, quiet.violations
    return quiet.places


def singles(plan: Plan) -> list[Strike]:
    return [replace(place, fault=fault) for place in places(plan) for fault in KINDS[place.place]]


def pairs(plan: Plan, every: int) -> Iterator[tuple[Strike, Strike]]:
    """Any two in their order; of all of them one of `every`."""
    strikes = singles(plan)
    chosen = ((a, b) for number, a in enumerate(strikes) for b in strikes[number + 1 :] if a.number != b.number)
    return (pair for number, pair in enumerate(chosen) if number % every == 0)


def sweep(name: str, chosen: Iterable[Sequence[Strike]], build: Build | None = None) -> Swept:
    """Each of these alone, in the world of that name."""
    swept = Swept()
    for strikes in chosen:
        struck = strike(PLANS[name], strikes, build)
        swept.schedules += 1
        swept.steps += struck.steps
        swept.struck += struck.struck
        swept.evaluated += struck.evaluated
        swept.by_kind.update((each.what or each.place, each.fault) for each in strikes)
        if struck.violations:
            text = "+".join(map(str, strikes))
            line = f"{text}: {struck.violations[0]} · python -m tests.simulation --strike '{name}/{text}' --trace"
            swept.failed.append(line)
    return swept
