"""What the engine decides, one rule per test. The numbers of holes are those of the protocol's model (DESIGN.md)."""

import pytest

from kafka_once.core.calls import CommitMark, Committed, LogBounds, Seek
from kafka_once.core.events import Kind
from kafka_once.core.rules import OpenSession, TakeOwnerships
from kafka_once.core.semantics import ConflictPolicy, Semantics, StartReset
from kafka_once.errors import (
    ConfigurationError,
    ConsumerStopped,
    InDoubt,
    NeverCompleted,
    StoreUnavailable,
    UndecodablePayload,
)
from tests.unit.bench import ROW, SET_BACK, WHOLE, Worker, World

# ------------------------------------------------------------------------------------------------------- the plain path


def test_a_message_is_claimed_run_completed_and_then_committed() -> None:
    worker = Worker().own().deliver("a")
    assert worker.keys == ["a"]
    assert not any(worker.committed.values())

    worker.run().pass_time(100)

    assert worker.outcomes() == {"completed": 1}
    assert worker.committed == {ROW[0]: 1}


def test_the_completion_of_one_and_the_claim_of_the_next_share_a_round_trip() -> None:
    worker = Worker().own().deliver("a", "b")
    assert worker.keys == ["a"]

    worker.run()

    exchange = worker.last_exchange
    assert [ask.digest[:1] for ask in exchange.completes] == [b"a"]
    assert [ask.digest[:1] for ask in exchange.claims] == [b"b"]
    assert worker.keys == ["b"]


def test_a_slow_handler_is_claimed_one_by_one_and_a_fast_one_in_groups() -> None:
    worker = Worker(group_ms=2.0).own().deliver(*"abcdefghij")
    worker.run(took_ms=5.0)
    assert len(worker.keys) == 1
    fast = Worker(group_ms=2.0).own().deliver(*"abcdefghij")
    fast.run(took_ms=0.01)
    assert len(fast.keys) == 2
    fast.run(took_ms=0.02)
    assert len(fast.keys) == 4


def test_partitions_run_beside_each_other_up_to_the_limit() -> None:
    worker = Worker(concurrency=2).own(*ROW[:3])
    for partition in ROW[:3]:
        worker.deliver(f"k{partition.partition}", partition=partition)

    assert sorted(worker.keys) == ["k0", "k1"]
    worker.run()
    assert sorted(worker.keys) == ["k1", "k2"]


def test_the_frontier_waits_for_the_first_that_is_not_settled() -> None:
    worker = Worker(exclusive=False).own()
    worker.engine.offer(3)
    worker.deliver("a")
    for start, key in ((1, "b"), (2, "c")):
        worker.engine.offer(3)
        worker.deliver(key, start=start)
    first, second, third = worker.running

    worker.run(group=second).run(group=third).pass_time(100)
    assert not any(worker.committed.values())

    worker.run(group=first).pass_time(100)
    assert worker.committed == {ROW[0]: 3}


def test_gaps_in_the_log_are_passed() -> None:
    worker = Worker().own().deliver("a", start=5)
    worker.run()
    worker.deliver("b", start=90)
    worker.run().pass_time(200)

    assert worker.committed == {ROW[0]: 91}


def test_a_partition_that_is_full_is_paused_and_resumed() -> None:
    worker = Worker(buffer=4).own().deliver(*"abcd")
    assert worker.paused == {ROW[0]}

    worker.run().run().run()

    assert worker.paused == set()


# ----------------------------------------------------------------------------------------------------------- duplicates


def test_a_repeat_is_settled_without_a_run() -> None:
    worker = Worker().own().deliver("a")
    worker.run()
    worker.deliver("a", start=1).pass_time(100)

    assert worker.running == []
    assert worker.outcomes() == {"completed": 1, "repeat": 1}
    assert worker.committed == {ROW[0]: 2}


def test_a_redelivery_is_told_from_a_repeat() -> None:
    world = World()
    Worker(world).own().deliver("a").run()
    other = Worker(world).own().deliver("a")

    assert other.outcomes() == {"redelivery": 1}


def test_a_key_in_flight_in_this_process_makes_its_repeat_wait() -> None:
    """Hole 2: also when the repeat stands in another partition."""
    worker = Worker().own(*ROW[:2]).deliver("a").deliver("a", "b", partition=ROW[1])
    assert worker.keys == ["a"]

    worker.run()

    assert worker.keys == ["b"]
    assert worker.outcomes() == {"completed": 1, "repeat": 1}


def test_a_busy_key_holds_its_own_partition_only_and_ends_as_a_repeat() -> None:
    world = World()
    holder = Worker(world).own(ROW[0]).deliver("a")
    other = Worker(world).own(*ROW[1:3]).deliver("a", "b", partition=ROW[1]).deliver("c", partition=ROW[2])

    assert other.keys == ["c"]
    assert other.count("busy") == 1
    other.run()
    assert other.outcomes() == {"completed": 1}

    holder.run()
    other.pass_time(50)
    assert other.keys == ["b"]
    assert other.outcomes() == {"completed": 1, "repeat": 1}


