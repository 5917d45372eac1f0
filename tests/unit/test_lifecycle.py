"""What a partition, a session and a key go through, and what is told of it. On the bench, beside test_engine.py."""

from dataclasses import replace

import pytest

from kafka_once.core.calls import CommitResult, Committed, Exchange, LogBounds, ReleaseAsk
from kafka_once.core.claims import ClaimAnswer, Grant
from kafka_once.core.delivery import Defect, Delivery, Event, Phase, step_all
from kafka_once.core.events import Kind, Outcome
from kafka_once.core.lane import Lane
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.core.semantics import Semantics, needs_store
from kafka_once.errors import ConsumerStopped, InDoubt, UndecodablePayload
from kafka_once.message import Message
from tests.unit.bench import ROW, SET_BACK, WHOLE, Worker, World

LEASE_MS = 5_000
AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}
AT_MOST = {"semantics": Semantics.AT_MOST_ONCE}


def kinds(worker: Worker) -> list[Kind]:
    """What was told since the last time."""
    told = [note.kind for note in worker.notes]
    worker.notes.clear()
    return told


def released(worker: Worker) -> list[ReleaseAsk]:
    return [ask for call in worker.calls if isinstance(call, Exchange) for ask in call.releases]


def away(worker: Worker) -> list[StoreCall]:
    """The calls that leave now and are not answered."""
    worker.tick()
    effects = worker.engine.decide()
    answers, worker.store_answers = worker.store_answers, False
    worker._perform(effects)
    worker.store_answers = answers
    return effects.calls


# ------------------------------------------------------------------------------------------------------ what is told


def test_the_life_of_a_partition_is_told() -> None:
    worker = Worker().own()
    assert kinds(worker) == [Kind.ASSIGNED, Kind.SESSION_OPENED, Kind.OWNED]

    worker.tick()
    worker.engine.on_revoked(ROW[:1])
    worker.engine.on_gone(ROW[:1])
    worker.turn()
    assert kinds(worker) == [Kind.REVOKED]
    assert worker.deliver("late").outcomes() == {"dropped": 1}

    worker.own()
    kinds(worker)
    worker.engine.on_lost(ROW[:1])
    worker.turn()
    assert kinds(worker) == [Kind.LOST]


def test_what_is_not_ours_is_neither_revoked_nor_lost_nor_looked_up() -> None:
    worker = Worker().own()
    kinds(worker)
    for tell in (worker.engine.on_revoked, worker.engine.on_lost, worker.engine.on_gone, worker.engine.on_uncommitted):
        tell(ROW[3:])
    worker.engine.on_looked_up(ROW[3], WHOLE, None)
    worker.engine.on_passed(ROW[3], 7)
    worker.engine.on_deleted(ROW[3], 0, 7)
    worker.turn()

    assert kinds(worker) == []
    assert worker.count("messages_deleted") == 0


def test_a_session_that_is_over_is_told_and_the_next_one_opened() -> None:
    worker = Worker(lease_ms=LEASE_MS).own().deliver("a")
    kinds(worker)

    worker.die()
    worker.turn()

    assert kinds(worker) == [Kind.SESSION_OVER, Kind.SESSION_OPENED, Kind.OWNED]
    assert worker.withdrawn


def test_silence_is_told_once_and_so_is_the_answer() -> None:
    worker = Worker().own()
    kinds(worker)
    worker.store_answers = False
    (call,) = away(worker.deliver("a")) or worker.calls[-1:]
    for _ in range(3):
        worker.engine.on_silence(OSError())
        worker.turn()
    assert kinds(worker) == [Kind.STORE_SILENT]
    assert worker.count("store_silences") == 3

    worker.engine.on_assigned(ROW[1:2])
    worker.turn()
    assert worker.paused == set(ROW[:2])  # as everything is

    worker.store_answers = True
    worker.answer(call)
    worker.turn()
    assert Kind.STORE_BACK in kinds(worker)
    assert worker.paused == set()


