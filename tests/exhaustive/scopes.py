"""Which worlds are searched to their end: how many processes, what is in the log, what may go wrong and how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kafka_once.core.rules import Rules
from kafka_once.core.semantics import Semantics
from tests.exhaustive.small_world import TICK_MS, SmallWorld
from tests.simulation.plan import Behaviour, Plan, Planned, plan_of
from tests.simulation.world import Build

__all__ = ["LONG", "QUICK", "Scope"]

_NEVER_MS = 10**12
_RULES = Rules(
    lease_ms=3 * TICK_MS,
    commit_every_ms=TICK_MS,
    backoff_ms=TICK_MS,
    concurrency=2,
    store_depth=2,
    stall_ms=_NEVER_MS,  # that a process stood still is found out by its lease here; the seeds have the other way too
    stalled_after_ms=_NEVER_MS,
    mark="mark",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """`logs`: what stands in each partition, a letter per message, which is its key. `faults`: kind → how often.

    `joined`: sessions are open and partitions owned before anything goes wrong.
    """

    logs: tuple[str, ...]
    faults: dict[str, int] = field(default_factory=dict)
    workers: int = 2
    joined: bool = True
    static: bool = False
    rules: Rules = _RULES
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    most_states: int = 400_000

    @property
    def name(self) -> str:
        faults = (
            " ".join(kind if count == 1 else f"{count}×{kind}" for kind, count in self.faults.items()) or "no fault"
        )
        most = max((behaviour.raises for behaviour in self.behaviours.values()), default=0)
        special = [
            "" if self.rules.semantics is Semantics.EFFECTIVELY_ONCE else self.rules.semantics.value,
            "static" if self.static else "",
            "handed out" if not self.rules.exclusive else "",
            {0: "", 1: "raises once"}.get(most, "never succeeds"),
            "" if self.joined else "from the start",
        ]
        return ", ".join([f"{self.workers} × {'|'.join(self.logs)}", faults, *filter(None, special)])

    def plan(self) -> Plan:
        messages = [
            Planned(partition, offset, key, "plain", None)
            for partition, log in enumerate(self.logs)
            for offset, key in enumerate(log)
        ]
        return replace(
            plan_of(1),
            workers=self.workers,
            partitions=len(self.logs),
            static=self.static,
            rules=self.rules,
            messages=messages,
            drain_ms=2 * TICK_MS,
            hand_out=2,
            behaviours=self.behaviours,
        )

    def world(self, build: Build | None = None) -> SmallWorld:
        return SmallWorld(self.plan(), self.faults, build, joined=self.joined)


_ALONE = ("crash", "pause", "lapse", "move", "stop", "request", "reply", "late", "refusal", "commit", "failover")
_AT_MOST = replace(_RULES, semantics=Semantics.AT_MOST_ONCE)
_AT_LEAST = replace(_RULES, semantics=Semantics.AT_LEAST_ONCE, store=False)
_LETTERS = replace(_RULES, attempts=2, dead_letter_failures=True, dead_letter_payloads=True)
_HANDED_OUT = replace(_RULES, exclusive=False)
_RAISES = {"a": Behaviour(raises=1)}
_SPENT = {"a": Behaviour(raises=9)}


def _quick() -> Iterator[Scope]:
    """Two processes and two messages, of two keys or of one; each kind of fault alone."""
    for log in ("ab", "aa"):
        yield Scope((log,))
        for kind in _ALONE:
            yield Scope((log,), {kind: 1})
    yield Scope(("a",), {"snatch": 1})
    for kind in ("request", "reply", "commit"):  # the repeat is in the other partition
        yield Scope(("a", "a"), {kind: 1})
    for kind in ("crash", "reply", "publish"):
        yield Scope(("a",), {kind: 1}, rules=_LETTERS, behaviours=_SPENT)
    for kind in ("crash", "lapse", "reply"):
        yield Scope(("a",), {kind: 1}, rules=_LETTERS, behaviours=_RAISES)
    yield Scope(("a",), {"replace": 1}, static=True)
    yield Scope(("a",), {"crash": 1}, static=True)
    for kind in ("crash", "reply", "commit"):
        yield Scope(("aa",), {kind: 1}, rules=_AT_MOST)
        yield Scope(("ab",), {kind: 1}, rules=_HANDED_OUT)
    yield Scope(("ab",), {"crash": 1}, rules=_AT_LEAST)
    for kind in ("crash", "request", "reply"):
        yield Scope(("a",), {kind: 1}, joined=False)


def _long() -> Iterator[Scope]:
    """Pairs of faults, three messages, and the worlds that take minutes."""
    for log in ("aa", "ab"):
        yield Scope((log,), {"snatch": 1})
    for logs in (("a", "a"), ("a", "b")):
        for kind in ("crash", "pause", "snatch", "failover", "late", "lapse", "move"):
            yield Scope(logs, {kind: 1})
    pairs = [(a, b) for number, a in enumerate(_ALONE) for b in _ALONE[number + 1 :]]
    for a, b in pairs:
        yield Scope(("a",), {a: 1, b: 1})
    yield Scope(("a",), {"crash": 2})
    for a, b in (("reply", "lapse"), ("reply", "crash"), ("request", "move"), ("late", "lapse")):
        yield Scope(("aa",), {a: 1, b: 1})
    for log in ("aba", "abc"):
        for kind in ("crash", "lapse", "move", "reply", "commit", "failover"):
            yield Scope((log,), {kind: 1})


QUICK = tuple(_quick())
LONG = tuple(_long())