def test_behind_a_busy_head_nothing_stays_claimed() -> None:
    """Hole 15: a prefix is claimed; two workers that hold each other's next key would wait for ever."""
    world = World()
    holder = Worker(world).own(ROW[0]).deliver("x")
    other = Worker(world, group_ms=1000).own(ROW[1]).deliver("f", "g", partition=ROW[1])
    other.run(took_ms=0.001).run(took_ms=0.001)
    other.deliver("a", "x", "b", partition=ROW[1], start=2)
    assert other.keys == ["a"]

    third = Worker(world).own(ROW[2]).deliver("b", partition=ROW[2])
    assert third.keys == ["b"]
    assert holder.keys == ["x"]


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_failure_is_tried_again_after_a_backoff_and_counted_in_the_store() -> None:
    worker = Worker(backoff_ms=200).own().deliver("a", "b")
    worker.run(ValueError())
    assert worker.running == []

    worker.pass_time(199)
    assert worker.running == []
    worker.pass_time(1)

    assert worker.keys == ["a"]
    assert worker.running[0].deliveries[0].attempts == 1
    worker.run()
    assert worker.keys == ["b"]
    assert worker.count("retries") == 1


def test_what_stood_behind_a_failure_in_its_group_keeps_its_place() -> None:
    worker = Worker(group_ms=1000).own().deliver("a", *"bcdef")
    worker.run(took_ms=0.001)
    assert worker.keys == ["b", "c"]

    worker.run(ValueError())
    assert worker.running == []
    worker.pass_time(300)
    worker.run_all()

    assert worker.outcomes() == {"completed": 6}


def test_other_partitions_go_on_while_one_backs_off() -> None:
    worker = Worker().own(*ROW[:2]).deliver("a")
    worker.run(ValueError())
    worker.deliver("b", partition=ROW[1])

    assert worker.keys == ["b"]


def test_after_the_last_attempt_it_is_dead_lettered_and_settled_once_that_is_confirmed() -> None:
    worker = Worker(attempts=2, dead_letter_failures=True).own().deliver("a", "b")
    worker.run(ValueError()).pass_time(1000).run(ValueError())
    assert [delivery.reason for delivery in worker.publishing] == ["attempts exhausted (2)"]
    assert not any(worker.pass_time(100).committed.values())

    worker.publish()

    assert worker.outcomes() == {"dead_lettered": 1}
    assert worker.keys == ["b"]
    assert worker.pass_time(200).committed == {ROW[0]: 1}


def test_a_dead_letter_that_is_not_confirmed_is_published_again_and_blocks() -> None:
    worker = Worker(attempts=1, dead_letter_failures=True).own().deliver("a", "b")
    worker.run(ValueError())
    worker.publish(RuntimeError("topic is away"))
    assert worker.publishing == []
    assert worker.running == []

    worker.pass_time(500)

    assert len(worker.publishing) == 1
    worker.publish()
    assert worker.keys == ["b"]


def test_a_repeat_of_a_dead_letter_does_not_run_the_poison_again() -> None:
    worker = Worker(attempts=1, dead_letter_failures=True).own().deliver("a")
    worker.run(ValueError()).publish()
    worker.deliver("a", start=1)

    assert worker.running == []
    assert worker.outcomes() == {"dead_lettered": 1, "repeat": 1}


def test_without_a_dead_letter_topic_it_stops_and_commits_nothing_of_it() -> None:
    worker = Worker(attempts=1).own().deliver("a", "b")
    worker.run(ValueError()).pass_time(100)

    assert isinstance(worker.engine.error, ConsumerStopped)
    assert worker.engine.drained()
    assert not any(worker.committed.values())
    assert worker.outcomes() == {"handed_back": 2}


def test_an_undecodable_payload_is_dead_lettered_at_once() -> None:
    worker = Worker(dead_letter_payloads=True).own().deliver("a")
    worker.run(UndecodablePayload())

    assert [delivery.reason for delivery in worker.publishing] == ["undecodable payload"]


def test_a_handler_that_ends_the_process_is_no_success() -> None:
    worker = Worker().own().deliver("a")
    worker.run(SystemExit(3))

    assert isinstance(worker.engine.error, SystemExit)
    assert worker.outcomes() == {"handed_back": 1}


def test_a_handler_that_is_set_up_wrongly_stops_the_consumer() -> None:
    worker = Worker(dead_letter_failures=True).own().deliver("a")
    worker.run(ConfigurationError("handler", "f", "…"))

    assert isinstance(worker.engine.error, ConfigurationError)
    assert worker.publishing == []


@pytest.mark.parametrize("fatal", [False, True])
def test_a_message_without_a_key_is_dead_lettered_or_stops_the_consumer(fatal: bool) -> None:
    worker = Worker().own().deliver_defect(fatal=fatal)

    assert isinstance(worker.engine.error, ConsumerStopped) is fatal
    assert len(worker.publishing) == (0 if fatal else 1)
    if not fatal:
        worker.publish()
        assert worker.outcomes() == {"dead_lettered": 1}