def test_a_superseded_ownership_is_told() -> None:
    world = World()
    worker = Worker(world).own()
    Worker(world).own()
    kinds(worker)

    worker.deliver("a")

    assert kinds(worker)[0] is Kind.SUPERSEDED


def test_a_takeover_in_doubt_is_told_with_its_offset() -> None:
    world = World()
    Worker(world).own().deliver("a").die()
    worker = Worker(world).own().deliver("a")

    assert [(note.offset, note.attempt) for note in worker.notes if note.kind is Kind.IN_DOUBT] == [(0, 1)]


# ----------------------------------------------------------------------------------------- partitions come and go


@pytest.mark.parametrize("rules", [{}, AT_LEAST])
def test_what_is_assigned_while_it_stops_is_paused_and_nothing_of_it_is_taken(rules: dict[str, object]) -> None:
    worker = Worker(**rules).own()
    worker.engine.stop()
    worker.turn()
    assert worker.paused == {ROW[0]}
    kinds(worker)
    asked = len(worker.calls)

    worker.own(ROW[1])

    assert worker.paused == set(ROW[:2])
    assert [seek.partition for seek in worker.sought] == ROW[:1]
    assert kinds(worker) == [Kind.ASSIGNED]
    assert [call for call in worker.calls[asked:] if isinstance(call, TakeOwnerships)] == []
    assert worker.deliver("a", partition=ROW[1]).outcomes() == {"handed_back": 1}


def test_an_ownership_ends_with_a_partition_that_has_nothing_to_do() -> None:
    worker = Worker().own()
    number = worker.engine._partitions.get(ROW[0]).ownership.number
    worker.engine.on_lost(ROW[:1])
    worker.turn()

    assert worker.last_exchange.ends == [number]


def test_an_ownership_is_ended_once() -> None:
    worker = Worker().own().deliver("a")
    number = worker.engine._partitions.get(ROW[0]).ownership.number
    worker.engine.on_revoked(ROW[:1])
    worker.run()
    worker.engine.on_gone(ROW[:1])
    worker.turn()

    assert [end for call in worker.calls if isinstance(call, Exchange) for end in call.ends] == [number]


def test_an_ownership_that_comes_after_the_revocation_ends_at_once() -> None:
    worker = Worker()
    worker.store_answers = False
    worker.own()
    worker.answer(worker.calls[-1])  # the session
    (call,) = away(worker)
    assert isinstance(call, TakeOwnerships)
    worker.engine.on_revoked(ROW[:1])

    worker.store_answers = True
    worker.answer(call)
    worker.turn()

    assert worker.sought == []
    assert len(worker.last_exchange.ends) == 1
    assert Kind.OWNED not in kinds(worker)


@pytest.mark.parametrize("rules", [{}, AT_LEAST])
def test_a_second_answer_to_a_look_up_changes_nothing(rules: dict[str, object]) -> None:
    worker = Worker(**rules).own()
    worker.engine.on_looked_up(ROW[0], LogBounds(5, 9), Committed(7, None, ""))
    worker.turn()

    assert [seek.offset for seek in worker.sought] == [0]


def test_without_a_store_nothing_is_read_of_what_was_revoked_before_it_was_looked_up() -> None:
    worker = Worker(**AT_LEAST)
    worker.tick()
    worker.engine.on_assigned(ROW[:1])
    worker.engine.on_revoked(ROW[:1])
    worker.engine.on_looked_up(ROW[0], WHOLE, None)
    worker.turn()

    assert worker.sought == []
    assert Kind.OWNED not in kinds(worker)


def test_without_a_store_a_start_that_is_refused_takes_nothing() -> None:
    worker = Worker(**AT_LEAST, mark="m").own(log=LogBounds(0, 5), committed=Committed(9, None, "m::0:9"))

    assert isinstance(worker.engine.error, ConsumerStopped)
    assert worker.sought == []
    assert Kind.OWNED not in kinds(worker)


