"""What a call or an answer leaves unsaid is the ordinary case: whoever writes a store or a broker may leave it out."""

from kafka_once.brokers.memory_cluster import MemoryCluster
from kafka_once.core.calls import (
    ClaimAsk,
    CommitMark,
    CommitResult,
    Committed,
    CompleteAsk,
    Exchange,
    ExchangeReply,
    FrontierMark,
    LogBounds,
    Ownership,
    OwnershipAsk,
    ReleaseAsk,
    Session,
)
from kafka_once.core.claims import ClaimAnswer, Done, Grant
from kafka_once.core.events import Kind
from kafka_once.core.rules import TakeOwnerships
from kafka_once.core.semantics import ConflictPolicy, StartReset
from kafka_once.core.start import Case, Facts, decide
from kafka_once.ports import Doubt, Namespace
from kafka_once.stores.memory import MemoryStore
from tests.unit.bench import ROW, Worker, World

LEASE_MS = 5_000
KEY = b"a" * 16


class Caller:
    """One session with an ownership of t[0]; each of its calls has a number of its own."""

    def __init__(self, world: World, token: int = 1) -> None:
        self.store: MemoryStore = world.store(LEASE_MS)
        self.session: Session = self.store.open_session(token)
        self.call = 0
        self.own: Ownership = self.take(OwnershipAsk("t", 0))

    def take(self, ask: OwnershipAsk) -> Ownership:
        self.call += 1
        [ownership] = self.store.take_ownerships(self.session, self.call, [ask]) or []
        return ownership

    def exchange(self, **asks: object) -> ExchangeReply:
        self.call += 1
        return self.store.exchange(Exchange(self.session, self.call, **asks))  # type: ignore[arg-type]

    def claim(self) -> ClaimAnswer:
        return self.exchange(claims=[ClaimAsk(KEY, self.own.number, 0)]).claims[0]


# ------------------------------------------------------------------------------------------------------------ the store


def test_a_partition_without_a_topic_id_is_no_other_topics() -> None:
    caller = Caller(World())
    assert not caller.take(OwnershipAsk("t", 0, "one")).earlier_topic
    assert caller.take(OwnershipAsk("t", 0, "two")).earlier_topic

    assert not caller.take(OwnershipAsk("t", 0)).earlier_topic


def test_a_store_that_says_nothing_of_an_earlier_topic_knows_none() -> None:
    worker = Worker()
    worker.store_answers = False
    worker.own()
    worker.answer(worker.calls[-1])
    take = worker.turn().calls[-1]
    assert isinstance(take, TakeOwnerships)

    worker.engine.on_ownerships(take, [Ownership(1, 1, None, -1)])

    assert worker.count("topics_recreated") == 0


def test_a_claim_stands_by_itself() -> None:
    world = World()
    assert Caller(world, 1).claim().grant is Grant.ACQUIRED
    caller = Caller(world, 2)
    asks = [ClaimAsk(digest, caller.own.number, 0) for digest in (KEY, b"b" * 16)]

    assert [answer.grant for answer in caller.exchange(claims=asks).claims] == [Grant.BUSY, Grant.ACQUIRED]


def test_a_claim_runs_beside_others_and_counts_no_attempt_if_its_holder_vanishes() -> None:
    world = World()
    Caller(world, 1).claim()
    world.now_ms += LEASE_MS + 1

    answer = Caller(world, 2).claim()

    assert (answer.grant, answer.attempts) == (Grant.RECLAIMED, 0)


def test_a_claim_is_asked_for_and_not_said_again() -> None:
    world = World()
    caller = Caller(world)
    world.state.fail_over(world.state.replica())

    assert caller.claim().grant is Grant.BUSY  # nothing is granted anew for a lease


def test_a_completion_is_no_dead_letters() -> None:
    world = World()
    caller = Caller(world)
    caller.claim()
    caller.exchange(completes=[CompleteAsk(KEY, caller.session.number)])

    record = world.state.records(Namespace("c", "g"), None).keys[KEY]
    assert isinstance(record, Done)
    assert not record.dead_lettered


def test_a_release_says_that_nothing_ran() -> None:
    caller = Caller(World())
    caller.claim()
    caller.exchange(releases=[ReleaseAsk(KEY, caller.session.number, caller.call)])

    answer = caller.claim()

    assert (answer.grant, answer.attempts, answer.doubt) == (Grant.ACQUIRED, 0, False)
    assert caller.store.doubts() == []


def test_a_release_in_doubt_that_names_no_place_is_listed_without() -> None:
    world = World()
    caller = Caller(world)
    caller.claim()
    caller.exchange(releases=[ReleaseAsk(KEY, caller.session.number, caller.call, doubt=True)])

    assert caller.store.doubts() == [Doubt(KEY, "", -1, -1, 0, 0, 0, world.now_ms, "raised")]


def test_a_frontier_does_not_go_back() -> None:
    caller = Caller(World())
    caller.exchange(frontiers=[FrontierMark(caller.own.number, 9)])
    caller.own = caller.take(OwnershipAsk("t", 0))
    caller.exchange(frontiers=[FrontierMark(caller.own.number, 5)])

    assert caller.take(OwnershipAsk("t", 0)).frontier == (9, None)


def test_a_store_that_does_not_name_its_server_is_taken_for_the_same() -> None:
    worker = Worker().own().pass_time(LEASE_MS // 3)  # it was named
    worker.store_answers = False
    worker.pass_time(LEASE_MS // 3)

    worker.engine.on_exchanged(worker.last_exchange, ExchangeReply(session_lives=True))

    assert worker.count("store_changes") == 0


# ---------------------------------------------------------------------------------------------------------------- Kafka


def test_a_commit_carries_no_metadata() -> None:
    cluster = MemoryCluster()
    cluster.group("g").commit(CommitMark(ROW[0], 5))

    assert cluster.committed("g")[ROW[0]].metadata == ""


def test_a_commit_is_refused_without_a_reason() -> None:
    worker = Worker().own()
    worker.engine.on_committed([CommitResult(CommitMark(ROW[0], 1), "retry")])
    worker.turn()

    assert [note.text for note in worker.notes if note.kind is Kind.COMMIT_REFUSED] == ["t[0]: "]


def test_a_log_without_a_topic_id_is_that_of_any_commit() -> None:
    facts = Facts(LogBounds(100, 200), Committed(150, None, "m:topic-1:0:150"), "m")

    assert decide(facts, StartReset.EARLIEST, ConflictPolicy.SAFE).case is Case.RESUMED
