"""Three shards as one store, under the engine and under its pipe."""

from collections import deque

import pytest

from kafka_once.core.calls import ClaimAsk, CompleteAsk, Exchange, OwnershipAsk
from kafka_once.core.claims import Completion, Grant
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import StoreUnavailable
from kafka_once.ports import Namespace, Session, Store
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.stores.sharded import PipelinedShards, ShardedStore, shard_of
from tests.unit.bench import ROW, Worker, World

SHARDS = 3
LEASE_MS = 5_000


class ShardedWorld(World):
    """Each shard is a server of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.states = [MemoryState() for _ in range(SHARDS)]

    def shards(self, lease_ms: int) -> list[Store]:
        return [
            MemoryStore(Namespace("c", "g"), lease_ms, clock_ms=lambda: self.now_ms, state=state)
            for state in self.states
        ]

    def store(self, lease_ms: int) -> MemoryStore:
        return ShardedStore(self.shards(lease_ms))  # type: ignore[return-value]


@pytest.fixture
def world() -> ShardedWorld:
    return ShardedWorld()


def long(key: str) -> str:
    """The bench fills digests up at their end, which is what the shard depends on."""
    return key.rjust(16, "0")


@pytest.fixture
def keys() -> list[list[str]]:
    """Keys by shard."""
    by_shard: list[list[str]] = [[] for _ in range(SHARDS)]
    for number in range(60):
        key = long(str(number))
        by_shard[shard_of(key.encode(), SHARDS)].append(key)
    return by_shard


def test_a_group_of_keys_of_all_shards_runs_and_is_committed(world: ShardedWorld, keys: list[list[str]]) -> None:
    mixed = [key for of_shards in zip(*keys, strict=False) for key in of_shards]
    worker = Worker(world).own().deliver(*mixed)
    worker.run_all().pass_time(100)

    assert worker.outcomes() == {"completed": len(mixed)}
    assert worker.committed == {ROW[0]: len(mixed)}
    assert all(state._namespaces for state in world.states)


def test_what_is_granted_behind_a_refusal_in_another_shard_is_given_back(
    world: ShardedWorld, keys: list[list[str]]
) -> None:
    """Hole 15 of the model: two lanes that hold each other's next key would wait for ever."""
    first, second = keys[0][0], keys[1][0]
    one, other = Worker(world, group_limit=10).own(ROW[0]), Worker(world, group_limit=10).own(ROW[1])
    for worker, partition in ((one, ROW[0]), (other, ROW[1])):  # quick ones, so that groups have two
        worker.deliver(*keys[2][:1] if worker is one else keys[2][1:2], partition=partition).run(took_ms=0.01)
    one.deliver(first, start=1)
    assert one.keys == [first]

    other.deliver(first, second, partition=ROW[1], start=1)

    assert other.keys == []
    third = Worker(world).own(ROW[2]).deliver(second, partition=ROW[2])
    assert third.keys == [second]  # nobody holds it