def test_all_of_it_is_paused_for_as_long_as_a_partition_is_full() -> None:
    worker = Worker(buffer=2).own(*ROW[:2])
    worker.deliver("a", "b")
    assert worker.paused == {ROW[0]}
    worker.store_answers = False
    worker.deliver("c", partition=ROW[1])
    call = worker.calls[-1]
    worker.engine.on_silence(OSError())
    worker.turn()
    assert worker.paused == set(ROW[:2])

    worker.store_answers = True
    worker.answer(call)
    worker.turn()

    assert worker.paused == {ROW[0]}


def test_what_a_lapsed_session_owned_is_taken_again_and_what_was_revoked_is_not() -> None:
    worker = Worker(lease_ms=LEASE_MS).own(*ROW[:2]).deliver("a", partition=ROW[1])
    worker.engine.on_revoked(ROW[1:2])
    kinds(worker)

    worker.die()
    worker.turn()

    assert kinds(worker).count(Kind.OWNED) == 1
    taken = [call for call in worker.calls if isinstance(call, TakeOwnerships)]
    assert [ask.partition for ask in taken[-1].asks] == [0]


# ------------------------------------------------------------------------------------------------- finished and fenced


def fenced(world: World) -> tuple[Worker, Worker]:
    """The first finished its handler; the second has the key, and runs it."""
    slow = Worker(world, lease_ms=LEASE_MS).own(ROW[0]).deliver("a")
    world.now_ms += LEASE_MS + 1_000
    thief = Worker(world, lease_ms=60_000).own(ROW[1]).deliver("a", partition=ROW[1])
    assert thief.keys == ["a"]
    slow.run()
    assert (slow.count("fenced"), slow.outcomes()) == (1, {})
    return slow, thief


def test_finished_but_fenced_is_doubled_when_the_other_completes() -> None:
    world = World()
    slow, thief = fenced(world)
    assert Kind.FENCED in kinds(slow)
    thief.run()
    slow.pass_time(1_000)

    assert slow.outcomes() == {"completed": 1}
    assert slow.count("doubled") == 1
    assert Kind.DOUBLED in kinds(slow)
    assert slow.deliver("a", start=1).outcomes() == {"completed": 1, "repeat": 1}  # the key is free here, too


def test_finished_but_fenced_is_asked_for_until_the_other_has_ended() -> None:
    world = World()
    slow, thief = fenced(world)
    for _ in range(5):
        slow.pass_time(1_000)
    assert slow.outcomes() == {}
    thief.run(ValueError())
    for _ in range(5):
        slow.pass_time(1_000)

    assert slow.outcomes() == {"completed": 1}
    assert (slow.count("doubled"), slow.running) == (0, [])


def test_finished_but_fenced_is_left_when_its_partition_goes_while_it_waits() -> None:
    world = World()
    slow, thief = fenced(world)
    slow.engine.on_revoked(ROW[:1])
    for _ in range(5):
        slow.pass_time(1_000)

    assert slow.outcomes() == {"handed_back": 1}
    assert slow.engine.drained()
    assert thief.keys == ["a"]


def test_finished_but_fenced_is_left_when_its_partition_goes_as_it_is_due() -> None:
    world = World()
    slow, _thief = fenced(world)
    slow.store_answers = False
    slow.pass_time(1_000)  # asked for again, and not answered
    (call,) = [call for call in slow.calls[-1:] if isinstance(call, Exchange)]
    slow.engine.on_lost(ROW[:1])
    slow.store_answers = True
    slow.answer(call)
    slow.turn()

    assert slow.outcomes() == {"dropped": 1}


def test_finished_but_fenced_waits_for_an_ownership_and_is_left_if_none_comes() -> None:
    world = World()
    slow, _thief = fenced(world)
    Worker(world).own(ROW[0])  # has our partition; Kafka has not told us yet
    slow.pass_time(1_000)
    assert Kind.SUPERSEDED in kinds(slow)
    slow.store_answers = False  # no new ownership for now
    for _ in range(4):
        slow.pass_time(1_000)
    slow.engine.on_lost(ROW[:1])
    slow.turn()

    assert slow.outcomes() == {"dropped": 1}
    assert slow.engine.unfinished == 0


