"""A process that stood still gives everything up; a handler that does not end is seen. On the bench, time by hand."""

import pytest

from kafka_once.core.calls import Exchange
from kafka_once.core.events import Kind, Stall
from kafka_once.core.semantics import Semantics
from kafka_once.errors import ConsumerStopped, InDoubt
from kafka_once.executors import is_late
from kafka_once.message import Message
from tests.unit.bench import ROW, Worker, World

STALL_MS = 10_000
LEASE_MS, MARGIN_MS = 5_000, 500
AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}
AT_MOST = {"semantics": Semantics.AT_MOST_ONCE, "store": False}


def kinds(worker: Worker) -> list[Kind]:
    return [note.kind for note in worker.notes]


# --------------------------------------------------------------------------------------------------------- the process


def test_after_a_stall_everything_is_lost_and_the_group_is_joined_anew() -> None:
    worker = Worker(stall_ms=STALL_MS).own(ROW[0], ROW[1]).deliver("a", "b").deliver("c", "d", partition=ROW[1])

    worker.pass_time(STALL_MS)

    assert worker.count("self_fenced") == 1
    assert worker.rejoins == ["no turn for 10.0 s"]
    assert worker.outcomes() == {"dropped": 2}  # b and d, which had not begun
    assert worker.withdrawn
    assert kinds(worker).count(Kind.LOST) == 2
    assert not any(worker.committed.values())


def test_a_shorter_pause_changes_nothing() -> None:
    worker = Worker(stall_ms=STALL_MS, **AT_LEAST).own().deliver("a")

    worker.pass_time(STALL_MS - 1)
    worker.run().pass_time(100)

    assert worker.rejoins == []
    assert worker.committed == {ROW[0]: 1}


def test_the_first_turn_is_no_stall_however_short_the_patience_of_the_group() -> None:
    assert Worker(stall_ms=1, **AT_LEAST).own().rejoins == []


def test_what_had_finished_is_completed_all_the_same_and_not_committed() -> None:
    world = World()
    worker = Worker(world, stall_ms=STALL_MS).own().deliver("a")

    worker.pass_time(STALL_MS).run()
    worker.pass_time(1_000)

    assert worker.outcomes() == {"completed": 1}
    assert not any(worker.committed.values())
    assert Worker(world).own().deliver("a").outcomes() == {"redelivery": 1}


def test_it_is_seen_before_anything_else_can_be_done() -> None:
    """Whatever the engine hears first: a commit is not sent, a message is not taken in, a group is not started."""
    for says in ("delivered", "revoked", "committing last"):
        worker = Worker(stall_ms=STALL_MS, **AT_LEAST).own().deliver("a")
        worker.world.now_ms += STALL_MS
        worker.tick()
        if says == "delivered":
            worker.deliver("b", start=1)
        elif says == "revoked":
            worker.engine.on_revoked([ROW[0]])
        assert worker.engine.commit_last() == []
        worker.turn()
        assert len(worker.running) == 1, says  # the one from before
        assert worker.rejoins, says


def test_the_news_of_a_part_does_not_save_the_rest() -> None:
    """Librdkafka #5604: a member that stalled in a rebalance is told that some of its partitions are revoked, and goes
    on reading the others, which somebody else has."""
    worker = Worker(stall_ms=STALL_MS, **AT_LEAST).own(*ROW)
    worker.world.now_ms += STALL_MS
    worker.tick()
    worker.engine.on_revoked(ROW[:2])
    assert worker.engine.drained(ROW[:2])
    worker.engine.on_gone(ROW[:2])

    worker.deliver("zombie", partition=ROW[3])

    assert worker.running == []
    assert worker.outcomes() == {"dropped": 1}


def test_a_message_of_a_group_is_not_begun_by_a_thread_that_wakes_before_the_runner() -> None:
    worker = Worker(stall_ms=STALL_MS, **AT_LEAST).own().deliver("a")
    group = worker.running[0]

    assert not is_late(group, (worker.world.now_ms + STALL_MS - 1) / 1000)
    assert is_late(group, (worker.world.now_ms + STALL_MS) / 1000)


@pytest.mark.parametrize(
    ("rules", "key", "ms"),
    [
        ({}, "a", LEASE_MS - MARGIN_MS),
        ({}, "", STALL_MS),
        (AT_LEAST, "a", STALL_MS),
        ({**AT_MOST, "store": True}, "a", STALL_MS),
    ],
)
def test_a_message_begins_while_the_lease_of_its_claim_is_trusted_or_without_one_while_its_group_waits(
    rules: dict[str, object], key: str, ms: int
) -> None:
    worker = Worker(stall_ms=STALL_MS, lease_ms=LEASE_MS, **rules).own().deliver(key)

    assert [group.begin_before_ms for group in worker.running] == [worker.world.now_ms + ms]