def test_a_message_that_runs_unprotected_is_never_claimed() -> None:
    worker = Worker().own().deliver("")

    assert len(worker.running) == 1
    worker.run().pass_time(100)
    assert worker.count("unprotected") == 1
    assert worker.committed == {ROW[0]: 1}


# ------------------------------------------------------------------------------------------------------------- in doubt


def test_what_a_dead_member_was_running_is_taken_over_in_doubt() -> None:
    world = World()
    dead = Worker(world).own().deliver("a", "b")
    dead.die()
    other = Worker(world).own().deliver("a", "b")

    [running] = other.running[0].deliveries
    assert running.doubt
    assert other.count("in_doubt") == 1
    assert [doubt.offset for doubt in other.store.doubts()] == [0]
    other.run()
    assert other.running[0].deliveries[0].doubt is False


def test_a_living_holder_is_never_taken_from() -> None:
    """Hole 8: a newer ownership of the partition refuses, it does not grant."""
    world = World()
    holder = Worker(world).own().deliver("a")
    other = Worker(world).own().deliver("a")
    assert other.running == []

    holder.run()
    other.pass_time(50)

    assert other.outcomes() == {"redelivery": 1}


def test_in_doubt_goes_to_the_dead_letters_if_that_is_the_policy() -> None:
    world = World()
    Worker(world).own().deliver("a").die()
    other = Worker(world, dead_letter_doubts=True).own().deliver("a")

    assert [delivery.reason for delivery in other.publishing] == ["in doubt"]
    assert other.running == []


def test_a_handler_that_raises_in_doubt_is_listed_and_run_again_in_doubt() -> None:
    worker = Worker().own().deliver("a")
    worker.run(InDoubt()).pass_time(1000)

    assert worker.running[0].deliveries[0].doubt
    assert [doubt.reason for doubt in worker.store.doubts()] == ["raised"]


def test_suspects_run_one_at_a_time() -> None:
    """Hole 17: the message that kills its process is found, its neighbours are not blamed."""
    world = World()
    dead = Worker(world).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    dead.die()
    other = Worker(world).own(*ROW[:3]).deliver("a").deliver("b", partition=ROW[1]).deliver("c", partition=ROW[2])

    assert sorted(other.keys) == ["a", "c"]
    [suspect] = [group for group in other.running if group.deliveries[0].suspect]
    other.run(group=suspect)
    assert sorted(other.keys) == ["b", "c"]


def test_a_message_that_kills_its_process_each_time_is_dead_lettered_and_its_neighbour_is_not() -> None:
    world = World()
    deaths = 0
    while True:
        worker = Worker(world, attempts=3, dead_letter_failures=True).own(*ROW[:2])
        worker.deliver("bad").deliver("good", partition=ROW[1])
        while worker.keys and "bad" not in worker.keys:
            worker.run()
        if worker.publishing:
            break
        worker.die()
        deaths += 1
        assert deaths < 10

    assert deaths == 4  # once beside its neighbour, then three times alone
    assert [delivery.digest[:3] for delivery in worker.publishing if delivery.digest] == [b"bad"]
    assert worker.publishing[0].reason == "attempts exhausted (3), its process ended each time"
    worker.publish().run_all()
    assert worker.outcomes()["dead_lettered"] == 1
    assert worker.count("failures") == 0


# ------------------------------------------------------------------------------------------------- the store is away


def test_no_answer_pauses_everything_repeats_the_same_call_and_starts_nothing() -> None:
    worker = Worker().own()
    worker.store_answers = False
    worker.deliver("a", "b")
    asked = worker.calls[-1]

    worker.tick()
    worker.engine.on_silence(StoreUnavailable("away"))
    worker.turn()
    assert worker.paused == {ROW[0]}
    assert worker.running == []

    worker.pass_time(60)
    assert worker.calls[-1] is asked
    worker.store_answers = True
    worker.answer(asked)
    worker.turn()
    assert worker.paused == set()
    assert worker.keys == ["a"]


def test_an_answer_that_was_executed_but_lost_is_given_again() -> None:
    """Hole 4 and fault B01: the repeated claim must not look like a duplicate."""
    worker = Worker().own()
    worker.store_answers = False
    worker.deliver("a")
    worker.store.exchange(worker.calls[-1])  # executed; the reply is lost
    worker.tick()
    worker.engine.on_silence(StoreUnavailable("reply lost"))
    worker.store_answers = True

    worker.pass_time(60)

    assert worker.keys == ["a"]


def test_a_completion_that_is_not_answered_does_not_settle() -> None:
    """Hole 10."""
    worker = Worker().own().deliver("a")
    worker.store_answers = False
    worker.run().pass_time(200)

    assert not any(worker.committed.values())
    assert worker.outcomes() == {}


