"""What happens when two rules meet: each of these was found by asking of one part what another one does meanwhile."""

import pytest

from kafka_once.core.calls import CommitMark, CommitResult, Committed, Exchange, LogBounds, Seek
from kafka_once.core.claims import Freed
from kafka_once.core.engine import Engine
from kafka_once.core.lane import Group
from kafka_once.core.rules import Rules
from kafka_once.core.semantics import Semantics
from kafka_once.errors import BrokerUnavailable, InDoubt
from kafka_once.handout import HandOut
from kafka_once.look_up import LookUp
from kafka_once.message import TopicPartition
from kafka_once.ports import Namespace
from kafka_once.runner import Runner, RunnerSettings
from tests.unit.bench import ROW, SET_BACK, Worker, World

LEASE_MS = 5_000  # as the rules have it


@pytest.fixture
def world() -> World:
    return World()


# ------------------------------------------------------------------- handlers that hang, and suspects, failover


def test_a_suspect_that_hangs_does_not_keep_the_others_waiting_for_ever(world: World) -> None:
    killed = Worker(world).own(*ROW[:2]).deliver("a").deliver("b", partition=ROW[1])
    assert killed.keys == ["a", "b"]
    killed.die()

    worker = Worker(world, deadline_ms_of=lambda _topic: 1_000).own(*ROW[:2])
    worker.deliver("a").deliver("b", partition=ROW[1])
    assert worker.keys == ["a"]  # suspects run one at a time
    worker.pass_time(1_100)

    assert worker.count("overdue") == 1
    assert worker.keys == ["a", "b"]


def test_what_was_overdue_and_runs_again_is_claimed_again_after_a_failover(world: World) -> None:
    worker = Worker(world, deadline_ms_of=lambda _topic: 1_000).own(*ROW[:2])
    replica = world.state.replica()
    worker.deliver("a").pass_time(1_100)
    worker.run(InDoubt("cancelled at its deadline")).pass_time(300)
    assert (worker.count("overdue"), worker.keys) == (1, ["a"])

    world.state.fail_over(replica)  # nobody knows that it runs
    worker.deliver("b", partition=ROW[1])

    assert worker.count("store_changes") == 1
    assert [ask.digest[:1] for ask in worker.last_exchange.claims if ask.held] == [b"a"]


def test_what_is_given_back_while_its_claim_is_said_again_is_given_back(world: World) -> None:
    """With several calls away: the release would name a call that the record does not hold any more."""
    worker = Worker(world, store_depth=16).own(*ROW[:2])
    worker.deliver("a").deliver("b", partition=ROW[1])
    world.state.fail_over(world.state.replica())
    worker.world.now_ms += LEASE_MS // 3
    worker.tick()
    worker.store_answers = False
    away = worker.engine.decide().calls
    for call in away:
        worker.answer(call)  # another server's
    said_again = worker.engine.decide().calls
    assert any(ask.held for call in said_again if isinstance(call, Exchange) for ask in call.claims)

    first, second = worker.running
    second.results.append(None)
    first.results.append(InDoubt("unknown"))
    for group in (second, first):
        worker.engine.on_ran(group)
    more = worker.engine.decide().calls  # beside those that are away
    worker.store_answers = True
    for call in [*said_again, *more]:
        worker.answer(call)
    worker.turn()

    worker.pass_time(100)

    records = world.state.records(Namespace("c", "g"), worker.store).keys
    assert records[b"a".ljust(16, b".")] == Freed(1, doubt=True, suspect=False)


# ------------------------------------------------------------------------------ stalls, and where reading starts


def test_nothing_is_committed_by_a_membership_that_is_given_up() -> None:
    """The client tells of an assignment that came while the process stood still; nobody can commit for it any more."""
    rules = {"semantics": Semantics.AT_LEAST_ONCE, "store": False, "stall_ms": 10_000}
    worker = Worker(**rules).own()
    worker.world.now_ms += 10_000
    worker.tick()
    worker.engine.on_assigned([ROW[1]])
    worker.engine.on_looked_up(ROW[1], LogBounds(0, 100), None)

    effects = worker.engine.decide()

    assert effects.rejoin
    assert effects.commit == []


# ---------------------------------------------------------------------------- commits, and what others committed


