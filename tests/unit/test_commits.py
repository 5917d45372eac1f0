"""When the frontier is committed: one commit at a time, never backwards, only what is ours."""

from kafka_once.core.calls import CommitMark, CommitResult, Committed
from tests.unit.bench import ROW, Worker


def standing(*, committed: int = 0) -> Worker:
    """It goes on where the group stands; Kafka does not answer its commits."""
    worker = Worker(mark="m")
    worker.commits_answered = False
    return worker.own(committed=Committed(committed, None, f"m::0:{committed}"))


def asked(worker: Worker) -> list[int]:
    """The offsets that are to be committed now."""
    worker.tick()
    effects = worker.engine.decide()
    worker._perform(effects)
    return [mark.offset for mark in effects.commit]


def test_one_commit_is_away_at_a_time() -> None:
    """C12: a later one can never arrive before an earlier one."""
    worker = standing().deliver("a", "b").run()
    worker.world.now_ms += 100
    assert asked(worker) == [1]

    worker.run()
    for _ in range(5):
        worker.world.now_ms += 1000
        assert asked(worker) == []

    worker.engine.on_committed([CommitResult(CommitMark(ROW[0], 1), "ok")])
    worker.world.now_ms += 100
    assert asked(worker) == [2]


def test_a_commit_without_a_definite_answer_is_tried_again() -> None:
    """A07, C09, C10: taken or not, the same offset may be committed twice."""
    worker = standing().deliver("a").run()
    worker.world.now_ms += 100
    assert asked(worker) == [1]
    worker.engine.on_committed([CommitResult(CommitMark(ROW[0], 1), "retry", "_TIMED_OUT")])
    worker.world.now_ms += 100
    assert asked(worker) == [1]


def test_nothing_is_committed_again_where_the_group_stands() -> None:
    """C12: only what is ahead of it."""
    worker = standing(committed=2)
    worker.world.now_ms += 1000
    assert asked(worker) == []

    worker.deliver("c", start=2).run()
    worker.world.now_ms += 100
    assert asked(worker) == [3]


def test_nothing_is_committed_for_what_is_lost() -> None:
    """C04, C07: also not what had ended before; and not by the last commit of the process."""
    worker = Worker().own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    worker.run().run()
    worker.engine.on_lost(ROW[:1])
    worker.pass_time(100)

    assert worker.committed == {ROW[0]: 0, ROW[1]: 1}
    assert worker.engine.commit_last() == []


def test_between_two_commits_lies_a_while_counted_from_the_answer() -> None:
    worker = standing().deliver("a", "b").run()
    worker.world.now_ms += 100
    assert asked(worker) == [1]
    worker.run()
    worker.tick()
    worker.engine.on_committed([CommitResult(CommitMark(ROW[0], 1), "ok")])

    worker.world.now_ms += 99
    assert asked(worker) == []
    worker.world.now_ms += 1
    assert asked(worker) == [2]


def test_the_last_commit_of_a_partition_is_marked_in_the_store_too() -> None:
    worker = Worker().own().deliver("a").run()
    worker.engine.on_revoked(ROW[:1])
    assert [mark.offset for mark in worker.engine.commit_last()] == [1]
    worker.turn()

    assert [mark.offset for mark in worker.last_exchange.frontiers] == [1]


def test_what_is_revoked_before_it_was_located_has_nothing_to_commit() -> None:
    worker = Worker()
    worker.tick()
    worker.engine.on_assigned(ROW[:1])
    worker.engine.on_revoked(ROW[:1])

    assert worker.engine.commit_last() == []


def test_without_a_mark_commits_carry_no_metadata() -> None:
    worker = Worker().own().deliver("a").run()

    assert [mark.metadata for mark in worker.engine.commit_last()] == [""]