def test_a_grant_that_comes_after_the_trust_is_over_starts_nothing() -> None:
    worker = Worker(lease_ms=5000).own()
    worker.store_answers = False
    worker.deliver("a")
    worker.world.now_ms += 4600
    worker.store_answers = True
    worker.answer(worker.calls[-1])
    assert worker.running == []

    worker.turn()

    assert worker.keys == ["a"]  # given back, renewed and claimed again
    assert worker.count("in_doubt") == 0


def test_nothing_is_committed_without_trust_in_the_lease() -> None:
    worker = Worker(lease_ms=5000).own().deliver("a")
    worker.run()
    worker.store_answers = False
    worker.deliver("b", start=1)
    worker.world.now_ms += 5000
    committed = dict(worker.committed)
    worker.turn()

    assert worker.committed == committed


def test_a_lapsed_session_is_over_and_its_finished_work_still_counts() -> None:
    """Hole 14: a new session is opened; the handler that was running completes under the old number."""
    worker = Worker(lease_ms=5000).own(*ROW[:2]).deliver("a", "b")
    worker.store_answers = False
    worker.world.now_ms += 6000
    worker.store_answers = True
    worker.run()

    assert worker.count("sessions") == 2
    assert worker.keys == ["b"]
    assert worker.outcomes() == {"completed": 1}
    assert worker.count("in_doubt") == 0


def test_a_process_that_was_replaced_does_not_end_the_session_of_the_newer_one() -> None:
    world = World()
    older = Worker(world, instance="i-1").own()
    newer = Worker(world, instance="i-1").own().deliver("a")
    older.pass_time(2000)

    assert older.count("sessions") == 2
    opened = [call for call in older.calls if isinstance(call, OpenSession)]
    assert opened[1].previous is not None
    newer.run().pass_time(10)
    assert newer.count("sessions") == 1
    assert newer.outcomes() == {"completed": 1}


def test_a_restarted_static_member_takes_over_at_once() -> None:
    """Hole 6, the other half: its own old session is replaced, nobody waits for a lease."""
    world = World()
    Worker(world, instance="i-1").own().deliver("a")
    restarted = Worker(world, instance="i-1").own().deliver("a")

    assert restarted.keys == ["a"]
    assert restarted.count("in_doubt") == 1


# ---------------------------------------------------------------------------------------------- partitions come and go


def test_a_completion_is_sent_although_the_partition_was_lost() -> None:
    """Hole 1."""
    worker = Worker().own().deliver("a", "b")
    worker.tick()
    worker.engine.on_lost([ROW[0]])
    worker.turn().run()

    assert worker.outcomes() == {"completed": 1, "dropped": 1}
    assert not any(worker.committed.values())
    again = Worker(worker.world).own().deliver("a")
    assert again.outcomes() == {"redelivery": 1}


def test_a_revoked_partition_drains_what_runs_and_hands_back_the_rest() -> None:
    worker = Worker().own().deliver("a", "b")
    worker.tick()
    worker.engine.on_revoked([ROW[0]])
    assert not worker.engine.drained([ROW[0]])

    worker.run()

    assert worker.engine.drained([ROW[0]])
    assert [(mark.partition, mark.offset) for mark in worker.engine.commit_last()] == [(ROW[0], 1)]
    worker.engine.on_gone([ROW[0]])
    worker.turn()
    assert worker.outcomes() == {"completed": 1, "handed_back": 1}


def test_a_claim_that_is_granted_after_the_revocation_is_given_back() -> None:
    worker = Worker().own()
    worker.store_answers = False
    worker.deliver("a")
    worker.engine.on_revoked([ROW[0]])
    worker.store_answers = True
    worker.answer(worker.calls[-1])
    worker.turn()

    assert worker.running == []
    assert worker.outcomes() == {"handed_back": 1}
    other = Worker(worker.world).own().deliver("a")
    assert other.keys == ["a"]
    assert other.count("in_doubt") == 0


def test_an_ownership_ends_when_its_last_handler_has() -> None:
    """Hole 11: what lapses is the ownership; a live session must not keep claims that it does not work on."""
    worker = Worker().own().deliver("a")
    worker.tick()
    worker.engine.on_lost([ROW[0]])
    worker.turn()
    assert not any(call.ends for call in worker.calls if hasattr(call, "ends"))

    worker.run()

    assert worker.last_exchange.ends


def test_a_superseded_ownership_is_taken_again_while_kafka_says_it_is_ours() -> None:
    """Hole 9."""
    world = World()
    rightful = Worker(world).own()
    Worker(world).own()  # bumps the epoch, then never comes back
    rightful.deliver("a")
    assert rightful.running == []

    rightful.pass_time(300)

    assert rightful.keys == ["a"]


def test_finished_but_fenced_is_claimed_again_and_completes_without_a_second_run() -> None:
    """Hole 13: the lease lapsed while the handler ran, another member took over and gave the key back."""
    world = World()
    slow = Worker(world, lease_ms=5000).own(ROW[0]).deliver("a")
    world.now_ms += 6000
    thief = Worker(world).own(ROW[1]).deliver("a", partition=ROW[1])
    assert thief.keys == ["a"]

    slow.run()
    assert slow.count("fenced") == 1
    assert not any(slow.committed.values())
    thief.run(ValueError())
    slow.pass_time(1000)

    assert slow.outcomes() == {"completed": 1}
    assert slow.running == []


