"""What the engine shows of itself between two turns, and what it asks for in one. On the bench."""

from kafka_once.core.calls import CommitMark, CommitResult, Committed, Exchange
from kafka_once.core.delivery import Phase
from kafka_once.core.events import Kind
from kafka_once.core.rules import OpenSession, TakeOwnerships
from kafka_once.core.semantics import Semantics
from tests.unit.bench import ROW, Worker, World

LEASE_MS = 5_000
AT_LEAST = {"semantics": Semantics.AT_LEAST_ONCE, "store": False}
AT_MOST = {"semantics": Semantics.AT_MOST_ONCE, "store": False}


def kinds(worker: Worker) -> list[Kind]:
    return [note.kind for note in worker.notes]


# ------------------------------------------------------------------------------------------------------------ the store


def test_the_store_is_silent_from_a_call_without_an_answer_to_the_next_answer() -> None:
    worker = Worker().own()
    assert worker.engine.store_is_silent is False
    worker.store_answers = False
    worker.deliver("a")
    worker.engine.on_silence(OSError())
    assert worker.engine.store_is_silent is True

    worker.answer(worker.calls[-1])

    assert worker.engine.store_is_silent is False


def test_where_there_is_no_store_none_is_silent() -> None:
    assert Worker(**AT_LEAST).own().engine.store_is_silent is False


def test_whatever_the_store_answers_it_is_counted_and_the_store_is_back() -> None:
    worker = Worker()
    worker.store_answers = False
    worker.own()
    for number, kind in enumerate((OpenSession, TakeOwnerships, Exchange), start=1):
        assert isinstance(worker.calls[-1], kind)
        worker.engine.on_silence(OSError())
        worker.turn()
        assert worker.paused == {ROW[0]}

        worker.answer(worker.calls[-1])
        worker.turn()

        assert (worker.paused, worker.count("store_calls")) == (set(), number)
        assert kinds(worker).count(Kind.STORE_BACK) == number
        if kind is TakeOwnerships:
            worker.deliver("a")


def test_it_is_not_drained_before_the_store_knows_all_of_it() -> None:
    worker = Worker().own()
    worker.engine.on_lost(ROW[:1])
    assert not worker.engine.drained()  # the end of the ownership is to be told
    worker.turn()
    assert worker.engine.drained()


def test_a_store_that_is_silent_is_not_waited_for_at_the_end() -> None:
    worker = Worker().own()
    worker.store_answers = False
    worker.engine.on_lost(ROW[:1])
    worker.turn()
    assert not worker.engine.drained()

    worker.engine.on_silence(OSError())

    assert worker.engine.drained()


def test_nothing_is_asked_for_under_a_lease_that_is_not_trusted() -> None:
    """A margin before it ends; the exchange that leaves then renews it, and the claim follows."""
    worker = Worker(lease_ms=LEASE_MS).own()
    worker.world.now_ms += LEASE_MS - worker.rules.margin_ms
    asked = len(worker.calls)

    worker.deliver("a")

    first, second = worker.calls[asked:]
    assert isinstance(first, Exchange)
    assert isinstance(second, Exchange)
    assert (len(first.claims), len(second.claims)) == (0, 1)
    assert worker.keys == ["a"]


def test_nothing_new_is_asked_for_beside_what_is_told_again() -> None:
    """Another lane is ready when another server has answered; its message waits until that one knows all of ours."""
    world = World()
    worker = Worker(world).own(*ROW[:2])
    replica = world.state.replica()
    worker.deliver("a").run()
    world.state.fail_over(replica)
    worker.store_answers = False
    worker.deliver("b", start=1).deliver("c", partition=ROW[1])
    (unanswered,) = worker.calls[-1:]
    worker.answer(unanswered)
    worker.turn()

    assert [ask.digest[:1] for ask in worker.last_exchange.completes] == [b"a"]
    assert worker.last_exchange.claims == []


# ------------------------------------------------------------------------------------------------------ time, the end


def test_the_next_moment_at_which_something_is_due_is_the_nearest() -> None:
    worker = Worker(backoff_ms=40, backoff_most_ms=40, commit_every_ms=70, lease_ms=LEASE_MS).own().pass_time(70)
    assert worker.engine.next_due_ms() == worker.world.now_ms + 70  # a commit; the session is renewed later

    worker.deliver("a").run(ValueError())

    assert worker.engine.next_due_ms() == worker.world.now_ms + 40  # the next attempt


def test_without_anything_that_is_due_there_is_no_next_moment() -> None:
    worker = Worker(**AT_LEAST)
    worker.commits_answered = False
    worker.own()
    assert worker.engine.next_due_ms() is None  # a commit is away


