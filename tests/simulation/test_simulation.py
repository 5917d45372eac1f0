"""Some seeds of the simulation, always the same; `python -m tests.simulation` runs as many as one likes."""

import pytest

from tests.simulation.campaign import EXPECTED, Campaign, campaign, play
from tests.simulation.plan import plan_of
from tests.simulation.verdict import CHECKERS


def test_every_schedule_keeps_the_promises() -> None:
    said: list[str] = []

    result = campaign(range(1, 151), say=said.append)

    assert said == []
    assert result.schedules == 150
    assert all(result.evaluated[checker.__name__] for checker in CHECKERS)
    assert result.seen["claim reclaimed"] > 100
    assert result.seen["late copy executed"] > 100


@pytest.mark.parametrize("seed", [62655, 67691])
def test_what_only_one_seed_of_many_had_shown(seed: int) -> None:
    """A lease that the store's clock cut short; a process that lost a key before another doubted."""
    assert play(plan_of(seed)).violations == []


def test_a_seed_is_one_schedule() -> None:
    traces: list[list[str]] = [[], []]
    for trace in traces:
        play(plan_of(7), trace=trace.append)

    assert len(traces[0]) > 100
    assert traces[0] == traces[1]


def test_a_campaign_in_which_something_never_happened_says_so() -> None:
    result = Campaign()
    result.seen.update(dict.fromkeys(EXPECTED, 1))
    result.evaluated.update({checker.__name__: 1 for checker in CHECKERS})
    assert result.missing() == []

    del result.seen["claim reclaimed"], result.evaluated["InOrder"]

    assert result.missing() == ["claim reclaimed", "InOrder"]