def test_stopping_hands_back_what_waits_and_drains_what_runs() -> None:
    worker = Worker().own().deliver("a", "b")
    worker.engine.stop()
    worker.turn()
    assert not worker.engine.drained()

    worker.run().pass_time(100)

    assert worker.engine.drained()
    assert worker.outcomes() == {"completed": 1, "handed_back": 1}
    assert worker.engine.error is None


# ------------------------------------------------------------------------------------------------------- other promises


def test_at_least_once_runs_without_a_store_and_commits_after() -> None:
    worker = Worker(semantics=Semantics.AT_LEAST_ONCE, store=False).own().deliver("a", "a")
    assert worker.calls == []
    worker.run()
    worker.run().pass_time(100)

    assert worker.outcomes() == {"completed": 2}
    assert worker.committed == {ROW[0]: 2}


def test_at_least_once_tries_again_too() -> None:
    worker = Worker(semantics=Semantics.AT_LEAST_ONCE, store=False, attempts=2, dead_letter_failures=True)
    worker.own().deliver("a").run(ValueError()).pass_time(1000).run(ValueError())
    worker.publish().pass_time(100)

    assert worker.outcomes() == {"dead_lettered": 1}
    assert worker.committed == {ROW[0]: 1}


def test_at_most_once_starts_only_when_the_commit_is_answered() -> None:
    worker = Worker(semantics=Semantics.AT_MOST_ONCE, store=False)
    worker.commits_answered = False
    worker.own().deliver("a")
    assert worker.running == []

    worker.commits_answered = True
    worker.engine._commits.urge()
    worker.engine._commits.due_ms = 0
    worker.turn()

    assert len(worker.running) == 1
    assert worker.committed == {ROW[0]: 1}
    worker.run(ValueError())
    assert worker.outcomes() == {"skipped": 1}


def test_at_most_once_with_a_store_writes_done_first() -> None:
    world = World()
    worker = Worker(world, semantics=Semantics.AT_MOST_ONCE).own().deliver("a")
    assert len(worker.running) == 1
    assert worker.committed == {ROW[0]: 1}
    worker.die()

    other = Worker(world, semantics=Semantics.AT_MOST_ONCE).own(committed=SET_BACK).deliver("a")

    assert other.running == []
    assert other.outcomes() == {"redelivery": 1}


def test_at_most_once_keeps_the_order_of_a_partition() -> None:
    worker = Worker(semantics=Semantics.AT_MOST_ONCE, store=False).own().deliver(*"abcdefgh")
    ran: list[int] = []
    while worker.running:
        assert len(worker.running) == 1
        ran += [delivery.offset for delivery in worker.running[0].deliveries]
        worker.run(took_ms=0.001)

    assert ran == list(range(8))


# ------------------------------------------------------------------------------------------ found by reading and by use


def test_after_a_stop_at_the_last_attempt_the_next_start_runs_it_once_more() -> None:
    """The handler may have been mended meanwhile."""
    world = World()
    Worker(world, attempts=2).own().deliver("a").run(ValueError()).pass_time(1000).run(ValueError()).engine.stop()
    world.now_ms += 6000

    again = Worker(world, attempts=2).own().deliver("a")

    assert again.keys == ["a"]
    again.run()
    assert again.outcomes() == {"completed": 1}


@pytest.mark.parametrize("rules", [{"dead_letter_doubts": True}, {"dead_letter_failures": True, "attempts": 1}])
def test_what_raises_in_doubt_is_listed_before_it_is_dead_lettered(rules: dict[str, object]) -> None:
    worker = Worker(**rules).own().deliver("a")
    worker.run(InDoubt())

    assert worker.running == []
    assert [delivery.doubt for delivery in worker.publishing] == [True]
    assert [delivery.tried for delivery in worker.publishing] == [1]
    assert [doubt.reason for doubt in worker.store.doubts()] == ["raised"]


def test_in_doubt_at_the_last_attempt_without_dead_letters_stops_and_is_listed() -> None:
    worker = Worker(attempts=1).own().deliver("a")
    worker.run(InDoubt()).pass_time(10)

    assert isinstance(worker.engine.error, ConsumerStopped)
    assert worker.running == []
    assert [doubt.reason for doubt in worker.store.doubts()] == ["raised"]


def test_what_a_closed_loop_never_completed_is_in_doubt_and_no_attempt_is_counted() -> None:
    worker = Worker(attempts=2).own()
    for _ in range(5):
        worker.deliver("a", start=worker.count("deliveries"))
        worker.run(NeverCompleted())

    assert worker.running[0].deliveries[0].doubt
    assert worker.running[0].deliveries[0].attempts == 0