def test_a_finished_dead_letter_that_is_doubled_is_a_dead_letter_still() -> None:
    world = World()
    slow = Worker(world, lease_ms=LEASE_MS, dead_letter_payloads=True).own(ROW[0]).deliver("a")
    slow.run(UndecodablePayload("x"))
    world.now_ms += LEASE_MS + 1_000
    thief = Worker(world, lease_ms=60_000).own(ROW[1]).deliver("a", partition=ROW[1])
    slow.publish()
    thief.run()
    slow.pass_time(1_000)

    assert slow.outcomes() == {"dead_lettered": 1}


def test_done_that_another_holder_prevents_is_asked_for_again_at_most_once() -> None:
    """Done is to be written before the run, and somebody else has the key: nothing ran, so it is claimed again."""
    world = World()
    late = Worker(world, lease_ms=LEASE_MS, **AT_MOST).own(ROW[0])
    late.store_answers = False
    late.deliver("a")
    late.answer(late.calls[-1])
    late.turn()
    record = late.calls[-1]
    assert isinstance(record, Exchange)
    assert record.completes
    world.now_ms += LEASE_MS + 1_000
    other = Worker(world, lease_ms=60_000).own(ROW[1]).deliver("a", partition=ROW[1])
    assert other.keys == ["a"]

    late.answer(record)
    late.store_answers = True
    late.turn()
    assert (late.count("fenced"), late.running, late.outcomes()) == (1, [], {})
    other.run()
    for _ in range(3):
        late.pass_time(1_000)

    assert late.outcomes() == {"repeat": 1}


def test_a_completion_without_a_trace_of_its_claim_is_told_and_settles() -> None:
    world = World()
    worker = Worker(world).own()
    replica = world.state.replica()
    worker.deliver("a")
    world.state.fail_over(replica)
    worker.run()

    assert worker.outcomes() == {"completed": 1}
    assert worker.count("forgotten") == 1
    assert Kind.FORGOTTEN in kinds(worker)


# -------------------------------------------------------------------------------------------- suspects, doubt, defects


def two_suspects(**rules: object) -> Worker:
    """Both ran when their process vanished."""
    world = World()
    Worker(world).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1]).die()
    return Worker(world, **rules).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])


def test_suspects_that_wait_are_given_back_when_their_partition_goes() -> None:
    worker = two_suspects()
    assert worker.keys == ["a"]
    worker.engine.on_lost(ROW[1:2])
    worker.turn()

    assert [ask.digest[:1] for ask in released(worker)] == [b"b"]
    assert worker.outcomes() == {"dropped": 1}
    worker.run()
    assert worker.outcomes() == {"completed": 1, "dropped": 1}
    assert worker.engine.drained()


def test_suspects_that_wait_are_claimed_anew_under_the_next_session() -> None:
    worker = two_suspects(lease_ms=LEASE_MS)
    worker.die()
    worker.turn()
    assert [ask.digest[:1] for ask in released(worker)] == [b"b"]
    worker.pass_time(1_000)
    worker.run()
    worker.pass_time(1_000)

    assert worker.keys == ["b"]
    worker.run()
    assert worker.outcomes() == {"completed": 2}


def test_one_suspect_after_another_is_dead_lettered_by_policy() -> None:
    worker = two_suspects(dead_letter_doubts=True)

    assert [delivery.reason for delivery in worker.publishing] == ["in doubt", "in doubt"]
    worker.publish()
    worker.publish()
    assert worker.outcomes() == {"dead_lettered": 2}