def test_at_most_once_what_waits_for_its_commit_starts_although_another_owner_has_passed_it(world: World) -> None:
    """Found by seeds 20861 and 20997 of the simulation: nothing below the other's frontier was committed, and nothing
    behind what waited for its commit was taken. The partition stood still for ever."""
    rules = {"semantics": Semantics.AT_MOST_ONCE}
    worker = Worker(world, **rules).own()
    worker.commits_answered = False
    worker.deliver("a")
    world.now_ms += LEASE_MS + 1  # it stands still: its session lapses
    other = Worker(world, **rules).own().deliver("a", "b").run_all()
    assert other.committed == {ROW[0]: 2}

    worker.turn()
    worker.commits_answered = True
    worker.engine.on_committed([CommitResult(CommitMark(ROW[0], 1), "retry")])
    worker.pass_time(200)

    assert worker.keys == ["a"]
    assert worker.committed == {ROW[0]: 1}


# ------------------------------------------------------------------------- a frontier that goes back, forgotten


def test_an_operators_reset_takes_the_frontier_back_also_if_the_session_ends_before_it_is_told(world: World) -> None:
    Worker(world).own().deliver(*(f"old {n}" for n in range(8))).run_all().pass_time(200)
    worker = Worker(world)
    worker.store_answers = False
    worker.own(committed=SET_BACK)
    opening = worker.calls[-1]
    worker.answer(opening)
    worker.turn()
    worker.answer(worker.calls[-1])  # the ownership: the reset is seen, and nobody hears of it
    worker.turn()
    assert worker.sought[-1].offset == 0
    world.now_ms += LEASE_MS + 1
    worker.store_answers = True
    worker.turn()
    for call in [call for call in worker.calls if isinstance(call, Exchange)]:
        worker.answer(call)
    worker.pass_time(100)
    worker.deliver("new").run_all().pass_time(200)

    assert worker.committed == {ROW[0]: 1}
    assert frontier_of(world) == 1


def test_an_operators_reset_takes_the_frontier_back_also_if_the_store_forgets_it(world: World) -> None:
    Worker(world).own().deliver(*(f"old {n}" for n in range(8))).run_all().pass_time(200)
    replica = world.state.replica()
    worker = Worker(world).own(committed=SET_BACK)
    assert frontier_of(world) == 0
    for partition in replica.records(Namespace("c", "g"), worker.store).partitions.values():
        kept = partition.frontier
    now = next(iter(world.state.records(Namespace("c", "g"), worker.store).partitions.values()))
    now.frontier, now.frontier_by = kept, 1  # forgotten by a failover, and nothing else of it
    worker.deliver("new").run_all().pass_time(200)

    assert frontier_of(world) == 1


def frontier_of(world: World) -> int:
    [partition] = world.state.records(Namespace("c", "g"), None).partitions.values()
    assert partition.frontier is not None
    return partition.frontier[0]


# ------------------------------------------------------------------------------------------------- the user's own loop


def test_what_is_handed_out_twice_without_a_claim_ends_twice() -> None:
    """The partition is lost and comes back while the loop holds a message of it; the drain waited for the first for
    ever."""
    loop = HandOut(limit=10)
    worker = Worker(semantics=Semantics.AT_LEAST_ONCE, store=False, exclusive=False)
    worker.engine.offer(5)
    loop.open(worker.engine.on_ran, lambda: worker.world.now_ms / 1000)
    worker.own().deliver("a")
    loop.start(worker.running)
    assert loop.take(0) is not None

    worker.running.clear()
    worker.engine.on_lost([ROW[0]])
    worker.own().deliver("a")
    loop.start(worker.running)
    assert loop.take(0) is not None
    assert loop.end("t", 0, 0)

    assert worker.outcomes() == {"completed": 1, "dropped": 1}
    assert worker.engine.drained()
    assert not loop.end("t", 0, 0)


def test_what_is_ended_while_it_is_found_too_late_is_posted_once() -> None:
    """Another thread commits a copy that was handed out before; the newer one stands in its place by then."""
    posted: list[Group] = []
    loop = HandOut(limit=10)

    def now_s() -> float:
        if loop._taken:
            loop.end("t", 0, 0)
        return 100.0

    loop.open(posted.append, now_s)
    worker = Worker(semantics=Semantics.AT_LEAST_ONCE, store=False, exclusive=False).own()
    worker.engine.offer(5)
    worker.deliver("a")
    [group] = worker.running
    group.begin_before_ms = 1
    loop.start([group])

    assert loop.take(0) is None
    assert posted == [group]
    assert group.results == [None]