def test_a_slow_handlers_completion_leaves_beside_the_call_that_is_away() -> None:
    worker = Worker(store_depth=4).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    worker.run(took_ms=50)
    worker.deliver("c", start=1)
    worker.store_answers = False
    worker.pass_time(2000)  # a renewal is away
    before = len(worker.calls)

    worker.run()

    assert len(worker.calls) == before + 1
    assert worker.last_exchange.completes


def test_calls_that_are_away_together_are_repeated_together_and_in_order() -> None:
    worker = Worker(store_depth=4).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    worker.run(took_ms=50)
    worker.store_answers = False
    worker.deliver("c", start=1)
    worker.run()
    away = worker.calls[-2:]
    worker.tick()
    worker.engine.on_silence(StoreUnavailable("away"))
    worker.pass_time(60)
    assert worker.calls[-2:] == away

    worker.store_answers = True
    for call in away:
        worker.answer(call)
    worker.answer(away[0])  # a late copy of an answer changes nothing
    worker.turn()

    assert worker.outcomes() == {"completed": 2}
    assert worker.keys == ["c"]


def test_when_the_session_is_over_what_nobody_has_begun_is_called_back() -> None:
    worker = Worker(lease_ms=5000).own().deliver("a")
    [group] = worker.running
    assert group.begin_before_ms is not None
    assert group.begin_before_ms < worker.world.now_ms + 5000
    worker.pass_time(6000)

    assert worker.withdrawn


# ---------------------------------------------------------------------------------------------- found by the simulation


def test_at_most_once_never_runs_what_another_session_recorded_first() -> None:
    world = World()
    late = Worker(world, semantics=Semantics.AT_MOST_ONCE, lease_ms=5000).own(ROW[0])
    late.store_answers = False
    late.deliver("a")
    claim = late.calls[-1]
    late.answer(claim)
    late.turn()
    record = late.calls[-1]
    world.now_ms += 6000
    other = Worker(world, semantics=Semantics.AT_MOST_ONCE).own(ROW[1]).deliver("a", partition=ROW[1])
    assert len(other.running) == 1

    late.answer(record)
    late.store_answers = True
    late.turn()

    assert late.running == []
    assert late.outcomes() == {"repeat": 1}


@pytest.mark.parametrize("store", [False, True])
def test_at_most_once_settles_what_is_dead_lettered_before_it_ran(store: bool) -> None:
    worker = Worker(semantics=Semantics.AT_MOST_ONCE, store=store).own().deliver_defect(fatal=False)
    worker.publish()
    worker.deliver("b", start=1).run().pass_time(200)

    assert worker.outcomes() == {"dead_lettered": 1, "completed": 1}
    assert worker.committed == {ROW[0]: 2}


def test_at_most_once_frees_the_claim_of_what_is_dead_lettered_in_doubt() -> None:
    world = World()
    dead = Worker(world, semantics=Semantics.AT_MOST_ONCE, dead_letter_doubts=True).own()
    dead.store_answers = False
    dead.deliver("a")
    dead.store.exchange(dead.calls[-1])
    dead.die()
    other = Worker(world, semantics=Semantics.AT_MOST_ONCE, dead_letter_doubts=True).own().deliver("a")
    other.publish()
    other.deliver("a", start=1).pass_time(200)

    assert other.outcomes() == {"dead_lettered": 1, "repeat": 1}
    assert other.committed == {ROW[0]: 2}


def test_at_most_once_ends_every_delivery_although_the_partition_is_lost_meanwhile() -> None:
    worker = Worker(semantics=Semantics.AT_MOST_ONCE).own()
    worker.store_answers = False
    worker.deliver("a")
    worker.answer(worker.calls[-1])
    worker.turn()
    record = worker.calls[-1]
    worker.engine.on_lost([ROW[0]])
    worker.store_answers = True
    worker.answer(record)
    worker.turn()

    assert worker.engine.drained()
    assert worker.outcomes() == {"skipped": 1}


def test_two_suspects_of_one_partition_do_not_wait_for_each_other_in_a_loop_of_the_users() -> None:
    world = World()
    dead = Worker(world, exclusive=False).own()
    for start, key in enumerate("ab"):
        dead.engine.offer(5)
        dead.deliver(key, start=start)
    assert len(dead.running) == 2
    dead.die()
    other = Worker(world, exclusive=False).own()
    for start, key in enumerate("ab"):
        other.engine.offer(5)
        other.deliver(key, start=start)

    other.run_all()

    assert other.outcomes() == {"completed": 2}


def test_a_suspect_never_overtakes_a_failed_head_of_its_partition() -> None:
    world = World()
    dead = Worker(world, group_ms=1000).own().deliver("x", "a", "b")
    dead.run(took_ms=0.001)
    assert dead.keys == ["a", "b"]
    dead.die()
    middle = Worker(world, group_ms=1000).own().deliver("x", "a", "b")
    middle.run(ValueError())  # a has raised: no suspect any more
    middle.die()
    last = Worker(world, group_ms=1000).own().deliver("x", "a", "b")
    last.run(ValueError()) if last.keys == ["a"] else None
    order = []
    for _ in range(20):
        if last.running:
            order += last.keys
            last.run(*[ValueError() if len(order) < 3 else None])
        last.pass_time(500)

    assert order.index("b") > max(position for position, key in enumerate(order) if key == "a")