@pytest.mark.parametrize("rules", [AT_LEAST, {}])
def test_a_fatal_defect_stops_and_what_stands_behind_it_is_not_passed(rules: dict[str, object]) -> None:
    worker = Worker(**rules).own()
    worker.tick()
    defect = Defect("no idempotency key", ValueError(), fatal=True)
    worker.engine.on_delivered(ROW[0], [Message("t", 0, 0)], [(None, defect)])
    worker.turn().turn()

    assert isinstance(worker.engine.error, ConsumerStopped)
    assert worker.engine.error.__cause__ is defect.error
    assert worker.outcomes() == {"handed_back": 1}
    assert not any(worker.committed.values())
    assert worker.engine.drained()


def test_without_a_store_a_defect_is_dead_lettered_with_its_reason() -> None:
    worker = Worker(**AT_LEAST).own()
    worker.tick()
    defect = Defect("no key", ValueError("x"), fatal=False)
    worker.engine.on_delivered(ROW[0], [Message("t", 0, 0)], [(None, defect)])
    worker.turn()

    assert [delivery.reason for delivery in worker.publishing] == ["no key"]
    worker.publish().pass_time(100)
    assert worker.committed == {ROW[0]: 1}


def test_in_doubt_without_a_store_is_told_to_the_next_run() -> None:
    worker = Worker(**AT_LEAST, backoff_ms=10).own().deliver("a").run(InDoubt()).pass_time(100)

    (delivery,) = worker.running[0].deliveries
    assert (delivery.doubt, delivery.attempts) == (True, 1)


def test_in_doubt_without_a_store_goes_to_the_dead_letters_by_policy() -> None:
    worker = Worker(**AT_LEAST, dead_letter_doubts=True).own().deliver("a").run(InDoubt())

    assert [(delivery.reason, delivery.tried) for delivery in worker.publishing] == [("in doubt", 1)]


@pytest.mark.parametrize("dead_letter", [True, False])
def test_in_doubt_without_a_store_at_the_last_attempt(dead_letter: bool) -> None:
    worker = Worker(**AT_LEAST, attempts=1, dead_letter_failures=dead_letter).own().deliver("a").run(InDoubt())

    if dead_letter:
        assert [delivery.reason for delivery in worker.publishing] == ["attempts exhausted (1)"]
    else:
        assert "attempts exhausted (1)" in str(worker.engine.error)
        assert worker.outcomes() == {"handed_back": 1}


@pytest.mark.parametrize("rules", [AT_MOST, {**AT_MOST, "store": False}])
def test_at_most_once_a_process_that_is_to_end_skips_what_asked_for_it(rules: dict[str, object]) -> None:
    worker = Worker(**rules, dead_letter_failures=True).own().deliver("a").run(SystemExit())

    assert isinstance(worker.engine.error, SystemExit)
    assert worker.outcomes() == {"skipped": 1}
    assert worker.publishing == []


def test_at_most_once_what_raised_is_dead_lettered_by_policy() -> None:
    worker = Worker(**AT_MOST, dead_letter_failures=True).own().deliver("a").run(ValueError())

    assert [delivery.reason for delivery in worker.publishing] == ["raised, and at most once"]
    assert Kind.SKIPPED in kinds(worker)
    assert worker.publish().outcomes() == {"dead_lettered": 1}


def test_what_raises_after_its_partition_was_lost_is_no_more_than_given_back() -> None:
    worker = Worker(attempts=1, dead_letter_failures=True).own().deliver("a")
    worker.engine.on_lost(ROW[:1])
    worker.run(ValueError())

    assert worker.publishing == []
    assert worker.outcomes() == {"dropped": 1}
    assert [(ask.failed, ask.doubt) for ask in released(worker)] == [(True, False)]


# ---------------------------------------------------------------------------------------------------- answers, repeats


def test_an_answer_that_came_already_is_ignored() -> None:
    worker = Worker().own().deliver("a")
    answered = worker.calls[:]
    for call in answered:
        worker.answer(call)
    worker.turn()

    assert worker.keys == ["a"]
    assert worker.engine._desk.conversation.session is not None


