"""What becomes of a message when the store answered: started, held, put off, settled. On the bench, as test_engine.py.

Answers that a store gives only after a failover, or to a late copy of a call, are put into its reply by hand.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from kafka_once.core.calls import Exchange, ExchangeReply, ReleaseAsk
from kafka_once.core.claims import ClaimAnswer, Completion, Grant
from kafka_once.core.events import Kind
from kafka_once.core.rules import TakeOwnerships
from kafka_once.core.semantics import Semantics
from kafka_once.errors import NeverCompleted
from kafka_once.message import TopicPartition
from tests.unit.bench import ROW, SET_BACK, Worker, World

LEASE_MS = 5_000
AT_MOST = {"semantics": Semantics.AT_MOST_ONCE}


@pytest.fixture
def world() -> World:
    return World()


def exchanges(worker: Worker) -> list[Exchange]:
    return [call for call in worker.calls if isinstance(call, Exchange)]


def released(worker: Worker) -> list[ReleaseAsk]:
    return [ask for call in exchanges(worker) for ask in call.releases]


def claims(worker: Worker) -> int:
    """How many were asked for so far."""
    return sum(len(call.claims) for call in exchanges(worker))


def told(worker: Worker, kind: Kind) -> list[int | None]:
    """The offsets of what was told of."""
    return [note.offset for note in worker.notes if note.kind is kind]


def until(worker: Worker, wanted: Callable[[Exchange], object]) -> Exchange:
    """Answer call after call, up to the one that is wanted: that one is away."""
    worker.store_answers = False
    for _ in range(10):
        worker.turn()
        call = worker.calls[-1]
        if isinstance(call, Exchange) and wanted(call):
            return call
        worker.answer(call)
    raise AssertionError("it is never sent")


def reply(worker: Worker, call: Exchange, **changed: object) -> Worker:
    """Answer as the store does, but for this."""
    worker.tick()
    worker.engine.on_exchanged(call, replace(worker.store.exchange(call), **changed))  # type: ignore[arg-type]
    worker.store_answers = True
    return worker.turn()


def died_with(world: World, *keys: str) -> World:
    """Their process vanished while they ran, each in a partition of its own."""
    dead = Worker(world).own(*ROW)
    for name, key in zip(ROW, keys, strict=False):
        dead.deliver(key, partition=name)
    dead.die()
    return world


def suspects(world: World, *keys: str, **rules: object) -> Worker:
    """All of them ran when their process vanished; the first runs now, if nothing is said against it."""
    worker = Worker(died_with(world, *keys), **rules).own(*ROW)
    for name, key in zip(ROW, keys, strict=False):
        worker.deliver(key, partition=name)
    return worker


# ------------------------------------------------------------------------------------------------------ another server


def test_a_claim_that_another_server_gives_back_in_doubt_is_ours_and_can_be_released(world: World) -> None:
    worker = Worker(world, lease_ms=LEASE_MS).own().deliver("a")
    replica = world.state.replica()
    worker.die()  # its session is over, and its handler runs on
    world.state.fail_over(replica)
    worker.turn()
    assert [ask.held for ask in worker.last_exchange.claims] == [True]

    worker.run(ValueError())
    for _ in range(6):
        worker.pass_time(LEASE_MS // 3)

    assert [delivery.attempts for delivery in worker.running[0].deliveries] == [1]


@pytest.mark.parametrize(
    ("answer", "counter", "kind"),
    [
        (Completion.FORGOTTEN, "forgotten", Kind.FORGOTTEN),
        (Completion.DOUBLED, "doubled", Kind.DOUBLED),
        (Completion.FENCED, "doubled", Kind.DOUBLED),
    ],
)
def test_what_another_server_says_to_a_completion_that_is_told_again_is_counted_and_told(
    world: World, answer: Completion, counter: str, kind: Kind
) -> None:
    worker = Worker(world).own().deliver("a").run()
    world.state.fail_over(world.state.replica())
    world.now_ms += LEASE_MS // 3
    call = until(worker, lambda call: call.completes)

    reply(worker, call, completes=[answer])

    assert worker.count(counter) == 1
    assert [note.text for note in worker.notes if note.kind is kind] == [
        "1 of the last completions, told again to another server"
    ]
    assert worker.outcomes() == {"completed": 1}


# ------------------------------------------------------------------------------------------- what of a group starts now


def test_attempts_that_are_used_up_without_a_crash_are_dead_lettered_without_another_run(world: World) -> None:
    rules = {"attempts": 1, "dead_letter_failures": True}
    first = Worker(world, **rules).own().deliver("a")
    first.engine.on_lost(ROW[:1])
    first.run(ValueError())  # not its business any more, but it counts

    second = Worker(world, **rules).own().deliver("a")

    assert second.running == []
    assert [delivery.reason for delivery in second.publishing] == ["attempts exhausted (1)"]


def test_a_doubt_that_nobody_died_of_is_dead_lettered_by_policy() -> None:
    worker = Worker(dead_letter_doubts=True).own().deliver("a").run(NeverCompleted())

    assert worker.running == []
    assert [delivery.reason for delivery in worker.publishing] == ["in doubt"]


def test_what_raised_is_neither_in_doubt_nor_a_suspect() -> None:
    worker = Worker(dead_letter_doubts=True).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    worker.run(ValueError()).run(ValueError()).pass_time(1_000)

    assert sorted(worker.keys) == ["a", "b"]  # beside each other
    assert worker.publishing == []


def group_of_two(world: World, *keys: str, **rules: object) -> Worker:
    """The keys are claimed together, as the handler is fast."""
    worker = Worker(world, group_ms=1e6, **rules).own(*ROW[:2])
    worker.engine.offer(5)
    worker.deliver("fast", partition=ROW[1]).run(took_ms=0.001)
    worker.engine.offer(5)
    return worker.deliver(*keys)


def test_what_stands_behind_a_dead_letter_in_its_group_starts_at_once(world: World) -> None:
    worker = group_of_two(died_with(world, "a"), "a", "b", dead_letter_doubts=True)

    assert [delivery.reason for delivery in worker.publishing] == ["in doubt"]
    assert worker.keys == ["b"]
    assert released(worker) == []


def test_what_stands_behind_a_suspect_in_its_group_is_given_back(world: World) -> None:
    worker = group_of_two(died_with(world, "a"), "a", "b")

    assert worker.keys == ["a"]
    assert [ask.digest[:1] for ask in released(worker)] == [b"b"]
    assert worker.run().keys == ["b"]


def test_a_suspect_is_not_claimed_as_alone_before_the_rest_of_its_group_was_given_back(world: World) -> None:
    worker = group_of_two(died_with(world, "a"), "a", "b")

    claimed, gave_back, alone = exchanges(worker)[-3:]
    assert [len(claimed.claims), len(gave_back.releases), gave_back.claims] == [2, 1, []]
    assert [ask.alone for ask in alone.claims] == [True]


def test_in_a_loop_of_the_users_a_suspect_is_held_also_behind_one_that_starts(world: World) -> None:
    worker = group_of_two(died_with(world, "b"), "a", "b", exclusive=False)

    assert worker.keys == ["a", "b"]
    assert released(worker) == []


def test_a_grant_starts_nothing_after_the_reason_to_stop() -> None:
    worker = Worker().own(*ROW[:2]).deliver("a")
    worker.store_answers = False
    worker.deliver("b", partition=ROW[1])
    call = worker.calls[-1]
    (group,) = worker.running
    group.results.append(SystemExit())
    worker.tick()
    worker.engine.on_ran(group)  # and before the next turn the answer comes

    worker.answer(call)
    worker.store_answers = True
    worker.turn()

    assert "b" not in worker.keys
    assert worker.outcomes() == {"handed_back": 2}


def test_a_grant_that_comes_too_late_starts_nothing_and_is_given_back() -> None:
    worker = Worker(lease_ms=LEASE_MS).own()
    worker.store_answers = False
    worker.deliver("a")
    worker.world.now_ms += LEASE_MS - 400
    worker.answer(worker.calls[-1])

    effects = worker.engine.decide()

    assert effects.groups == []
    assert [len(call.releases) for call in effects.calls if isinstance(call, Exchange)] == [1]


# --------------------------------------------------------------------------------------------------------- duplicates


def test_redeliveries_and_repeats_of_one_group_are_told_apart(world: World) -> None:
    Worker(world).own(ROW[0], ROW[3]).deliver("a", "b").deliver("c", partition=ROW[3]).run_all()
    worker = Worker(world, group_ms=1e6).own(*ROW[:2], committed=SET_BACK)
    for start, key in enumerate(["fast", "very fast"]):
        worker.deliver(key, partition=ROW[1], start=start).run(took_ms=0.001)

    worker.deliver("a", "b", "c")

    assert len(worker.last_exchange.claims) == 3
    assert worker.outcomes() == {"completed": 2, "redelivery": 2, "repeat": 1}


# ----------------------------------------------------------------------------------------------------------- refusals


def asked_at(worker: Worker, waits_ms: list[int]) -> None:
    """It asks again after each of these times, and not a millisecond sooner."""
    for wait_ms in waits_ms:
        before = claims(worker)
        worker.pass_time(wait_ms - 1)
        assert claims(worker) == before
        worker.pass_time(1)
        assert claims(worker) == before + 1


def test_a_busy_key_is_asked_for_at_growing_intervals(world: World) -> None:
    Worker(world, lease_ms=60_000).own(ROW[0]).deliver("a")
    other = Worker(world, lease_ms=60_000).own(ROW[1]).deliver("a", partition=ROW[1])

    asked_at(other, [20, 40, 80, 160, 320, 640, 1_000, 1_000])
    assert other.count("busy") == 9


def test_the_intervals_begin_anew_after_a_grant(world: World) -> None:
    holder = Worker(world, lease_ms=60_000, backoff_ms=500).own(ROW[0]).deliver("a")
    other = Worker(world, lease_ms=60_000, backoff_ms=200).own(ROW[1]).deliver("a", partition=ROW[1])
    asked_at(other, [20, 40])
    holder.run(ValueError())
    other.pass_time(80)
    assert other.keys == ["a"]
    other.run(ValueError())  # for the second time: tried again after 400 ms
    Worker(world, lease_ms=60_000).own(ROW[2]).deliver("a", partition=ROW[2])

    asked_at(other, [400, 20, 40])


@pytest.mark.parametrize("grant", [Grant.BUSY, Grant.STALE])
def test_a_refusal_of_the_key_keeps_the_partition(grant: Grant) -> None:
    worker = Worker().own()
    worker.store_answers = False
    call = worker.deliver("a").last_exchange
    worker.engine.on_exchanged(call, ExchangeReply(session_lives=True, claims=[ClaimAnswer(grant)]))
    worker.store_answers = True

    asked_at(worker.turn(), [20])

    assert worker.keys == ["a"]
    assert worker.count("busy") == 1
    assert told(worker, Kind.SUPERSEDED) == []


def test_a_superseded_partition_is_taken_again_after_a_quarter_of_a_second(world: World) -> None:
    worker = Worker(world).own()
    Worker(world).own()
    worker.deliver("a")

    def taken() -> int:
        return sum(isinstance(call, TakeOwnerships) for call in worker.calls)

    worker.pass_time(249)
    assert taken() == 1
    worker.pass_time(1)
    assert taken() == 2


# ----------------------------------------------------------------------------------------------------------- suspects


def test_a_suspect_that_is_refused_lets_the_next_one_run(world: World) -> None:
    worker = suspects(world, "a", "b", "c")
    assert worker.keys == ["a"]
    Worker(world).own(ROW[1])  # has that partition; Kafka has not told us yet

    worker.run()

    assert worker.keys == ["c"]


def test_a_suspect_whose_partition_goes_while_its_turn_is_asked_for_is_given_back(world: World) -> None:
    worker = suspects(world, "a", "b")
    worker.store_answers = False
    call = worker.run().last_exchange
    assert [ask.alone for ask in call.claims] == [True]
    worker.engine.on_lost(ROW[1:2])

    reply(worker, call)

    assert worker.outcomes() == {"completed": 1, "dropped": 1}
    assert worker.engine.drained()


def test_a_suspect_that_was_withdrawn_and_whose_partition_goes_while_it_is_claimed_anew_is_given_back(
    world: World,
) -> None:
    worker = suspects(world, "a", "b", lease_ms=LEASE_MS)
    worker.die()
    call = until(worker, lambda call: any(ask.digest[:1] == b"b" for ask in call.claims))
    worker.engine.on_lost(ROW[1:2])

    reply(worker, call)

    assert worker.outcomes() == {"dropped": 1}
    assert worker.run().outcomes() == {"completed": 1, "dropped": 1}
    assert worker.engine.drained()


def test_at_most_once_a_suspect_whose_done_is_written_lets_the_next_one_run(world: World) -> None:
    assert suspects(world, "a", "b", **AT_MOST).keys == ["a", "b"]


def test_at_most_once_a_suspect_whose_done_is_refused_lets_the_next_one_run(world: World) -> None:
    worker = Worker(died_with(world, "a", "b"), **AT_MOST).own(*ROW[:2])
    worker.store_answers = False
    worker.deliver("a").deliver("b", partition=ROW[1])
    call = until(worker, lambda call: call.completes)
    worker.engine.on_lost(ROW[:1])

    reply(worker, call, completes=[Completion.FENCED])

    assert worker.outcomes() == {"dropped": 1}
    assert worker.keys == ["b"]


# ------------------------------------------------------------------------------------------------ finished, not settled


def fenced(world: World, *keys: str) -> list[Worker]:
    """The first finished their handlers; each of the others has a key, and runs it."""
    slow = Worker(world, lease_ms=LEASE_MS).own(*ROW)
    for name, key in zip(ROW, keys, strict=False):
        slow.deliver(key, partition=name)
    world.now_ms += LEASE_MS + 1_000
    thieves = []
    for number, key in enumerate(keys, start=len(ROW)):
        name = TopicPartition("t", number)
        thieves.append(Worker(world, lease_ms=20_000).own(name).deliver(key, partition=name))
        assert thieves[-1].keys == [key]
    while slow.running:
        slow.run()
    assert (slow.count("fenced"), slow.outcomes()) == (len(keys), {})
    return [slow, *thieves]


def test_finished_and_completed_by_another_session_is_doubled_and_told(world: World) -> None:
    slow = Worker(world, lease_ms=LEASE_MS).own(ROW[0]).deliver("a")
    world.now_ms += LEASE_MS + 1_000
    Worker(world, lease_ms=60_000).own(ROW[1]).deliver("a", partition=ROW[1]).run()

    slow.run()

    assert slow.outcomes() == {"completed": 1}
    assert slow.count("doubled") == 1
    assert told(slow, Kind.DOUBLED) == [0]


def test_finished_but_fenced_is_asked_for_at_growing_intervals(world: World) -> None:
    slow, _thief = fenced(world, "a")

    asked_at(slow, [20, 40, 80])


def test_finished_but_fenced_is_not_asked_for_while_its_partition_has_a_newer_owner(world: World) -> None:
    slow, thief = fenced(world, "a")
    Worker(world).own(ROW[0])  # has our partition; Kafka has not told us yet
    slow.pass_time(20)
    assert told(slow, Kind.SUPERSEDED) == [None]
    before = claims(slow)
    slow.pass_time(100)
    assert claims(slow) == before

    slow.pass_time(150)  # now it takes a higher epoch
    assert claims(slow) == before + 1
    thief.run(ValueError())
    assert slow.pass_time(1_000).outcomes() == {"completed": 1}


def test_finished_but_fenced_is_completed_at_once_when_the_other_vanished(world: World) -> None:
    slow, thief = fenced(world, "a")
    thief.die()

    slow.turn()

    assert slow.outcomes() == {"completed": 1}
    assert slow.running == []


@pytest.mark.parametrize(
    ("grant", "superseded"), [(Grant.SUPERSEDED, True), (Grant.GONE, True), (Grant.BUSY, False), (Grant.STALE, False)]
)
def test_finished_but_fenced_needs_another_ownership_if_this_one_is_over(
    world: World, grant: Grant, superseded: bool
) -> None:
    slow, _thief = fenced(world, "a")
    slow.store_answers = False
    call = slow.pass_time(20).last_exchange

    reply(slow, call, claims=[ClaimAnswer(grant)])

    assert bool(told(slow, Kind.SUPERSEDED)) is superseded


def test_finished_but_fenced_is_left_with_its_own_partition_only_and_its_key_is_free(world: World) -> None:
    slow, *thieves = fenced(world, "a", "b")
    slow.store_answers = False
    call = slow.deliver("c", partition=ROW[2]).last_exchange
    slow.pass_time(100)  # both are due, and another call is away
    slow.engine.on_revoked(ROW[:1])
    slow.engine.on_gone(ROW[:1])
    assert slow.outcomes() == {"handed_back": 1}

    for thief in thieves:
        thief.run()
    reply(slow, call).run_all().pass_time(1_000)
    assert slow.outcomes() == {"handed_back": 1, "completed": 2}
    assert slow.own(ROW[0]).deliver("a").outcomes() == {"handed_back": 1, "completed": 2, "redelivery": 1}
