"""What runs one after another: order by partition, by record key, by nothing. The bench is that of test_engine.py."""

import pytest

from kafka_once.core.order import Order, lane_namer
from kafka_once.core.semantics import Semantics
from kafka_once.errors import ConsumerStopped, StoreUnavailable
from kafka_once.message import Message
from tests.unit.bench import ROW, Worker, World


def by_key(**rules: object) -> Worker:
    return Worker(**{"order": Order.KEY, **rules}).own()


def fail(worker: Worker, key: str) -> Worker:
    return worker.run(ValueError(), group=group_of(worker, key))


def group_of(worker: Worker, key: str):  # type: ignore[no-untyped-def]
    return next(g for g in worker.running if any(d.digest and d.digest.startswith(key.encode()) for d in g.deliveries))


def lanes(worker: Worker) -> int:
    return sum(len(partition.lanes) for partition in worker.engine._partitions.values())


# ------------------------------------------------------------------------------------------------- which lane it is in


def test_a_record_key_names_the_lane_and_a_message_without_one_is_a_lane_of_its_own() -> None:
    def names(order: str) -> list[object]:  # as it stands in the settings
        namer = lane_namer(Order(order))
        return [
            namer(Message("t", 0, offset, key=key)) for offset, key in enumerate((b"x", b"y", b"x", b"", None, None))
        ]

    assert len(set(names("partition"))) == 1
    assert len(set(names("none"))) == 6
    first, second, third, empty, *without = names("key")
    assert first == third
    assert len({first, second, empty, *without}) == 5


def test_the_order_of_a_topic_may_be_its_own() -> None:
    worker = Worker()
    worker.engine = type(worker.engine)(worker.rules, order_of={"t": Order.NONE}.__getitem__)

    worker.own().deliver("a", "b")

    assert worker.keys == ["a", "b"]


# ---------------------------------------------------------------------------------------------------------- by the key


def test_messages_of_a_record_key_run_one_after_another_and_others_beside_them() -> None:
    worker = by_key().deliver("x:a", "x:b", "y:c", "y:d", ":e")
    assert worker.keys == ["a", "c", "e"]

    worker.run(group=group_of(worker, "c"))
    assert worker.keys == ["a", "e", "d"]

    worker.run(group=group_of(worker, "a"))
    assert worker.keys == ["e", "d", "b"]


def test_as_many_lanes_run_at_once_as_the_limit_says_and_each_has_its_turn() -> None:
    worker = by_key(concurrency=2).deliver("x:a", "x:b", "y:c", "z:d")
    assert worker.keys == ["a", "c"]

    worker.run(group=group_of(worker, "a"))

    assert worker.keys == ["c", "d"]
    worker.run(group=group_of(worker, "c"))
    assert worker.keys == ["d", "b"]


def test_a_fast_handler_takes_a_group_of_each_lane() -> None:
    worker = by_key(group_ms=2.0).deliver("x:a").run(took_ms=0.01)
    worker.deliver("x:b", "x:c", "x:d", "y:e", "y:f", start=1)

    assert [[d.offset for d in group.deliveries] for group in worker.running] == [[1, 2], [4, 5]]


def test_the_claims_of_all_lanes_share_a_call_and_each_lane_is_its_own_prefix() -> None:
    worker = by_key(group_ms=2.0).deliver("x:a").run(took_ms=0.01)
    worker.deliver("x:b", "x:c", "y:d", "z:e", start=1)

    claims = worker.last_exchange.claims
    assert [(ask.digest[:1], ask.follows) for ask in claims] == [
        (b"b", False),
        (b"c", True),
        (b"d", False),
        (b"e", False),
    ]


def test_a_failed_message_holds_its_own_key_back_and_the_frontier_but_no_other_key() -> None:
    worker = fail(by_key(backoff_ms=200).deliver("x:a", "x:b", "y:c", "y:d"), "a")
    assert worker.keys == ["c"]

    worker.run()
    worker.run().pass_time(100)
    assert worker.running == []
    assert worker.outcomes() == {"completed": 2}
    assert not any(worker.committed.values())

    worker.pass_time(100)
    assert worker.keys == ["a"]
    worker.run()
    assert worker.keys == ["b"]
    worker.run().pass_time(100)
    assert worker.committed == {ROW[0]: 4}


def test_what_stood_behind_a_failure_in_its_group_keeps_its_place() -> None:
    worker = by_key(group_ms=1000).deliver("x:a").run(took_ms=0.001)
    worker.deliver("x:b", "x:c", "y:d", start=1)
    assert worker.keys == ["b", "c", "d"]

    fail(worker, "b").pass_time(1)
    worker.run(group=group_of(worker, "d"))
    assert worker.running == []
    order = []
    for _ in range(5):
        worker.pass_time(500)
        while worker.running:
            order += worker.keys
            worker.run(took_ms=0.001)

    assert order == ["b", "c"]


