"""Small worlds to their end, and that the search finds what is wrong; `python -m tests.exhaustive` has many more."""

import pickle

import pytest

from tests.exhaustive.digest import digest
from tests.exhaustive.scopes import LONG, QUICK, Scope
from tests.exhaustive.search import replay, search
from tests.exhaustive.small_world import FAULT_KINDS, SmallWorld, Violated
from tests.simulation import variants, wrong_stores

ONE_LOST_REPLY = Scope(("aa",), {"reply": 1})


def test_every_schedule_of_two_repeats_with_a_lost_reply_keeps_the_promises() -> None:
    searched = search(ONE_LOST_REPLY.world(), 5_000)

    assert searched.holds, searched.found
    assert 100 < searched.states < 1_000
    assert searched.resting > 0
    assert searched.seen["fault: reply"] > 20
    assert searched.looked["CommitsFollow"] > 20
    assert searched.looked["DoneIsDone"] > 5


def test_a_search_that_hits_its_cap_shows_nothing() -> None:
    searched = search(ONE_LOST_REPLY.world(), 20)

    assert searched.capped
    assert not searched.holds


@pytest.mark.parametrize(
    ("scope", "wrong"),
    [
        (Scope(("aa",), {"reply": 1}), variants.silence_is_a_duplicate),
        (Scope(("aa",), {"reply": 1}), variants.settle_when_sent),
        (Scope(("a",), {"crash": 1}), wrong_stores.a_lease_never_lapses),
        (Scope(("a",), {"crash": 1}), wrong_stores.done_before_the_effect),
    ],
    ids=lambda item: item.name if isinstance(item, Scope) else item.__name__,
)
def test_the_search_finds_what_is_wrong_and_its_way_shows_it_again(scope: Scope, wrong) -> None:
    with wrong():
        searched = search(scope.world(), 20_000)
        assert searched.found is not None
        if "nothing leads to rest" not in searched.found.violation:
            with pytest.raises((Violated, AssertionError)):
                replay(scope.world(), searched.found.way)

    replay(scope.world(), [action for action in searched.found.way[:1] if action[0] != "fault"])


def test_a_copy_is_the_same_world_and_a_step_makes_another() -> None:
    world = ONE_LOST_REPLY.world()
    copy: SmallWorld = pickle.loads(pickle.dumps(world))
    assert digest(copy) == digest(world)

    copy.perform(copy.actions()[0])

    assert digest(copy) != digest(world)
    assert digest(world) == digest(ONE_LOST_REPLY.world())


def test_what_decides_nothing_does_not_tell_worlds_apart() -> None:
    world = ONE_LOST_REPLY.world()
    before = digest(world)

    world.processes[0].engine.counters.add("busy")
    world.now_ms += 0
    assert digest(world) == before

    world.processes[0].engine._desk.talk._renew_due_ms += 100
    assert digest(world) != before


def test_every_world_has_a_name_of_its_own_and_every_fault_has_a_world() -> None:
    scopes = [*QUICK, *LONG]

    assert len({scope.name for scope in scopes}) == len(scopes)
    assert {kind for scope in scopes for kind in scope.faults} == set(FAULT_KINDS)
    assert {kind for scope in QUICK for kind in scope.faults} == set(FAULT_KINDS)