def test_an_ownership_of_a_session_that_is_over_is_none() -> None:
    worker = Worker(lease_ms=LEASE_MS)
    worker.store_answers = False
    worker.own()
    worker.answer(worker.calls[-1])
    (call,) = away(worker)
    worker.engine.on_ownerships(call, None)
    worker.store_answers = True
    worker.turn()

    assert kinds(worker)[-3:] == [Kind.SESSION_OVER, Kind.SESSION_OPENED, Kind.OWNED]
    assert worker.count("sessions") == 2


def test_a_refusal_stops_and_names_the_first_reason() -> None:
    worker = Worker().own()
    first = ConsumerStopped("no")
    worker.engine.on_refusal(first)
    worker.engine.on_refusal(ConsumerStopped("no again"))
    worker.turn()

    assert worker.engine.error is first
    assert worker.engine.stopping
    assert worker.engine.store_is_silent
    assert worker.paused == {ROW[0]}


def test_an_event_that_a_phase_does_not_know_is_a_mistake_of_the_engine() -> None:
    delivery = Delivery(Message("t", 0, 3), Lane(Partition(ROW[0], Pace(1, 1), Order.PARTITION), 0), b"k")
    delivery.step(Event.CLAIM)
    with pytest.raises(AssertionError, match="FINISH in CLAIMING"):
        delivery.step(Event.FINISH)
    assert delivery.phase is Phase.CLAIMING

    delivery.step(Event.DUPLICATE)
    with pytest.raises(AssertionError, match="CLAIM in OVER"):
        delivery.step(Event.CLAIM)


def test_only_effectively_once_needs_a_store() -> None:
    assert [each for each in Semantics if needs_store(each)] == [Semantics.EFFECTIVELY_ONCE]


def test_a_start_set_back_is_told_to_the_store_under_each_ownership() -> None:
    world = World()
    Worker(world).own().deliver("a", "b").run_all().pass_time(200)
    worker = Worker(world, lease_ms=LEASE_MS).own(committed=SET_BACK)

    worker.die()
    worker.turn()

    marked = [frontier for call in worker.calls if isinstance(call, Exchange) for frontier in call.frontiers]
    assert [(mark.offset, mark.back) for mark in marked if mark.back] == [(0, True), (0, True)]


# --------------------------------------------------------------------------------------------------- several at a time


def test_a_commit_that_is_refused_for_good_stops_and_says_why() -> None:
    worker = Worker(commit_every_ms=100, mark="m")
    worker.commits_answered = False
    worker.own(committed=Committed(0, None, "m::0:0")).deliver("a").run()
    worker.world.now_ms += 100
    worker.tick()
    (mark,) = worker.engine.decide().commit
    worker.engine.on_committed([CommitResult(mark, "stop", "TOPIC_AUTHORIZATION_FAILED")])
    worker.turn()

    assert str(worker.engine.error) == "Kafka refused to commit t[0]: TOPIC_AUTHORIZATION_FAILED"
    assert worker.count("commits_refused") == 1
    assert [note.text for note in worker.notes if note.kind is Kind.COMMIT_REFUSED] == [
        "t[0]: TOPIC_AUTHORIZATION_FAILED"
    ]


def test_what_is_revoked_is_committed_under_a_later_session_without_a_mark_in_the_store() -> None:
    worker = Worker(lease_ms=LEASE_MS).own().deliver("a")
    worker.engine.on_revoked(ROW[:1])
    worker.die()
    worker.turn().run()
    worker.pass_time(1_000)

    assert worker.committed == {ROW[0]: 1}
    assert worker.last_exchange.frontiers == []


def two_away() -> tuple[Worker, StoreCall, StoreCall]:
    """The first asks for a claim of c, the second completes b."""
    worker = Worker(lease_ms=LEASE_MS, store_depth=4).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    worker.run(took_ms=50)
    worker.store_answers = False
    worker.deliver("c", start=1)
    worker.run()
    kinds(worker)
    first, second = worker.calls[-2:]
    return worker, first, second


