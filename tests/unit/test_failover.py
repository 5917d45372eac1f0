"""Another server of the store answers, and has forgotten what was acknowledged last (hole 12 of the model)."""

from collections.abc import Sequence

import pytest

from kafka_once.core.calls import CompleteAsk, Exchange, ReleaseAsk, Session
from kafka_once.core.claims import ClaimAnswer, Claimed, Done, Freed, Grant, claim
from kafka_once.core.delivery import Phase
from kafka_once.core.events import Kind
from kafka_once.core.reminder import Reminder
from tests.unit.bench import ROW, Worker, World

LEASE_MS = 5_000
SESSION = Session(1, 1)


@pytest.fixture
def world() -> World:
    return World()


def test_a_completion_that_was_forgotten_is_told_again_and_its_repeat_does_not_run(world: World) -> None:
    worker, other = Worker(world).own(), Worker(world).own(ROW[1])
    worker.deliver("a")
    replica = world.state.replica()  # it knows of the claim, and not of its completion
    worker.run()
    assert worker.outcomes() == {"completed": 1}

    world.state.fail_over(replica)
    worker.pass_time(LEASE_MS // 3)  # the renewal tells that it is another server
    other.deliver("a", partition=ROW[1])
    other.pass_time(LEASE_MS // 3)

    assert other.outcomes() == {"repeat": 1}
    assert worker.count("store_changes") == 1
    assert (worker.count("forgotten"), worker.count("doubled")) == (0, 0)  # the claim was there


def test_a_completion_that_is_told_again_counts_as_forgotten_if_there_was_no_trace_of_it(world: World) -> None:
    worker = Worker(world).own()
    replica = world.state.replica()
    worker.deliver("a").run()

    world.state.fail_over(replica)
    worker.pass_time(LEASE_MS // 3)

    assert worker.count("forgotten") == 1
    assert worker.deliver("a", start=1).outcomes() == {"completed": 1, "repeat": 1}


def test_what_is_told_again_leaves_before_any_new_claim(world: World) -> None:
    worker = Worker(world).own()
    replica = world.state.replica()
    worker.deliver("a").run()
    world.state.fail_over(replica)
    worker.deliver("x", start=1)  # this claim meets the other server, which grants nothing anew

    exchange = worker.last_exchange
    assert [ask.digest[:1] for ask in exchange.completes] == [b"a"]
    assert exchange.claims == []
    assert worker.keys == []


def test_a_repeat_that_is_claimed_before_the_failover_is_noticed_does_not_run(world: World) -> None:
    """The new server knows the claim and not the completion; the process knows both, and not the new server."""
    worker = Worker(world).own().deliver("a")
    replica = world.state.replica()
    worker.run()
    world.state.fail_over(replica)

    worker.deliver("a", start=1)  # its claim is the first thing that the new server hears

    assert worker.keys == []
    for _ in range(6):
        worker.pass_time(LEASE_MS // 3)
    assert worker.keys == []
    assert worker.outcomes() == {"completed": 1, "repeat": 1}


def test_a_key_that_runs_is_claimed_again_and_no_other_worker_is_granted_it(world: World) -> None:
    worker, other = Worker(world).own(), Worker(world).own(ROW[1])
    replica = world.state.replica()
    worker.deliver("a")
    world.state.fail_over(replica)  # nobody knows now that it runs

    other.deliver("a", partition=ROW[1])
    assert other.keys == []  # nothing anew for a lease
    worker.pass_time(LEASE_MS // 3)
    for _ in range(6):
        worker.pass_time(LEASE_MS // 3)
        other.pass_time(0)
    assert other.keys == []  # a living holder has it
    assert other.count("busy")

    worker.run()
    other.pass_time(2_000)
    assert other.outcomes() == {"repeat": 1}
    assert (worker.count("forgotten"), worker.count("doubled"), other.count("in_doubt")) == (0, 0, 0)


def test_a_key_that_runs_is_claimed_again_also_after_its_partition_was_lost(world: World) -> None:
    worker, other = Worker(world).own(), Worker(world)
    replica = world.state.replica()
    worker.deliver("a")
    worker.engine.on_lost(ROW[:1])
    other.own()
    world.state.fail_over(replica)
    worker.pass_time(LEASE_MS // 3)
    for _ in range(6):
        worker.pass_time(LEASE_MS // 3)
        other.pass_time(0)
    other.deliver("a")

    assert other.keys == []
    worker.run()
    other.pass_time(2_000)
    assert other.outcomes() == {"redelivery": 1}


def test_a_key_whose_handler_is_overdue_is_not_claimed_again(world: World) -> None:
    hung = Worker(world, deadline_ms_of=lambda _topic: 1_000).own().deliver("a")
    other = Worker(world).own(ROW[1])
    hung.running[0].began = True
    hung.pass_time(1_100).pass_time(1_000)
    assert hung.count("overdue") == 1
    world.state.fail_over(world.state.replica())
    for _ in range(5):
        hung.pass_time(LEASE_MS // 3)
        other.pass_time(0)

    other.deliver("a", partition=ROW[1])

    assert hung.count("store_changes") == 1
    assert other.keys == ["a"]


def test_new_work_goes_on_when_the_grace_period_is_over(world: World) -> None:
    worker = Worker(world).own()
    world.state.fail_over(world.state.replica())
    worker.deliver("a")
    assert worker.keys == []

    for _ in range(4):
        worker.pass_time(LEASE_MS // 3)

    assert worker.keys == ["a"]


def test_a_worker_that_starts_after_the_failover_waits_too(world: World) -> None:
    worker = Worker(world).own()
    replica = world.state.replica()
    worker.deliver("a")
    world.state.fail_over(replica)

    fresh = Worker(world).own(ROW[1]).deliver("a", partition=ROW[1])

    assert fresh.keys == []


def test_a_session_that_was_forgotten_whole_is_opened_anew_and_what_runs_is_claimed_under_the_new_one(
    world: World,
) -> None:
    replica = world.state.replica()
    worker = Worker(world).own().deliver("a")
    lost = worker.session
    world.state.fail_over(replica)

    worker.pass_time(LEASE_MS // 3)

    assert worker.session != lost
    assert worker.withdrawn
    worker.run()
    assert worker.outcomes() == {"completed": 1}


def test_a_release_and_an_end_that_were_forgotten_are_told_again_so_that_nobody_waits_for_ever(world: World) -> None:
    worker, other = Worker(world, group_limit=1).own(), Worker(world)
    worker.deliver("a", "b")
    replica = world.state.replica()  # a claim, a living session and a living ownership
    worker.run(ValueError())
    worker.engine.on_revoked(ROW[:1])
    worker.engine.on_gone(ROW[:1])
    worker.turn()
    world.state.fail_over(replica)

    worker.pass_time(LEASE_MS // 3)
    for _ in range(4):
        worker.pass_time(LEASE_MS // 3)
    other.own().deliver("a")

    assert other.keys == ["a"]
    assert other.count("in_doubt") == 0


def test_without_a_change_of_server_nothing_is_told_twice(world: World) -> None:
    worker = Worker(world).own().deliver("a").run()
    worker.pass_time(LEASE_MS // 3)

    assert worker.last_exchange.completes == []
    assert worker.count("store_changes") == 0


def test_the_change_is_told_to_people(world: World) -> None:
    worker = Worker(world).own().pass_time(LEASE_MS // 3)
    world.state.fail_over(world.state.replica())
    world.now_ms += LEASE_MS // 3
    worker.tick()
    worker.answer(worker.engine.decide().calls[0])

    assert Kind.STORE_CHANGED in [note.kind for note in worker.engine.decide().notes]


def test_completions_are_kept_for_two_seconds_before_the_last_answer() -> None:
    reminder = Reminder()
    old, new = CompleteAsk(b"old", 1), CompleteAsk(b"new", 1)
    assert not reminder.meet("one")
    reminder.keep(1_000, Exchange(SESSION, 1, completes=[old]))
    reminder.keep(3_000, Exchange(SESSION, 2, completes=[new], ends=[7]))
    reminder.keep(3_001, Exchange(SESSION, 3))
    assert not reminder.meet("")  # nobody knows which server it is
    assert not reminder.meet("one")

    assert reminder.meet("two")  # much later, which does not matter
    assert reminder.take_completes() == [new]
    assert reminder.take_ends() == [7]
    assert not reminder.pending()


def test_what_was_answered_two_seconds_before_is_kept_still() -> None:
    reminder = Reminder()
    reminder.meet("one")
    reminder.keep(1_000, Exchange(SESSION, 1, ends=[7]))
    reminder.keep(3_000, Exchange(SESSION, 2))

    assert reminder.meet("two")
    assert reminder.take_ends() == [7]


@pytest.mark.parametrize("part", ["completes", "releases", "ends"])
def test_each_part_of_what_was_answered_is_told_again_and_leaves_at_once(part: str) -> None:
    kept: dict[str, Sequence[object]] = {
        "completes": [CompleteAsk(b"a", 1)],
        "releases": [ReleaseAsk(b"a", 1, 1)],
        "ends": [7],
    }
    reminder = Reminder()
    reminder.meet("one")
    reminder.keep(1_000, Exchange(SESSION, 1, **{part: kept[part]}))  # type: ignore[arg-type]
    assert not reminder.pending()

    assert reminder.meet("two")
    assert reminder.pending()
    told = {
        "completes": reminder.take_completes(),
        "releases": reminder.take_releases(),
        "ends": reminder.take_ends(),
    }
    assert told == {name: kept[name] if name == part else [] for name in kept}


def test_what_was_told_again_is_kept_when_it_is_answered_and_not_before() -> None:
    reminder = Reminder()
    reminder.meet("one")
    reminder.keep(1_000, Exchange(SESSION, 1, ends=[7]))
    reminder.meet("two")
    again = Exchange(SESSION, 2, ends=reminder.take_ends())

    assert reminder.meet("three")  # this one has answered, and so it knows
    assert not reminder.pending()
    reminder.keep(2_000, again)
    reminder.meet("four")
    assert reminder.take_ends() == [7]


def test_after_a_failover_it_is_told_in_exchanges_that_take_no_longer_than_others() -> None:
    reminder = Reminder()
    reminder.meet("one")
    reminder.keep(1_000, Exchange(SESSION, 1, completes=[CompleteAsk(b"a", 1)] * 4_100))
    reminder.meet("two")

    sizes = []
    while reminder.pending():
        sizes.append(len(reminder.take_completes()))
    assert sizes == [2_000, 2_000, 100]


def test_of_what_was_claimed_only_that_is_claimed_again_which_is_held_when_it_leaves(world: World) -> None:
    """Between the two it may have ended, been settled or become overdue, or its session is over."""
    worker = Worker(world).own(*ROW)
    for number, key in enumerate("abcd"):
        worker.deliver(key, partition=ROW[number])
    running, settled, overdue, without = [group.deliveries[0] for group in worker.running]
    reminder = Reminder()
    reminder.hold([running, settled, overdue, without])

    settled.settled = True
    overdue.overdue = True
    without.partition.ownership = None

    assert reminder.take_held() == [running]
    assert reminder.take_held() == []


@pytest.mark.parametrize("phase", Phase)
def test_a_claim_is_held_from_its_grant_until_its_completion_or_release_has_left(world: World, phase: Phase) -> None:
    worker = Worker(world).own().deliver("a")
    (delivery,) = worker.running[0].deliveries
    delivery.phase = phase
    reminder = Reminder()
    reminder.hold([delivery])

    held = phase in (Phase.READY, Phase.RUNNING, Phase.PUBLISHING)
    assert reminder.take_held() == ([delivery] if held else [])


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, Grant.BUSY),
        (Freed(1, doubt=True, suspect=False), Grant.BUSY),
        (Claimed(2, 20, 1, 5), Grant.BUSY),
        (Claimed(2, 20, 3, 5), Grant.BUSY),
        (Claimed(2, 20, 4, 5), Grant.BUSY),
        (Claimed(1, 10, 3, 5), Grant.ACQUIRED),
        (Claimed(1, 10, 2, 5), Grant.BUSY),  # it may be done, which was forgotten
        (Claimed(1, 10, 4, 5), Grant.STALE),
        (Done(dead_lettered=False, session=2), Grant.DUPLICATE),
    ],
)
def test_in_grace_only_the_call_that_was_granted_it_is_granted_it_again(record: object, expected: Grant) -> None:
    asked = {"session": 1, "ownership": 10, "call": 3, "fence": 9, "alone": False}
    answer, after = claim(record, **asked, holder_lives=False, holder_vanished=True, grace=True)
    assert answer.grant is expected
    if expected is Grant.BUSY:
        assert after is record
        assert answer == ClaimAnswer(Grant.BUSY)