def test_a_busy_key_sets_only_its_own_lane_aside() -> None:
    world = World()
    Worker(world).own(ROW[1]).deliver("a", partition=ROW[1])
    other = Worker(world, order=Order.KEY).own().deliver("x:a", "x:b", "y:c")

    assert other.keys == ["c"]
    assert other.count("busy") == 1


def test_a_key_in_flight_holds_its_repeat_in_another_lane_back() -> None:
    worker = by_key().deliver("x:a", "y:a", "y:b", "z:c")
    assert worker.keys == ["a", "c"]

    worker.run(group=group_of(worker, "a"))

    assert worker.keys == ["c", "b"]
    assert worker.outcomes() == {"completed": 1, "repeat": 1}


def test_behind_a_busy_head_nothing_of_its_lane_stays_claimed() -> None:
    """Hole 15, by lane: what is behind is given back, what stands in other lanes goes on."""
    world = World()
    Worker(world).own(ROW[1]).deliver("b", partition=ROW[1])
    worker = Worker(world, order=Order.KEY, group_ms=1000).own().deliver("x:z").run(took_ms=0.001)
    worker.deliver("x:a", "x:b", "x:c", "y:d", start=1)
    worker.run(took_ms=0.001, group=group_of(worker, "a"))
    assert worker.keys == ["d"]

    third = Worker(world).own(ROW[2]).deliver("c", partition=ROW[2])

    assert third.keys == ["c"]


def test_the_order_of_a_key_outlives_a_change_of_owner() -> None:
    world = World()
    old = Worker(world, order=Order.KEY).own().deliver("x:a", "x:b", "y:c")
    old.run(group=group_of(old, "c"))
    old.engine.on_lost([ROW[0]])
    new = Worker(world, order=Order.KEY).own().deliver("x:a", "x:b", "y:c")
    assert new.running == []
    assert new.outcomes() == {"redelivery": 1}

    old.run()
    new.pass_time(50)

    assert new.keys == ["b"]


def test_a_revoked_partition_hands_back_what_waits_in_all_its_lanes() -> None:
    worker = by_key(concurrency=2).deliver("x:a", "x:b", "y:c", "y:d", "z:e")
    worker.engine.on_revoked([ROW[0]])
    worker.turn()
    worker.run().run()

    assert worker.engine.drained([ROW[0]])
    assert worker.outcomes() == {"completed": 2, "handed_back": 3}


def test_suspects_of_two_keys_run_one_at_a_time_and_the_innocent_beside_them() -> None:
    world = World()
    dead = Worker(world, order=Order.KEY).own().deliver("x:a", "y:b")
    assert dead.keys == ["a", "b"]
    dead.die()
    other = Worker(world, order=Order.KEY).own().deliver("x:a", "y:b", "z:c")

    assert other.keys == ["c", "a"]
    other.run(group=group_of(other, "a"))
    assert other.keys == ["c", "b"]


def test_suspects_that_wait_for_their_turn_take_no_place_from_the_innocent() -> None:
    world = World()
    dead = Worker(world, order=Order.KEY, concurrency=3).own().deliver("x:a", "y:b", "z:c")
    assert len(dead.keys) == 3
    dead.die()
    other = Worker(world, order=Order.KEY, concurrency=3).own().deliver("x:a", "y:b", "z:c", "u:d", "v:e", "w:f")
    assert sorted(other.keys) == ["a", "d", "e"]

    seen = [list(other.keys)]
    while other.running:
        seen.append(list(other.run(group=other.running[-1]).keys))

    assert all(len(keys) <= 3 and len(set(keys) & set("abc")) <= 1 for keys in seen)
    assert other.outcomes() == {"completed": 6}


def test_a_lane_that_waits_for_the_store_goes_on_in_its_order() -> None:
    worker = by_key()
    worker.store_answers = False
    worker.deliver("x:a", "y:b", "x:c")
    worker.tick()
    worker.engine.on_silence(StoreUnavailable("away"))
    worker.store_answers = True
    worker.pass_time(60)

    assert worker.keys == ["a", "b"]
    worker.run()
    assert worker.keys == ["b", "c"]


def test_a_superseded_partition_takes_all_its_lanes_up_again() -> None:
    world = World()
    rightful = Worker(world, order=Order.KEY).own()
    Worker(world).own()
    rightful.deliver("x:a", "y:b", "y:c")
    assert rightful.running == []

    rightful.pass_time(300)

    assert rightful.keys == ["a", "b"]


def test_a_lane_with_nothing_to_do_is_dropped() -> None:
    worker = by_key()
    for number in range(100):
        worker.deliver(f"x{number}:k{number}", start=number)
    assert lanes(worker) == 100

    worker.run_all()

    assert lanes(worker) == 0
    assert worker.outcomes() == {"completed": 100}


def test_a_stop_by_policy_leaves_no_lane_behind() -> None:
    worker = fail(by_key(attempts=1).deliver("x:a", "x:b", "y:c"), "a")
    worker.run_all().pass_time(100)

    assert isinstance(worker.engine.error, ConsumerStopped)
    assert worker.engine.drained()
    assert lanes(worker) == 0
    assert worker.outcomes() == {"handed_back": 2, "completed": 1}


