"""The rules as they are unless somebody says otherwise, and what follows from them."""

from dataclasses import fields

import pytest

from kafka_once import App
from kafka_once.core.rules import Effects, Rules
from kafka_once.intake import Routes
from kafka_once.member import _rules as rules_of


def test_the_rules_unless_told_are_those_of_an_app_unless_told() -> None:
    """So the bench and the simulation play what people run."""
    app = App("kafka:9092", group="billing", store="memory://")
    told = rules_of(app.settings, Routes([]), exclusive=True)

    differing = [each.name for each in fields(Rules) if getattr(told, each.name) != getattr(Rules(), each.name)]
    assert differing == ["deadline_ms_of"]  # a function each
    assert Rules().deadline_ms_of("t") is None


def test_groups_are_bounded_marks_and_outcomes_are_asked_for_and_a_store_may_answer_in_any_order() -> None:
    rules = Rules()
    assert (rules.group_limit, rules.mark, rules.tell_outcomes, rules.store_depth) == (500, "", False, 1)


@pytest.mark.parametrize(("lease_ms", "margin_ms"), [(5_000, 500), (60_000, 6_000), (1_000, 100), (300, 100)])
def test_a_tenth_of_the_lease_is_not_trusted_and_no_less_than_clocks_drift(lease_ms: int, margin_ms: int) -> None:
    assert Rules(lease_ms=lease_ms).margin_ms == margin_ms


def test_nothing_is_to_be_done_unless_it_is_asked_for() -> None:
    effects = Effects()
    assert not any(getattr(effects, each.name) for each in fields(Effects))