def test_at_most_once_what_had_not_begun_is_skipped_after_a_stall() -> None:
    worker = Worker(stall_ms=STALL_MS, group_ms=1e6, **AT_MOST).own().deliver("a").run(took_ms=0.001)
    worker.deliver("b", "c", start=1)
    (group,) = worker.running
    worker.pass_time(STALL_MS)

    worker.run(None, group=group, took_ms=1)  # b had begun; c is late

    assert worker.outcomes() == {"completed": 2, "skipped": 1}
    assert worker.running == []


def test_rejoining_is_asked_for_until_it_is_done() -> None:
    worker = Worker(stall_ms=STALL_MS, **AT_LEAST).own()
    worker.world.now_ms += STALL_MS
    worker.tick()

    assert worker.engine.decide().rejoin  # inside a callback nobody can
    worker.tick()
    assert worker.engine.decide().rejoin
    worker.engine.on_rejoined()
    assert not worker.engine.decide().rejoin


def test_a_process_that_drains_does_not_join_again() -> None:
    worker = Worker(stall_ms=STALL_MS, **AT_LEAST).own().deliver("a")
    worker.engine.stop()

    worker.pass_time(STALL_MS).run()

    assert worker.rejoins == []
    assert worker.engine.drained()
    assert worker.engine.commit_last() == []


# ------------------------------------------------------------------------------------------------------------ handlers


def test_a_handler_that_does_not_end_is_told_of_once_and_shown_while_it_lasts() -> None:
    worker = Worker(stalled_after_ms=1_000, lease_ms=60_000).own().deliver("a", "b")

    worker.pass_time(900)
    assert worker.engine.stalls == ()
    worker.pass_time(200).pass_time(200)

    assert worker.engine.stalls == (Stall(ROW[0], 0, 1_300),)
    assert kinds(worker).count(Kind.STALLED) == 1
    assert worker.count("stalled") == 1

    worker.run().pass_time(200)
    assert worker.engine.stalls == ()


def test_a_group_that_no_place_has_begun_does_not_stand_still() -> None:
    worker = Worker(stalled_after_ms=1_000, **AT_LEAST).own()
    worker.tick()
    worker.engine.on_delivered(ROW[0], [Message("t", 0, 0)], [(None, None)])
    (group,) = worker.engine.decide().groups

    assert not group.began
    assert worker.pass_time(1_100).engine.stalls == ()


def test_each_message_of_a_group_has_its_own_time() -> None:
    worker = Worker(stalled_after_ms=1_000, group_ms=1e6, **AT_LEAST).own().deliver("a").run(took_ms=0.001)
    worker.deliver("b", "c", start=1)
    (group,) = worker.running
    assert len(group.deliveries) == 2

    worker.pass_time(900)
    group.results.append(None)
    worker.engine.on_results(group)
    worker.pass_time(900)
    assert worker.engine.stalls == ()
    worker.pass_time(200)

    assert [stall.offset for stall in worker.engine.stalls] == [2]


def test_it_is_looked_at_ten_times_a_second() -> None:
    worker = Worker(stalled_after_ms=50, **AT_LEAST).own().deliver("a")

    seen = []
    for ms in (60, 40, 60, 40):
        worker.pass_time(ms)
        seen.append([stall.ran_ms for stall in worker.engine.stalls])

    assert seen == [[], [100], [100], [200]]


def test_the_longest_is_shown_first_and_what_waits_for_a_place_hides_nothing() -> None:
    worker = Worker(stalled_after_ms=1_000, concurrency=3, **AT_LEAST).own(*ROW[:3])
    worker.deliver("a").deliver("b", partition=ROW[1])
    worker.pass_time(600).deliver("c", partition=ROW[2])
    worker.running[0].began = False

    worker.pass_time(1_000)

    assert worker.engine.stalls == (Stall(ROW[1], 0, 1_600), Stall(ROW[2], 0, 1_000))


def test_each_message_of_a_group_is_told_of() -> None:
    worker = Worker(stalled_after_ms=1_000, group_ms=1e6, **AT_LEAST).own().deliver("a").run(took_ms=0.001)
    worker.deliver("b", "c", start=1).pass_time(1_000)
    (group,) = worker.running
    group.results.append(None)
    worker.engine.on_results(group)
    worker.pass_time(1_000)

    assert worker.count("stalled") == 2
    assert [note.offset for note in worker.notes if note.kind is Kind.STALLED] == [1, 2]


def test_what_has_all_its_results_stands_still_no_more_although_its_end_is_not_told() -> None:
    worker = Worker(stalled_after_ms=1_000, deadline_ms_of=lambda _topic: 1_000, **AT_LEAST).own().deliver("a")
    (group,) = worker.running
    group.results.append(None)
    worker.engine.on_results(group)

    worker.pass_time(2_000)

    assert (worker.engine.stalls, worker.count("overdue")) == ((), 0)


