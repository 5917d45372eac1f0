"""The store fails over and forgets: some seeds, and what they find when one rule is left out."""

from collections import Counter
from collections.abc import Iterable

import pytest

from kafka_once.core import claims
from kafka_once.core.reminder import Reminder
from tests.simulation.failover import play_with_all_faults, play_with_failovers

SEEDS = range(1, 31)
MANY = range(1, 401)  # until one finds it


def test_nothing_is_lost_stuck_or_run_twice_through_failovers() -> None:
    seen: Counter[str] = Counter()
    evaluated: Counter[str] = Counter()
    for seed in SEEDS:
        played = play_with_failovers(seed)
        assert played.violations == [], f"seed {seed}"
        seen += played.seen
        evaluated += played.evaluated

    assert seen["fault: fail over"] > 80
    assert seen["completion forgotten"] > 10
    assert seen["session over"] > 5
    assert all(evaluated[name] for name in ("NothingLost", "OneAtATime", "DoneIsDone", "InOrder", "ComesToRest"))


def test_nothing_is_lost_or_stuck_through_failovers_among_all_other_faults() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        played = play_with_all_faults(seed)
        assert played.violations == [], f"seed {seed}"
        seen += played.seen

    assert seen["fault: fail over"] > 20
    assert seen["fault: crash"] > 10


def first_violation(seeds: Iterable[int]) -> str:
    for seed in seeds:
        violations = play_with_failovers(seed).violations
        if violations:
            return violations[0]
    return ""


def test_completions_that_are_not_told_again_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(reminder: Reminder) -> list[object]:
        reminder._completes.clear()
        return []

    monkeypatch.setattr(Reminder, "take_completes", forget)

    assert first_violation(MANY)


def test_a_store_without_a_grace_period_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = claims.claim
    monkeypatch.setattr(claims, "claim", lambda record, **asked: claim(record, **{**asked, "grace": False}))

    assert first_violation(MANY)