def test_a_lost_partition_that_awaited_its_commit_keeps_no_place() -> None:
    worker = Worker(semantics=Semantics.AT_MOST_ONCE, store=False, concurrency=1)
    worker.commits_answered = False
    worker.own(*ROW[:2]).deliver("a")
    worker.engine.on_lost([ROW[0]])
    worker.commits_answered = True
    worker.engine._commits.due_ms = 0
    worker.deliver("b", partition=ROW[1])

    assert len(worker.running) == 1
    assert worker.outcomes() == {"skipped": 1}


def test_with_the_policy_to_stop_each_start_tries_a_killer_once_more() -> None:
    world = World()
    for _ in range(6):
        worker = Worker(world, attempts=2).own().deliver("a")
        assert worker.keys == ["a"]
        worker.die()


def test_a_dead_letter_for_want_of_a_key_is_not_published_again_when_it_is_redelivered() -> None:
    world = World()
    Worker(world).own().deliver_defect(fatal=False).publish()
    again = Worker(world).own().deliver_defect(fatal=False)

    assert again.publishing == []
    assert again.outcomes() == {"redelivery": 1}


def test_a_revocation_does_not_wait_for_a_commit_that_is_on_its_way() -> None:
    worker = Worker(semantics=Semantics.AT_MOST_ONCE, store=False)
    worker.commits_answered = False
    worker.own().deliver("a", "b")
    worker.tick()
    worker.engine.on_revoked([ROW[0]])
    assert worker.engine.awaits_commit([ROW[0]])
    assert [mark.offset for mark in worker.engine.commit_last()] == [1]

    worker.engine.on_uncommitted([ROW[0]])

    assert worker.engine.drained([ROW[0]])
    assert worker.outcomes() == {"skipped": 1, "handed_back": 1}


# ------------------------------------------------------------------------------------------------- where reading starts


def stored_up_to(world: World, offset: int) -> None:
    """An earlier owner has settled what stands before `offset` and stored its frontier; then it died."""
    earlier = Worker(world).own().deliver(*[f"k{number}" for number in range(offset)])
    earlier.run_all().pass_time(500).pass_time(500)
    earlier.die()


def test_nothing_is_taken_asked_for_or_committed_before_it_is_known_where_a_partition_starts() -> None:
    worker = Worker()
    worker.tick()
    worker.engine.on_assigned(ROW[:1])
    worker.turn().deliver("a")

    assert not any(isinstance(call, TakeOwnerships) for call in worker.calls)
    assert (worker.running, worker.sought, worker.committed) == ([], [], {})
    assert worker.outcomes() == {"handed_back": 1}

    worker.engine.on_looked_up(ROW[0], WHOLE, None)
    worker.turn()
    assert worker.sought == [Seek(ROW[0], 0)]


def test_a_start_at_the_stored_frontier_is_committed_at_once() -> None:
    """Hole 18: the new owner starts at the record, finds nothing to do, and would never commit."""
    world = World()
    stored_up_to(world, 3)
    worker = Worker(world, mark="m").own(committed=Committed(1, None, "m::1:1"))

    assert worker.sought == [Seek(ROW[0], 3)]
    assert worker.committed == {ROW[0]: 3}
    assert worker.count("commits_lost") == 1
    assert [note.kind for note in worker.notes if note.kind is Kind.COMMIT_LOST] == [Kind.COMMIT_LOST]


def test_an_expired_offset_starts_at_the_stored_frontier_also_with_latest() -> None:
    world = World()
    stored_up_to(world, 3)
    worker = Worker(world, start_reset=StartReset.LATEST).own()

    assert worker.sought == [Seek(ROW[0], 3)]
    assert worker.committed == {ROW[0]: 3}
    assert worker.count("offsets_gone") == 1


def test_a_new_group_at_the_latest_is_committed_at_once() -> None:
    """Else a crash before the first commit would pass over what came meanwhile."""
    worker = Worker(start_reset=StartReset.LATEST).own(log=LogBounds(0, 40))

    assert worker.sought == [Seek(ROW[0], 40)]
    assert worker.committed == {ROW[0]: 40}


def test_an_operators_reset_back_is_respected_and_a_later_start_goes_on_from_there() -> None:
    world = World()
    stored_up_to(world, 3)
    worker = Worker(world, mark="m").own(committed=SET_BACK)
    assert worker.sought == [Seek(ROW[0], 0)]
    worker.deliver("k0", "new").run().pass_time(200).pass_time(200)
    assert worker.committed == {ROW[0]: 2}
    worker.die()

    later = Worker(world, mark="m").own(committed=Committed(2, None, "m::2:2"))
    assert later.sought == [Seek(ROW[0], 2)]  # and not at the frontier of 3 that was stored before the reset
    assert later.count("commits_lost") == 0