# ------------------------------------------------------------------------------------------------------- by nothing


@pytest.mark.parametrize("store", [True, False])
def test_without_an_order_every_message_runs_beside_the_others(store: bool) -> None:
    semantics = Semantics.EFFECTIVELY_ONCE if store else Semantics.AT_LEAST_ONCE
    worker = (
        Worker(order=Order.NONE, store=store, semantics=semantics, concurrency=3).own().deliver("x:a", "x:b", "c", "d")
    )
    assert [group.deliveries[0].offset for group in worker.running] == [0, 1, 2]

    worker.run(ValueError(), group=worker.running[1])
    assert [group.deliveries[0].offset for group in worker.running] == [0, 2, 3]

    worker.run().run().run().pass_time(300)
    assert [group.deliveries[0].offset for group in worker.running] == [1]
    worker.run().pass_time(100)
    assert worker.committed == {ROW[0]: 4}


def test_without_an_order_one_call_claims_for_many_lanes() -> None:
    worker = Worker(order=Order.NONE).own().deliver(*"abcdefgh")

    assert len(worker.last_exchange.claims) == 8
    assert not any(ask.follows for ask in worker.last_exchange.claims)
    assert len(worker.running) == 8


def test_a_loop_of_the_users_is_handed_another_key_while_one_backs_off() -> None:
    worker = Worker(order=Order.KEY, exclusive=False).own()
    worker.engine.offer(1)
    worker.deliver("x:a", "x:b", "y:c")
    worker.run(ValueError())
    for _ in range(3):
        worker.engine.offer(1)
        worker.turn()

    assert worker.keys == ["c"]


# ------------------------------------------------------------------------------------------------------------- ahead


def test_so_many_more_lanes_are_claimed_as_will_begin_within_the_time_of_a_group() -> None:
    worker = Worker(order=Order.NONE, concurrency=10, group_ms=2.0).own().deliver("first")
    worker.run(took_ms=5.0)
    worker.deliver(*(f"k{number}" for number in range(30)), start=1)

    assert len(worker.running) == 10 + 4  # a handler of 5 ms frees 4 of 10 places in 2 ms


@pytest.mark.parametrize(("answer_ms", "ahead"), [(0, 2), (3, 5), (8, 10), (1_000, 10)])
def test_a_store_that_answers_late_has_more_claimed_ahead_up_to_a_bound(answer_ms: int, ahead: int) -> None:
    """Of 16 handlers of 16 ms one ends in each ms: two in the time of a group, and those in that of the answer."""
    worker = Worker(order=Order.NONE, concurrency=16, group_ms=2.0).own().deliver("first")
    worker.store_answers = False
    worker.run(took_ms=16.0).pass_time(answer_ms)
    worker.store_answers = True
    worker.answer(worker.calls[-1])

    worker.deliver(*(f"k{number}" for number in range(40)), start=1)

    assert len(worker.running) == 16 + ahead


def test_only_the_last_answer_of_the_store_counts_for_what_is_claimed_ahead() -> None:
    worker = Worker(order=Order.NONE, concurrency=10, group_ms=2.0).own().deliver("first")
    worker.store_answers = False
    worker.run(took_ms=16.0).pass_time(8)
    worker.store_answers = True
    worker.answer(worker.calls[-1])
    worker.deliver("second", start=1).run(took_ms=16.0)  # answered at once

    worker.deliver(*(f"k{number}" for number in range(30)), start=2)

    assert len(worker.running) == 10 + 1


@pytest.mark.parametrize("took_ms", [None, 500.0])
def test_a_slow_handler_and_one_that_is_not_known_yet_are_not_claimed_ahead(took_ms: float | None) -> None:
    worker = Worker(order=Order.NONE, concurrency=10, group_ms=2.0).own()
    if took_ms is not None:
        worker.deliver("first").run(took_ms=took_ms)
    worker.deliver(*(f"k{number}" for number in range(30)), start=1)

    assert len(worker.running) == 10


def test_partitions_that_wait_for_a_place_are_handed_back_when_they_are_revoked() -> None:
    """The executor gives back what it has not begun: a group that ended without results."""
    worker = Worker(order=Order.KEY, concurrency=1, group_ms=20.0).own().deliver("x:a").run(took_ms=10.0)
    worker.deliver("x:b", "y:c", start=1)
    assert worker.keys == ["b", "c"]
    waiting = group_of(worker, "c")
    worker.engine.on_revoked([ROW[0]])
    worker.running.remove(waiting)
    worker.engine.on_ran(waiting)
    worker.turn().run()

    assert worker.engine.drained([ROW[0]])
    assert worker.outcomes() == {"completed": 2, "handed_back": 1}
    other = Worker(worker.world, order=Order.KEY).own().deliver("x:b", "y:c", start=1)
    assert other.keys == ["c"]
    assert other.count("in_doubt") == 0