def test_of_a_group_that_ended_nothing_stands_still_what_had_not_begun_included() -> None:
    worker = Worker(deadline_ms_of=lambda _topic: 1_000, group_ms=1e6, backoff_ms=30_000, **AT_LEAST).own()
    worker.deliver("a").run(took_ms=0.001)
    worker.deliver("b", "c", start=1).run(ValueError())

    worker.pass_time(2_000)

    assert worker.running == []
    assert worker.count("overdue") == 0


def test_past_its_deadline_the_key_is_free_in_doubt_while_the_handler_runs_on() -> None:
    """Hole 11: a session that lives must not keep a key for ever because its handler hangs."""
    world = World()
    hung = Worker(world, deadline_ms_of=lambda _topic: 1_000, lease_ms=60_000).own(ROW[0]).deliver("a")
    other = Worker(world, lease_ms=60_000).own(ROW[1]).deliver("a", partition=ROW[1])
    assert other.running == []

    hung.pass_time(1_000)
    other.pass_time(2_000)

    assert hung.count("overdue") == 1
    assert hung.cancelled == hung.running
    assert kinds(hung).count(Kind.OVERDUE) == 1
    assert other.keys == ["a"]
    assert other.count("in_doubt") == 1
    assert [doubt.reason for doubt in other.store.doubts()] == ["raised"]

    other.run()
    hung.run()  # it ended after all: twice, as reported
    hung.pass_time(2_000)
    assert hung.outcomes() == {"completed": 1}
    assert hung.count("doubled") == 1


def test_an_overdue_handler_that_ends_after_all_counts_if_nobody_took_the_key() -> None:
    world = World()
    worker = Worker(world, deadline_ms_of=lambda _topic: 1_000, lease_ms=60_000).own().deliver("a")

    worker.pass_time(1_000).run().pass_time(200)

    assert worker.outcomes() == {"completed": 1}
    assert worker.committed == {ROW[0]: 1}
    assert Worker(world).own().deliver("a", start=1).outcomes() == {"repeat": 1}


def test_a_repeat_in_the_same_process_waits_for_the_overdue_handler() -> None:
    worker = Worker(deadline_ms_of=lambda _topic: 1_000, lease_ms=60_000).own(*ROW[:2]).deliver("a")
    worker.deliver("a", partition=ROW[1])

    worker.pass_time(1_000).pass_time(1_000)
    assert worker.keys == ["a"]

    worker.run()
    assert worker.outcomes() == {"completed": 1, "repeat": 1}


def test_a_cancelled_handler_is_in_doubt_and_counts_one_attempt() -> None:
    worker = Worker(deadline_ms_of=lambda _topic: 1_000, lease_ms=60_000, backoff_ms=10).own().deliver("a")

    worker.pass_time(1_000).run(InDoubt("cancelled")).pass_time(100)

    (group,) = worker.running
    (delivery,) = group.deliveries
    assert delivery.doubt
    assert delivery.attempts == 1


def test_by_policy_an_overdue_handler_stops_the_consumer() -> None:
    worker = Worker(deadline_ms_of=lambda _topic: 1_000, stop_on_hung=True, lease_ms=60_000).own().deliver("a")

    worker.pass_time(1_000)

    assert isinstance(worker.engine.error, ConsumerStopped)
    assert "t[0]@0" in str(worker.engine.error)
    assert not worker.engine.drained()  # it still runs; the runner waits for `drain` at most


@pytest.mark.parametrize("rules", [AT_LEAST, AT_MOST])
def test_without_a_claim_a_deadline_cancels_and_tells(rules: dict[str, object]) -> None:
    worker = Worker(deadline_ms_of=lambda topic: 1_000 if topic == "t" else None, **rules).own().deliver("a")

    worker.pass_time(1_000).pass_time(1_000)

    assert worker.count("overdue") == 1
    assert len(worker.cancelled) == 1
    worker.run()
    assert worker.outcomes() == {"completed": 1}


def test_what_stands_behind_an_overdue_handler_in_its_group_is_begun_no_more() -> None:
    worker = Worker(deadline_ms_of=lambda _topic: 1_000, group_ms=1e6, **AT_LEAST).own()
    worker.deliver("a").run(took_ms=0.001)
    worker.deliver("b", "c", start=1)
    (group,) = worker.running
    assert not is_late(group, worker.world.now_ms / 1000)

    worker.pass_time(1_000)

    assert is_late(group, worker.world.now_ms / 1000)


@pytest.mark.parametrize(
    ("key", "semantics"),
    [("", Semantics.EFFECTIVELY_ONCE), ("a", Semantics.AT_MOST_ONCE)],
)
def test_no_claim_is_given_back_where_none_is_held(key: str, semantics: Semantics) -> None:
    """It runs unprotected, or is done since before it ran."""
    worker = Worker(semantics=semantics, deadline_ms_of=lambda _topic: 1_000).own().deliver(key).pass_time(100)
    assert len(worker.running) == 1

    worker.pass_time(1_000)

    assert worker.count("overdue") == 1
    assert not any(call.releases for call in worker.calls if isinstance(call, Exchange))
