"""The link that the runner uses: several calls away on one connection, and what becomes of them when it fails."""

import select
import uuid
from collections.abc import Callable, Iterator

import pytest

from kafka_once.core.calls import ClaimAsk, Exchange, OwnershipAsk
from kafka_once.core.claims import Grant
from kafka_once.core.rules import OpenSession, StoreCall, TakeOwnerships
from kafka_once.errors import StoreUnavailable
from kafka_once.ports import Namespace
from kafka_once.store_link import PipeLink
from kafka_once.stores.redis import RedisStore
from kafka_once.testing.services import RedisServer, start_redis
from tests.conftest import or_skip

pytestmark = pytest.mark.integration


class Recorder:
    """Stands for the engine: keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object, object]] = []

    def on_session(self, call: StoreCall, session: object) -> None:
        self.told.append(("session", call, session))

    def on_ownerships(self, call: StoreCall, ownerships: object) -> None:
        self.told.append(("ownerships", call, ownerships))

    def on_exchanged(self, call: StoreCall, reply: object) -> None:
        self.told.append(("exchanged", call, reply))

    def on_silence(self, error: BaseException) -> None:
        self.told.append(("silence", None, error))

    def on_refusal(self, error: BaseException) -> None:
        self.told.append(("refusal", None, error))


class Talker:
    """A link with a session and an ownership, and a loop that waits for answers as the runner does."""

    def __init__(self, store: RedisStore) -> None:
        self.link = PipeLink(store)
        self.engine = Recorder()
        self.calls = 0
        self.link.open(lambda answer: answer(self.engine))  # type: ignore[arg-type]
        self.link.send(OpenSession(1, None, None))
        self.session = self.wait(1)[-1][2]
        self.link.send(TakeOwnerships(1, (OwnershipAsk("t", 0),)))
        [self.ownership] = self.wait(2)[-1][2]  # type: ignore[misc]

    def exchange(self, *keys: str) -> Exchange:
        self.calls += 1
        asks = [ClaimAsk(key.encode().ljust(16), self.ownership.number, 0) for key in keys]
        return Exchange(self.session, self.calls + 1, claims=asks)  # type: ignore[arg-type]

    def wait(self, count: int) -> list[tuple[str, object, object]]:
        for _ in range(400):
            self.link.receive()
            if len(self.engine.told) >= count:
                return self.engine.told
            descriptor = self.link.descriptor()
            select.select([descriptor] if descriptor >= 0 else [], [], [], 0.01)
        raise AssertionError(f"told {self.engine.told}, expected {count}")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with or_skip(lambda: start_redis(config={"appendfsync": "always"})) as server:
        yield server


@pytest.fixture
def talker(redis: RedisServer) -> Iterator[Talker]:
    store = RedisStore(redis.url, Namespace("c", uuid.uuid4().hex), lease_ms=60_000, timeout_ms=300)
    talker = Talker(store)
    yield talker
    talker.link.close({})


def grants(told: list[tuple[str, object, object]]) -> list[Grant]:
    return [answer.grant for kind, _, reply in told if kind == "exchanged" for answer in reply.claims]  # type: ignore[attr-defined]


def test_calls_that_are_away_together_are_answered_in_order(talker: Talker) -> None:
    calls = [talker.exchange("a"), talker.exchange("a", "b"), talker.exchange("c")]
    for call in calls:
        talker.link.send(call)

    told = talker.wait(5)[2:]

    assert [call for _, call, _ in told] == calls
    assert grants(told) == [Grant.ACQUIRED] * 4


def interrupted(redis: RedisServer) -> dict[str, Callable[[], None]]:
    return {
        "frozen": redis.pause,
        "killed": redis.kill,
        "scripts forgotten": lambda: redis.client().script_flush(),
    }


@pytest.mark.parametrize("fault", ["frozen", "killed", "scripts forgotten"])
def test_one_silence_stands_for_all_that_are_away_and_repeating_them_gives_the_answers(
    redis: RedisServer, talker: Talker, fault: str
) -> None:
    interrupted(redis)[fault]()
    calls = [talker.exchange("a"), talker.exchange("b")]
    for call in calls:
        talker.link.send(call)
    told = talker.wait(3)[2:]
    assert all(kind == "silence" for kind, *_ in told)
    assert all(isinstance(error, StoreUnavailable) for *_, error in told)
    {"frozen": redis.resume, "killed": redis.restart}.get(fault, lambda: None)()

    before = len(talker.engine.told)
    for call in calls:
        talker.link.send(call)

    told = talker.wait(before + 2)[before:]
    assert [call for _, call, _ in told] == calls
    # A server that restarted grants nothing anew for a lease.
    assert grants(told) == [Grant.BUSY if fault == "killed" else Grant.ACQUIRED] * 2


def test_a_late_answer_is_never_read_as_that_of_another_call(redis: RedisServer, talker: Talker) -> None:
    redis.pause()
    talker.link.send(talker.exchange("a"))
    talker.wait(3)
    redis.resume()
    other = talker.exchange("x", "y", "z")

    talker.link.send(other)

    [(_, call, reply)] = talker.wait(4)[3:]
    assert call is other
    assert len(reply.claims) == 3  # type: ignore[attr-defined]
