"""How things stand, for people: `Engine.status`, `locating`, and when something is due next."""

from kafka_once.core.semantics import Semantics
from kafka_once.core.standing import EngineStatus, PartitionStatus
from tests.unit.bench import ROW, WHOLE, Worker

AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}


def standing(worker: Worker) -> PartitionStatus:
    worker.tick()
    (partition,) = worker.engine.status().partitions
    return partition


def test_before_anything_happens() -> None:
    assert Worker().engine.status() == EngineStatus(
        unfinished=0, stopping=False, has_session=False, store_silent=False, partitions=()
    )
    assert Worker(**AT_LEAST).engine.status().has_session


def test_a_partition_in_progress() -> None:
    worker = Worker().own().deliver("a", "b").run().pass_time(200)

    assert worker.engine.status().unfinished == 1
    assert worker.engine.status().has_session
    assert standing(worker) == PartitionStatus(
        name=ROW[0], owned=True, unfinished=1, paused=False, frontier=1, committed=1, standing_ms=0
    )


def test_an_assigned_partition_is_ours_before_the_store_has_given_it() -> None:
    worker = Worker()
    worker.store_answers = False
    worker.own()

    assert standing(worker).owned is False
    worker.engine.on_revoked([ROW[0]])
    assert worker.engine.status().partitions == ()


def test_the_first_that_is_not_settled_stands_since_it_became_the_first() -> None:
    worker = Worker(lease_ms=60_000).own().deliver("a", "b")
    assert standing(worker).standing_ms == 0

    worker.pass_time(700)
    assert standing(worker).standing_ms == 700
    worker.run()
    assert standing(worker).standing_ms == 0
    worker.pass_time(300)
    assert standing(worker).standing_ms == 300
    worker.run().pass_time(500)
    assert standing(worker).standing_ms == 0


def test_a_handler_that_raised_shows_that_it_is_alive() -> None:
    worker = Worker(lease_ms=60_000, backoff_ms=5_000, backoff_most_ms=5_000).own().deliver("a")
    standing(worker)
    worker.pass_time(700)
    worker.run(ValueError())

    assert standing(worker).standing_ms == 0
    worker.pass_time(400)
    assert standing(worker).standing_ms == 400


def test_one_behind_it_that_raises_says_nothing_of_the_first() -> None:
    worker = Worker(exclusive=False, backoff_ms=5_000, lease_ms=60_000).own()
    worker.engine.offer(2)
    worker.deliver("a")
    worker.engine.offer(2)
    worker.deliver("b", start=1)
    standing(worker)
    worker.pass_time(700)
    worker.run(ValueError(), group=worker.running[1])

    assert standing(worker).standing_ms == 700


def test_while_the_store_is_silent_nothing_stands() -> None:
    worker = Worker(lease_ms=60_000).own().deliver("a")
    standing(worker)
    worker.pass_time(700)
    worker.engine.on_silence(OSError())
    worker.turn()

    assert worker.engine.status().store_silent
    assert (standing(worker).standing_ms, standing(worker).paused) == (0, True)


def test_a_partition_is_being_located_until_its_look_up_is_answered() -> None:
    worker = Worker()
    assert worker.engine.locating is False
    worker.tick()
    worker.engine.on_assigned(ROW[:1])
    assert worker.engine.locating is True

    worker.engine.on_looked_up(ROW[0], WHOLE, None)
    worker.turn()
    assert worker.engine.locating is False


def test_one_that_is_revoked_meanwhile_is_not_waited_for() -> None:
    worker = Worker()
    worker.tick()
    worker.engine.on_assigned(ROW[:2])
    worker.engine.on_looked_up(ROW[0], WHOLE, None)
    worker.turn()
    assert worker.engine.locating is True
    worker.engine.on_revoked(ROW[1:2])
    assert worker.engine.locating is False


def test_stopping_is_shown() -> None:
    worker = Worker().own()
    worker.engine.stop()
    assert worker.engine.status().stopping


def test_what_is_due_next() -> None:
    worker = Worker(commit_every_ms=100, **AT_LEAST)
    assert worker.engine.next_due_ms() == 0  # a commit is looked for at once
    worker.own()
    assert worker.engine.next_due_ms() == worker.world.now_ms + 100


def test_an_attempt_that_is_put_off_is_due_next() -> None:
    worker = Worker(commit_every_ms=60_000, backoff_ms=5_000, **AT_LEAST).own(*ROW[:2])
    worker.deliver("a").deliver("b", partition=ROW[1])
    worker.run(ValueError())
    first_ms = worker.engine.next_due_ms()
    worker.pass_time(100).run(ValueError())

    assert first_ms is not None
    assert 0 < first_ms - worker.world.now_ms <= 5_000
    assert worker.engine.next_due_ms() == first_ms  # the other is due later