def test_a_topic_made_anew_starts_afresh() -> None:
    """Its epoch, its frontier and its claimed offsets are its own."""
    world = World()
    first = Worker(world).own(log=LogBounds(0, 9, "one")).deliver("a", "b")
    first.run().run().pass_time(500).pass_time(500)
    first.die()

    worker = Worker(world, start_reset=StartReset.LATEST).own(log=LogBounds(0, 5, "two"))
    assert worker.sought == [Seek(ROW[0], 0)]
    assert worker.count("topics_recreated") == 1
    worker.deliver("a", "c")
    assert worker.outcomes() == {"repeat": 1}  # the work is known, its place is new
    assert worker.keys == ["c"]


def test_a_truncated_log_stops_the_consumer_before_anything_is_read() -> None:
    world = World()
    stored_up_to(world, 3)
    worker = Worker(world).own(log=LogBounds(0, 2))

    assert worker.sought == []
    assert worker.engine.stopping
    assert isinstance(worker.engine.error, ConsumerStopped)
    assert "truncated" in str(worker.engine.error)
    assert worker.committed == {}
    assert worker.count("logs_truncated") == 1


def test_by_policy_a_truncated_log_is_read_from_its_start_and_its_frontier_begins_anew() -> None:
    world = World()
    stored_up_to(world, 3)
    go_on = {"on_position_conflict": ConflictPolicy.GO_ON}
    worker = Worker(world, **go_on).own(log=LogBounds(0, 2))
    assert worker.sought == [Seek(ROW[0], 0)]
    worker.pass_time(500)
    worker.die()

    later = Worker(world).own(log=LogBounds(0, 2))
    assert later.sought == [Seek(ROW[0], 0)]
    assert later.count("logs_truncated") == 0


def test_a_store_that_gives_out_an_epoch_again_has_lost_its_memory() -> None:
    worker = Worker(mark="m").own(committed=Committed(5, None, "m::2:5"))

    assert worker.sought == [Seek(ROW[0], 5)]
    assert worker.count("memory_lost") == 1


def test_without_a_store_committed_offset_and_log_decide() -> None:
    rules = {"semantics": Semantics.AT_LEAST_ONCE, "store": False, "mark": "m"}
    moved = Worker(**rules).own(log=LogBounds(0, 9, "two"), committed=Committed(5, None, "m:one:0:5"))
    assert moved.sought == [Seek(ROW[0], 0)]
    assert moved.count("topics_recreated") == 1
    resumed = Worker(**rules).own(log=LogBounds(0, 9, "one"), committed=Committed(5, 3, "m:one:0:5"))
    assert resumed.sought == [Seek(ROW[0], 5, 3)]
    assert resumed.committed == {}


def test_markers_at_the_end_of_the_log_are_committed_past() -> None:
    """D08: lag comes to 0 although the last offsets hold no message."""
    worker = Worker().own().deliver("a", "b")
    worker.tick()
    worker.engine.on_passed(ROW[0], 7)
    worker.run().pass_time(200)
    assert worker.committed == {ROW[0]: 1}  # not past what is not settled

    worker.run().pass_time(200)
    assert worker.committed == {ROW[0]: 7}


def test_what_was_deleted_while_we_read_is_counted_and_by_policy_stops() -> None:
    worker = Worker().own()
    worker.engine.on_deleted(ROW[0], 3, 8)
    assert worker.count("messages_deleted") == 5
    assert not worker.engine.stopping

    strict = Worker(on_position_conflict=ConflictPolicy.STOP).own()
    strict.engine.on_deleted(ROW[0], 3, 8)
    assert strict.engine.stopping


def test_a_superseded_partition_commits_nothing_and_afterwards_never_behind_the_other_owners_frontier() -> None:
    world = World()
    zombie = Worker(world, lease_ms=60_000).own().deliver("a", "b", "c", "d")
    zombie.run().pass_time(200)
    assert zombie.committed == {ROW[0]: 1}
    other = Worker(world, lease_ms=60_000).own(committed=Committed(1, None, ""))
    other.deliver("x", "y", start=4).run_all().pass_time(500).pass_time(500)
    assert other.committed == {ROW[0]: 6}

    commits = zombie.count("commits")
    zombie.run()  # "b" is completed, and the claim of "c" is refused
    assert zombie.count("commits") == commits
    zombie.pass_time(300).pass_time(300)

    assert zombie.committed == {ROW[0]: 1}


def test_commits_carry_topic_id_epoch_and_offset() -> None:
    worker = Worker(mark="m")
    marks: list[CommitMark] = []
    commit = worker.engine.on_committed
    worker.engine.on_committed = lambda results: (marks.extend(r.mark for r in results), commit(results))  # type: ignore[assignment,func-returns-value,misc]
    worker.own(log=LogBounds(0, 9, "id")).deliver("a").run().pass_time(200)

    assert [mark.metadata for mark in marks] == ["m:id:1:0", "m:id:1:1"]
