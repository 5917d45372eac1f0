"""The checkers find wrong protocols. Those that take long are left to `python -m tests.simulation --bank`."""

from unittest.mock import patch

import pytest

from kafka_once.core.desk import Desk
from tests.simulation.campaign import play
from tests.simulation.plan import plan_of
from tests.simulation.variants import VARIANTS, Variant

QUICK = [variant for variant in VARIANTS if variant.within <= 50]


@pytest.mark.parametrize("variant", QUICK, ids=lambda variant: variant.name)
def test_it_is_caught(variant: Variant) -> None:
    assert variant.caught() is not None, f"{variant.name} escaped {variant.within} seeds"


def test_one_that_only_raises_is_not_caught() -> None:
    """It would be wrong in another way than it says."""
    broken = Variant(lambda: patch.object(Desk, "settle", side_effect=KeyError("a mistake in the variant")), 3)

    assert broken.caught() is None


def test_there_are_enough_of_them() -> None:
    assert len(QUICK) >= 12


def test_a_variant_is_gone_when_its_test_is_over() -> None:
    for variant in QUICK:
        with variant.patch():
            pass

    assert play(plan_of(1)).violations == []