def test_two_answers_that_say_that_the_session_is_over_end_it_once() -> None:
    worker, first, second = two_away()
    worker.die()
    worker.answer(second)
    worker.answer(first)
    worker.store_answers = True
    worker.turn()

    assert kinds(worker).count(Kind.SESSION_OVER) == 1
    assert worker.count("sessions") == 2
    assert worker.keys == ["c"]
    assert worker.outcomes() == {"completed": 2}


@pytest.mark.parametrize("ownerships_first", [True, False])
def test_a_session_ends_once_whichever_of_two_calls_tells_it_first(ownerships_first: bool) -> None:
    """A completion leaves beside the call for an ownership whose partition was revoked: both find the session over."""
    worker = Worker(lease_ms=LEASE_MS, store_depth=4).own(ROW[0]).deliver("a")
    worker.store_answers = False
    worker.engine.on_assigned(ROW[1:2])
    worker.engine.on_looked_up(ROW[1], WHOLE, None)
    worker.turn()
    worker.engine.on_revoked(ROW[1:2])
    worker.run(took_ms=50)
    taking, completion = worker.calls[-2:]
    assert isinstance(taking, TakeOwnerships)
    assert isinstance(completion, Exchange)
    earlier = worker.session.number
    worker.die()
    worker.tick()
    reply = worker.store.exchange(completion)
    assert not reply.session_lives

    if ownerships_first:
        worker.engine.on_ownerships(taking, None)
    worker.engine.on_exchanged(completion, reply)
    if not ownerships_first:
        worker.engine.on_ownerships(taking, None)
    worker.store_answers = True
    worker.turn()

    assert [call.previous for call in worker.calls if isinstance(call, OpenSession)] == [None, earlier]


def test_answers_may_come_in_any_order() -> None:
    worker, first, second = two_away()
    worker.answer(second)
    worker.turn()
    assert worker.outcomes() == {"completed": 2}
    assert worker.keys == []
    worker.answer(first)
    worker.turn()
    assert worker.keys == ["c"]


def test_outcomes_are_told_to_who_asked_for_them() -> None:
    worker = Worker(tell_outcomes=True, **AT_LEAST).own().deliver("a")
    (group,) = worker.running
    group.results.append(None)
    worker.tick()
    worker.engine.on_ran(group)

    assert [(each.offset, each.outcome) for each in worker.engine.untold().outcomes] == [(0, Outcome.COMPLETED)]
    assert worker.engine.untold().outcomes == []


def test_news_of_a_group_that_has_none_change_nothing() -> None:
    worker = Worker(stalled_after_ms=1_000, lease_ms=60_000).own().deliver("a").pass_time(900)
    worker.engine.on_results(worker.running[0])
    worker.pass_time(200)

    assert [stall.ran_ms for stall in worker.engine.stalls] == [1_100]


def test_at_most_once_the_rest_of_a_group_goes_on_behind_one_that_raised() -> None:
    worker = Worker(group_ms=1e6, **AT_MOST, store_depth=1).own().deliver("x").run(took_ms=0.001)
    worker.deliver("a", "b", start=1)
    (group,) = worker.running
    assert len(group.deliveries) == 2

    worker.run(ValueError())

    assert worker.keys == ["b"]
    assert worker.run().outcomes() == {"completed": 2, "skipped": 1}


def test_a_group_is_of_one_kind() -> None:
    """Protected or not, and a defect by itself."""
    worker = Worker(group_ms=1e6).own().deliver("x", "y", "z")
    for _ in range(2):
        worker.run(took_ms=0.001)
    worker.tick()
    for offset, (digest, defect) in enumerate(
        [
            (b"a", None),
            (b"b", None),
            (None, None),
            (None, None),
            (b"c", None),
            (b"d", Defect("d", OSError(), fatal=False)),
        ]
    ):
        key = digest and digest.ljust(16, b"."), defect
        worker.engine.on_delivered(ROW[0], [Message("t", 0, 3 + offset)], [key])
    worker.turn()
    ran = []
    while worker.running:
        ran.append([delivery.offset for delivery in worker.running[0].deliveries])
        worker.run(took_ms=0.001)

    assert ran == [[3, 4], [5, 6], [7]]
    assert [delivery.offset for delivery in worker.publishing] == [8]
    assert worker.count("unprotected") == 2