def test_what_the_loop_took_has_no_time_of_its_own_so_as_much_is_claimed_as_it_has_room_for() -> None:
    loop = HandOut(limit=10)
    worker = Worker(exclusive=False, group_ms=0.5)
    loop.open(worker.engine.on_ran, lambda: worker.world.now_ms / 1000)
    worker.own()
    worker.engine.offer(5)
    worker.deliver("a")
    loop.start(worker.running)
    assert loop.take(0) is not None
    assert loop.end("t", 0, 0)

    worker.deliver("b", "c", start=1)

    assert [ask.digest[:1] for ask in worker.last_exchange.claims] == [b"b", b"c"]


# ------------------------------------------------------------------------------------- what was looked up is old by now


def test_a_frontier_that_went_on_since_the_log_was_looked_up_is_no_truncation(world: World) -> None:
    """An earlier owner that the group has given up reads on until it is told."""
    earlier = Worker(world).own().deliver("a").run()
    worker = Worker(world)
    worker.store_answers = False
    worker.own(log=LogBounds(0, 1))
    earlier.deliver("b", start=1).run().pass_time(200)
    worker.found[ROW[0]] = (LogBounds(0, 2), None)
    worker.store_answers = True
    worker.answer(worker.calls[-1])
    worker.turn()

    assert worker.sought == [Seek(ROW[0], 2)]
    assert worker.engine.error is None


def test_the_log_is_looked_up_after_what_was_committed() -> None:
    """Else a commit of an earlier owner that came in between would look like one of a truncated log."""

    class Moving:
        end = 5

        def committed(self, names: list[TopicPartition]) -> dict[TopicPartition, Committed]:
            self.end += 1
            return {name: Committed(self.end, None, "") for name in names}

        def log_bounds(self, names: list[TopicPartition]) -> dict[TopicPartition, LogBounds]:
            self.end += 1
            return {name: LogBounds(0, self.end) for name in names}

    engine = Engine(Rules(semantics=Semantics.AT_LEAST_ONCE, store=False))
    settings = RunnerSettings(["t"], "g", drain_s=1, answer_s=1)
    runner = Runner(engine, Moving(), None, HandOut(1), None, settings)  # type: ignore[arg-type]
    runner.on_assigned([ROW[0]])

    runner._look_up()
    runner._inbox.close()

    assert engine.error is None
    assert [seek.offset for seek in engine.decide().seek] == [6]


def test_a_partition_without_a_leader_does_not_keep_the_others_from_starting() -> None:
    class Leaderless:
        asked = 0

        def committed(self, names: list[TopicPartition]) -> dict[TopicPartition, None]:
            return dict.fromkeys(names)

        def log_bounds(self, names: list[TopicPartition]) -> dict[TopicPartition, LogBounds]:
            self.asked += 1
            if ROW[1] in names:
                raise BrokerUnavailable("no leader")
            return dict.fromkeys(names, LogBounds(0, 1))

    broker = Leaderless()
    starts = LookUp(broker)  # type: ignore[arg-type]
    starts.add(ROW)
    found, now_s = [], 0.0
    while len(found) < len(ROW) - 1:
        found += [name for name, _, _ in starts.find(now_s)]
        now_s += 1.0
        assert broker.asked < 10

    assert ROW[1] not in found
    assert starts.due(now_s)
    starts.forget(ROW[1:2])
    assert not starts.due(now_s)


def test_a_late_answer_to_a_commit_of_an_earlier_assignment_does_not_count_for_this_one() -> None:
    """Found by seeds 25899 and 26842 of the simulation: what was then settled counted as committed, so no commit was
    sent, and the message that waited for its answer never ran."""
    worker = Worker(semantics=Semantics.AT_MOST_ONCE, store=False).own()
    worker.commits_answered = False
    worker.deliver("a")
    worker.engine.on_lost([ROW[0]])
    worker.own()
    worker.engine.on_committed([CommitResult(CommitMark(ROW[0], 1), "ok")])
    worker.commits_answered = True
    worker.deliver("a").pass_time(200)

    assert worker.committed == {ROW[0]: 1}
    assert len(worker.running) == 1
