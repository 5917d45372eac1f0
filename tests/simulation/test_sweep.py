"""Each place at which something may break, with each fault: some of them here, all in `make prove`."""

from collections import Counter

from tests.simulation import variants
from tests.simulation.sweep import KINDS, PLANS, Strike, pairs, places, singles, strike, sweep

PLAN = "effectively once"


def test_every_kind_of_place_is_there_with_every_fault() -> None:
    found = Counter(each.place for each in places(PLANS[PLAN]))

    assert set(found) == set(KINDS)
    assert len(singles(PLANS[PLAN])) == sum(found[place] * len(faults) for place, faults in KINDS.items())
    assert len(singles(PLANS[PLAN])) > 200


def test_some_strikes_each_of_which_comes_to_pass() -> None:
    swept = sweep(PLAN, ([each] for each in singles(PLANS[PLAN])[::8]))

    assert swept.failed == []
    assert swept.schedules == swept.struck > 25
    assert swept.evaluated["DoneIsDone"] > 100


def test_some_pairs() -> None:
    swept = sweep(PLAN, pairs(PLANS[PLAN], every=1_500))

    assert swept.failed == []
    assert swept.schedules > 10


def test_a_strike_is_read_as_it_is_told() -> None:
    told = Strike("call", 3, "reply lost", "")

    assert Strike.read(str(told)) == told


def test_a_wrong_protocol_is_struck_down() -> None:
    lost = [each for each in singles(PLANS[PLAN]) if each.fault == "request lost"]
    with variants.settle_when_sent():
        swept = sweep(PLAN, ([each] for each in lost))

    assert swept.failed
    assert "--strike 'effectively once/call:" in swept.failed[0]


def test_a_strike_kills() -> None:
    struck = strike(PLANS[PLAN], [Strike("run", 0, "kill")])

    assert struck.struck == 1
    assert struck.violations == []