def test_a_group_ends_before_a_key_that_is_in_flight() -> None:
    worker = Worker(group_ms=1e6).own(*ROW[:2]).deliver("x", "y").run(took_ms=0.001)
    worker.run(took_ms=0.001)
    worker.deliver("a", partition=ROW[1])
    worker.deliver("b", "a", "c", start=2)

    assert worker.keys == ["a", "b"]
    worker.run(group=worker.running[0])
    worker.run_all()
    assert worker.outcomes() == {"completed": 5, "repeat": 1}


def test_a_suspect_whose_partition_cannot_go_on_does_not_hold_up_the_next() -> None:
    world = World()
    dead = Worker(world).own(*ROW[:3])
    for number, key in enumerate("abc"):
        dead.deliver(key, partition=ROW[number])
    dead.die()
    worker = Worker(world).own(*ROW[:3])
    for number, key in enumerate("abc"):
        worker.deliver(key, partition=ROW[number])
    assert worker.keys == ["a"]
    worker.engine._partitions.get(ROW[1]).tenure = Tenure.JOINING  # superseded a moment ago
    worker.engine._partitions.get(ROW[1]).take_due_ms = worker.world.now_ms + 10_000

    worker.run()

    assert worker.keys == ["c"]


def test_the_time_of_a_handler_counts_from_when_it_began() -> None:
    worker = Worker(stalled_after_ms=1_000, lease_ms=60_000).own().deliver("a")
    (group,) = worker.running
    group.began = False  # waits for a thread
    worker.pass_time(5_000)
    assert worker.engine.stalls == ()

    group.began = True
    worker.pass_time(900)
    assert worker.engine.stalls == ()
    worker.pass_time(100)
    assert [stall.ran_ms for stall in worker.engine.stalls] == [1_000]


def test_a_claim_that_another_server_does_not_give_back_is_found_out_by_its_completion() -> None:
    world = World()
    worker = Worker(world).own()
    replica = world.state.replica()
    worker.deliver("a")
    world.state.fail_over(replica)
    worker.store_answers = False
    worker.pass_time(LEASE_MS // 3)
    worker.answer(worker.calls[-1])  # another server's
    (call,) = away(worker)
    assert isinstance(call, Exchange)
    assert [ask.held for ask in call.claims] == [True]
    reply = worker.store.exchange(call)
    before = worker.running[0].deliveries[0].call
    worker.engine.on_exchanged(call, replace(reply, claims=[ClaimAnswer(Grant.BUSY)]))

    assert worker.running[0].deliveries[0].call == before
    worker.store_answers = True
    assert worker.turn().run().outcomes() == {"completed": 1}


def test_completions_of_two_partitions_are_answered_together() -> None:
    worker = Worker(buffer=100).own(*ROW[:2])
    worker.deliver("a").deliver("b", partition=ROW[1])
    for group in worker.running:  # both have ended before the next turn
        group.results.append(None)
        worker.engine.on_ran(group)
    worker.turn().pass_time(500)

    assert 2 in [len(call.completes) for call in worker.calls if isinstance(call, Exchange)]
    assert worker.outcomes() == {"completed": 2}
    assert worker.committed == {ROW[0]: 1, ROW[1]: 1}


def test_a_step_that_is_not_in_the_table_is_a_bug_for_many_as_for_one() -> None:
    worker = Worker().own().deliver("a")
    (group,) = worker.running

    with pytest.raises(AssertionError, match="CLAIM in RUNNING"):
        step_all(group.deliveries, Event.CLAIM)