def test_a_session_that_is_over_in_one_shard_is_over_and_its_claims_elsewhere_are_free(
    world: ShardedWorld, keys: list[list[str]]
) -> None:
    worker, other = Worker(world).own(), Worker(world).own(ROW[1])
    worker.deliver(keys[1][0])
    lost = worker.session
    [records] = world.states[0]._namespaces.values()
    del records.workers[lost.number]  # in the first shard only

    worker.pass_time(LEASE_MS // 3)

    assert worker.session != lost
    assert worker.withdrawn
    other.deliver(keys[1][0], partition=ROW[1])
    assert other.keys == keys[1][:1]
    assert other.count("in_doubt") == 1
    worker.run()
    assert worker.count("fenced") == 1


def test_one_shard_that_fails_over_is_told_again(world: ShardedWorld, keys: list[list[str]]) -> None:
    worker = Worker(world).own()
    replica = world.states[1].replica()
    worker.deliver(*[of_shard[0] for of_shard in keys]).run_all()
    world.states[1].fail_over(replica)

    worker.pass_time(LEASE_MS // 3)

    assert worker.count("store_changes") == 1
    assert worker.count("forgotten") == 1
    worker.deliver(keys[1][0], start=3)
    assert worker.outcomes() == {"completed": 3, "repeat": 1}


def test_one_shard_that_lost_its_memory_shows_in_the_epoch(world: ShardedWorld) -> None:
    Worker(world).own()
    world.states[2] = MemoryState()
    store = world.store(LEASE_MS)
    session = store.open_session(99)
    [ownership] = store.take_ownerships(session, 1, [OwnershipAsk("t", 0)]) or []

    assert ownership.epoch == 1


# ------------------------------------------------------------------------------------------------------------- the pipe


class FakePipe:
    """A pipe to a memory store whose answers arrive when the test says so."""

    timeout_s = 1.0

    def __init__(self, store: Store) -> None:
        self.store = store
        self.away: deque[object] = deque()
        self.arrived = 0
        self.broken = False
        self.dropped = 0

    def send(self, session: Session | None, call: StoreCall) -> None:
        if self.broken:
            raise StoreUnavailable("broken")
        if isinstance(call, OpenSession):
            self.away.append(self.store.open_session(call.token, call.instance, call.previous))
        elif isinstance(call, TakeOwnerships):
            assert session is not None
            self.away.append(self.store.take_ownerships(session, call.call, call.asks))
        else:
            self.away.append(self.store.exchange(call))

    def descriptor(self) -> int:
        return -1

    def readable(self) -> bool:
        return self.arrived > 0

    def receive(self, session: Session | None, call: StoreCall) -> object:
        self.arrived -= 1
        return self.away.popleft()

    def drop(self) -> None:
        self.away.clear()
        self.arrived = 0
        self.dropped += 1


def test_an_answer_is_there_when_all_shards_have_answered_whatever_their_order(world: ShardedWorld) -> None:
    pipes = [FakePipe(store) for store in world.shards(LEASE_MS)]
    store = PipelinedShards(world.shards(LEASE_MS), [lambda pipe=pipe: pipe for pipe in pipes], 1.0)
    pipe = store.pipe()

    def answered(session: Session | None, call: StoreCall) -> object:
        pipe.send(session, call)
        for each in pipes:
            each.arrived += 1
        assert pipe.readable()
        return pipe.receive(session, call)

    session = answered(None, OpenSession(1, None, None))
    assert isinstance(session, Session)
    [ownership] = answered(session, TakeOwnerships(1, (OwnershipAsk("t", 0),)))  # type: ignore[misc]
    digests = [long(str(number)).encode() for number in range(12)]
    claiming = Exchange(session, 2, claims=[ClaimAsk(each, ownership.number, 0) for each in digests])
    completing = Exchange(session, 3, completes=[CompleteAsk(each, session.number) for each in digests])
    for call in (claiming, completing):
        pipe.send(session, call)

    for each in (pipes[2], pipes[2], pipes[0]):  # the last shard has answered both calls, the second none
        each.arrived += 1
        assert not pipe.readable()
    pipes[1].arrived += 1
    assert pipe.readable()
    assert {answer.grant for answer in pipe.receive(session, claiming).claims} == {Grant.ACQUIRED}  # type: ignore[attr-defined]
    assert not pipe.readable()
    pipes[0].arrived += 1
    pipes[1].arrived += 1
    assert pipe.readable()
    assert set(pipe.receive(session, completing).completes) == {Completion.APPLIED}  # type: ignore[attr-defined]


def test_silence_of_one_shard_is_silence_and_the_repeated_call_gets_whole_answers(world: ShardedWorld) -> None:
    pipes = [FakePipe(store) for store in world.shards(LEASE_MS)]
    store = PipelinedShards(world.shards(LEASE_MS), [lambda pipe=pipe: pipe for pipe in pipes], 1.0)
    pipe = store.pipe()
    pipes[1].broken = True
    call = OpenSession(1, None, None)
    with pytest.raises(StoreUnavailable):
        pipe.send(None, call)
    pipe.drop()
    assert [each.dropped for each in pipes] == [1, 1, 1]

    pipes[1].broken = False
    pipe.send(None, call)
    for each in pipes:
        each.arrived += 1

    assert pipe.readable()
    assert pipe.receive(None, call) == store.open_session(1)
