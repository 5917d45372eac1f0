"""What one seed chooses before anything happens: the size of the world, the settings, the messages, the odds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from kafka_once.core.order import Order
from kafka_once.core.rules import Rules
from kafka_once.core.semantics import Semantics
from tests.simulation.history import Terms

__all__ = ["ALWAYS", "FATES", "PICKED", "Behaviour", "Odds", "Plan", "Planned", "plan_of"]

ALWAYS = 1_000_000  # more often than anything is tried

_SEMANTICS = {
    (Semantics.EFFECTIVELY_ONCE, True): 62,
    (Semantics.AT_MOST_ONCE, True): 18,
    (Semantics.AT_MOST_ONCE, False): 8,
    (Semantics.AT_LEAST_ONCE, False): 12,
}
_FAULTS = ("crash", "pause", "stall", "cut off", "jump", "move", "snatch", "overtake", "silence", "stop", "replace")
_OFFSETS = {"expire": 2, "late commit": 2}  # in one of five; without a store nobody knows then what was done
PICKED = ("turn", "store", "run", "commit", "publish", "group", "late")
FATES = ("request lost", "reply lost", "copy later", "reply lost, copy later", "only later")


class Planned(NamedTuple):
    """A message to come. See `history.Produced`."""

    partition: int
    offset: int
    key: str
    kind: str
    record_key: str | None


class Behaviour(NamedTuple):
    """What a handler does with a key: its first `kills` runs end the process, the next `raises` raise, then it returns.

    `doubts`, `abandons`, `exits`: number of the run that raises `InDoubt`, `NeverCompleted`, `SystemExit`; 0 for none.
    """

    kills: int = 0
    raises: int = 0
    doubts: int = 0
    abandons: int = 0
    exits: int = 0
    rejects: bool = False


@dataclass(frozen=True, slots=True)
class Odds:
    """How likely what is. `faults`: per step, `ambush`: an overtake per handler run, `wire`: per store call,
    `weights`: how eagerly the scheduler picks."""

    fault: float
    faults: dict[str, int]
    wire: dict[str, float]
    ambush: float
    late_releases: float
    cut: float
    commit: float
    publish: float
    zombie_accepted: float
    weights: dict[str, float]
    tick_ms: int
    lingers_ms: int
    handler_ms: float


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    workers: int
    partitions: int
    static: bool
    rules: Rules
    messages: list[Planned]
    odds: Odds
    steps: int
    drain_ms: int
    hand_out: int
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    forgets: bool = False  # the store loses what it acknowledged: less is promised then

    @property
    def terms(self) -> Terms:
        rules = self.rules
        return Terms(
            rules.semantics, rules.store, rules.exclusive, rules.attempts, rules.dead_letter_doubts, rules.order
        )


def plan_of(seed: int, semantics: tuple[Semantics, bool] | None = None) -> Plan:
    """`semantics`, with or without a store, if it is not left to the seed."""
    rng = Random(seed)
    partitions = rng.randint(1, 4)
    aside = Random(f"orders of {seed}")  # drawn aside: a seed's other choices are what they were
    rules = _with_order(aside, _rules(rng, semantics))
    if seed % 3 == 0:  # not drawn, for the same reason; the others do without
        rules = replace(rules, stall_ms=rules.lease_ms * 3 // 2)
    messages = _messages(rng, aside, partitions, rules)
    plan = Plan(
        seed=seed,
        workers=rng.choice((1, 2, 2, 3, 4)),
        partitions=partitions,
        static=rng.random() < 0.4,
        rules=rules,
        messages=messages,
        odds=_odds(rng),
        steps=rng.randint(200, 1_000),
        drain_ms=rng.choice((20, 200, 2_000)),
        hand_out=rng.randint(1, 6),
        behaviours=_behaviours(rng, messages, rules),
    )
    rare = _OFFSETS if seed % 5 == 0 and rules.store else {}
    if seed % 7 == 0:
        rare = {**rare, "make anew": 1}
    plan = replace(plan, odds=replace(plan.odds, faults={**plan.odds.faults, **rare})) if rare else plan
    return _with_faults_of_the_store(plan) if rules.store else plan


def _with_faults_of_the_store(plan: Plan) -> Plan:
    """Not drawn, so that the other seeds are what they were."""
    kinds = {5: ("evict done", "evict claims", "flush"), 10: ("evict leases", "store clock")}.get(plan.seed % 11)
    if kinds is None:
        return plan
    faults = {**plan.odds.faults, **dict.fromkeys(kinds, 3)}
    odds = replace(plan.odds, fault=max(plan.odds.fault, 0.02), faults=faults)
    return replace(plan, odds=odds, forgets="flush" in kinds)


def _rules(rng: Random, wanted: tuple[Semantics, bool] | None) -> Rules:
    semantics, store = rng.choices(list(_SEMANTICS), list(_SEMANTICS.values()))[0] if wanted is None else wanted
    letters = rng.random() < 0.6
    return Rules(
        semantics=semantics,
        store=store,
        exclusive=rng.random() < 0.7,
        concurrency=rng.randint(1, 4),
        buffer=rng.choice((2, 5, 50)),
        group_ms=2.0,
        group_limit=rng.choice((1, 4, 10)),
        attempts=rng.randint(2, 4),
        backoff_ms=rng.choice((1, 20, 200)),
        backoff_most_ms=400,
        dead_letter_failures=letters,
        dead_letter_payloads=letters,
        dead_letter_doubts=letters and rng.random() < 0.3,
        lease_ms=rng.choice((300, 300, 1_000)),
        store_depth=rng.choice((1, 16)),
        commit_every_ms=rng.choice((20, 200, 500)),
        mark="mark",
    )


def _with_order(rng: Random, rules: Rules) -> Rules:
    if rules.semantics is Semantics.AT_MOST_ONCE:  # the settings refuse another
        return rules
    return replace(rules, order=rng.choices(list(Order), (2, 2, 1))[0])


def _messages(rng: Random, aside: Random, partitions: int, rules: Rules) -> list[Planned]:
    repeats, near = rng.uniform(0.2, 0.3), rng.random() < 0.6  # near: while the first may still be in flight
    record_keys = [*(f"r{number}" for number in range(aside.randint(1, 5))), None]
    offsets = [rng.choice((0, 0, 7)) for _ in range(partitions)]
    keys: list[str] = []
    messages = []
    for number in range(rng.randint(5, 60)):
        partition = rng.randrange(partitions)
        if keys and rng.random() < repeats:
            key, kind = rng.choice(keys[-3:] if near else keys), "plain"
        else:
            key, kind = f"k{number}", _kind(rng, rules)
            if kind == "plain":
                keys.append(key)
        messages.append(Planned(partition, offsets[partition], key, kind, aside.choice(record_keys)))
        offsets[partition] += 1 if rng.random() < 0.85 else rng.randint(2, 6)
    return messages


def _kind(rng: Random, rules: Rules) -> str:
    chance = rng.random()
    if chance < 0.03:
        return "unprotected"
    return "defect" if chance < 0.06 and rules.dead_letter_failures else "plain"


def _behaviours(rng: Random, messages: list[Planned], rules: Rules) -> dict[str, Behaviour]:
    strange = rng.choice((0.0, 0.1, 0.3, 0.6))
    kinds = {message.key: message.kind for message in messages}
    return {key: _behaviour(rng, rules, kind) for key, kind in kinds.items() if rng.random() < strange}


def _behaviour(rng: Random, rules: Rules, kind: str) -> Behaviour:
    """Every key can be settled in the end. Under the policy "stop" only a handler that returns does that, and who kills
    its process without a claim is counted by nobody."""
    protects = rules.semantics is Semantics.EFFECTIVELY_ONCE and kind == "plain"
    letters = rules.dead_letter_failures
    chance = rng.random()
    if chance < 0.5:
        return Behaviour(raises=rng.randint(1, rules.attempts + 1))
    if chance < 0.65:
        return Behaviour(doubts=1)
    if chance < 0.7:
        return Behaviour(abandons=1)
    if chance < 0.75:
        return Behaviour(exits=1)
    if chance < 0.85:
        return Behaviour(kills=ALWAYS if letters and protects and rng.random() < 0.5 else rng.randint(1, 3))
    return Behaviour(raises=ALWAYS if letters else 1, rejects=rng.random() < 0.3)


def _odds(rng: Random) -> Odds:
    return Odds(
        fault=rng.choice((0.0, 0.01, 0.03, 0.06)),
        faults={kind: rng.choice((0, 1, 1, 5)) for kind in _FAULTS},
        wire={kind: rng.choice((0.0, 0.0, 0.03, 0.15)) for kind in FATES},
        ambush=rng.choice((0.0, 0.1, 0.3)),
        late_releases=rng.choice((0.0, 0.5)),
        cut=rng.choice((0.0, 0.0, 0.01, 0.05)),
        commit=rng.choice((0.0, 0.1, 0.3)),
        publish=rng.choice((0.0, 0.3)),
        zombie_accepted=rng.choice((0.0, 0.5, 1.0)),
        weights={kind: rng.choice((0.1, 0.3, 1.0, 1.0, 3.0)) for kind in PICKED},
        tick_ms=rng.choice((3, 10, 30)),
        lingers_ms=rng.choice((0, 50, 500)),
        handler_ms=rng.choice((0.01, 0.3, 5.0)),
    )