def test_a_stall_is_told_and_calls_back_what_nobody_has_begun() -> None:
    worker = Worker(stall_ms=10_000, **AT_LEAST).own().deliver("a")
    assert not worker.withdrawn

    worker.pass_time(10_000)

    assert worker.withdrawn
    assert [note.text for note in worker.notes if note.kind is Kind.SELF_FENCED] == ["no turn for 10.0 s"]


def test_a_stop_hands_back_at_once_what_waits_and_takes_nothing_more() -> None:
    worker = Worker(**AT_LEAST).own().deliver("a", "b")
    worker.engine.stop()
    assert worker.outcomes() == {"handed_back": 1}

    worker.deliver("c", start=2)

    assert worker.outcomes() == {"handed_back": 2}
    assert len(worker.running) == 1


def test_a_stop_by_a_hung_handler_lets_nothing_begin_in_the_same_turn() -> None:
    rules = {"deadline_ms_of": lambda _topic: 1_000, "stop_on_hung": True, "backoff_ms": 1_000, "concurrency": 9}
    worker = Worker(lease_ms=60_000, **rules).own(*ROW[:2]).deliver("late").deliver("a", partition=ROW[1])
    worker.run(ValueError(), group=worker.running[1])
    asked = len(worker.calls)

    worker.pass_time(1_000)  # both are due: the deadline, and the next attempt

    assert worker.engine.stopping
    assert not any(call.claims for call in worker.calls[asked:] if isinstance(call, Exchange))
    assert worker.outcomes() == {"handed_back": 1}


# --------------------------------------------------------------------------------------------- commits and at most once


def test_which_partitions_have_a_handler_that_waits_for_the_answer_to_a_commit() -> None:
    worker = Worker(**AT_MOST)
    worker.commits_answered = False
    worker.own(*ROW[:2]).deliver("a")

    assert worker.engine.awaits_commit()
    assert worker.engine.awaits_commit(ROW[:2])
    assert worker.engine.awaits_commit([ROW[3], ROW[0]])
    assert not worker.engine.awaits_commit(ROW[1:2])
    assert not worker.engine.awaits_commit(ROW[3:])  # which is not ours
    assert not worker.engine.awaits_commit([])


def test_none_waits_for_it_where_the_commit_comes_after_the_run() -> None:
    assert Worker().own().deliver("a").engine.awaits_commit() is False


def test_what_waits_for_its_commit_is_settling_until_it_runs() -> None:
    worker = Worker(**AT_MOST)
    worker.commits_answered = False
    worker.own().deliver("a")
    ((_, (delivery,)),) = worker.engine._partitions.get(ROW[0]).awaiting
    assert delivery.phase is Phase.SETTLING

    worker.engine.on_committed([CommitResult(CommitMark(ROW[0], 1), "ok")])
    worker.turn()

    assert delivery.phase is Phase.RUNNING


def standing(*names: object, **rules: object) -> Worker:
    """It goes on where the group stands; Kafka does not answer its commits."""
    worker = Worker(mark="m", **rules)
    worker.commits_answered = False
    return worker.own(*names, committed=Committed(0, None, "m::0:0"))  # type: ignore[arg-type]


def due_marks(worker: Worker) -> list[CommitMark]:
    worker.world.now_ms += 100
    worker.tick()
    return worker.engine.decide().commit


def test_each_partition_of_a_commit_has_its_own_answer() -> None:
    worker = standing(*ROW[:2], **AT_LEAST).deliver("a").deliver("b", partition=ROW[1]).run().run()
    marks = due_marks(worker)
    assert {mark.partition for mark in marks} == set(ROW[:2])

    worker.engine.on_committed([CommitResult(mark, "ok") for mark in marks])

    assert worker.count("commits") == 2
    assert [status.committed for status in worker.engine.status().partitions] == [1, 1]
    assert due_marks(worker) == []


def test_an_answer_to_a_commit_of_what_is_gone_or_came_back_changes_nothing() -> None:
    worker = standing(**AT_LEAST).deliver("a").run()
    (mark,) = due_marks(worker)
    worker.engine.on_lost(ROW[:1])
    worker.engine.on_committed([CommitResult(mark, "ok")])
    worker.engine.on_assigned(ROW[:1])
    worker.engine.on_committed([CommitResult(mark, "ok")])  # not looked up yet

    assert worker.engine.status().partitions[0].committed is None
    assert worker.count("commits") == 2


def test_a_late_answer_does_not_take_back_what_is_committed() -> None:
    """The last commit of a revocation does not wait for the one that is on its way."""
    worker = standing(**AT_LEAST).deliver("a", "b").run()
    (first,) = due_marks(worker)
    worker.run()
    worker.engine.on_revoked(ROW[:1])
    (last,) = worker.engine.commit_last()
    assert (first.offset, last.offset) == (1, 2)

    worker.engine.on_committed([CommitResult(last, "ok")])
    worker.engine.on_committed([CommitResult(first, "ok")])

    assert worker.engine.commit_last() == []
