"""One scenario in three places: in memory, on embedded servers, on real ones. It must not make a difference."""

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from kafka_once import App, Message, field
from kafka_once.testing.services import ServiceUnavailable
from tests.conftest import missing
from tests.integration.worlds import WORLDS, Record, World

PAYMENTS, REPEATS, PARTITIONS = 600, 120, 6
PATIENCE_S = 60


class Payment(BaseModel):
    id: str
    amount: int


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    opened = WORLDS[request.param]()
    try:
        world = opened.__enter__()
    except ServiceUnavailable as reason:
        missing(str(reason))
    try:
        yield world
    finally:
        opened.__exit__(None, None, None)


class Ledger:
    """What the handlers did, in books of its own; and a signal when a number of keys is in them."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.raised: Counter[str] = Counter()
        self._changed = threading.Condition()

    def write(self, key: str) -> None:
        with self._changed:
            self.runs[key] += 1
            self._changed.notify_all()

    def wait_for(self, keys: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.runs) >= keys, PATIENCE_S)


def payment(number: int) -> Record:
    body = json.dumps({"id": f"p-{number}", "amount": number}).encode()
    return (f"account-{number % 50}".encode(), body, [])


def app_of(world: World, group: str, topic: str, dead_letters: str, ledger: Ledger) -> App:
    app = world.app(group, dead_letter_topic=dead_letters, attempts=3, backoff="10ms", commit_every="50ms")

    @app.handler(topic, key=field("id"))
    def charge(payment: Payment, message: Message) -> None:
        if payment.amount < 0:
            raise ValueError("never")
        if payment.amount % 100 == 7 and message.attempt == 1:
            ledger.raised[payment.id] += 1
            raise ConnectionError("try again")
        ledger.write(payment.id)

    return app


def wait_until_settled(world: World, group: str, topic: str) -> None:
    waiting = threading.Event()
    for _ in range(PATIENCE_S * 10):
        if world.lag(group, topic) == 0:
            return
        waiting.wait(0.1)  # what others committed can only be asked for
    raise AssertionError(f"lag {world.lag(group, topic)} after {PATIENCE_S} s")


def outcomes(app: App) -> int:
    names = ("completed", "redelivery", "repeat", "dead_lettered", "skipped", "handed_back", "dropped")
    return sum(app.stats()[name] for name in names)


@pytest.mark.integration
def test_every_payment_is_processed_once_through_a_change_of_members(world: World) -> None:
    """Two members, repeats, failures, poison; one member leaves at half time. Once each, and nothing is left over."""
    topic, dead_letters, group = world.topic(PARTITIONS), world.topic(1), f"billing-{uuid.uuid4().hex[:8]}"
    ledger = Ledger()
    poison: list[Record] = [
        (b"a", b"not json", []),
        (b"b", b'{"amount": 1}', []),
        (b"c", b'{"id": "p-bad", "amount": "many"}', []),
        (b"d", b'{"id": "p-negative", "amount": -1}', [("trace", b"t-1")]),
    ]
    first_half = [payment(number) for number in range(PAYMENTS // 2)]
    second_half = [payment(number) for number in range(PAYMENTS // 2, PAYMENTS)]
    world.produce(topic, [*first_half, *poison, *first_half[:REPEATS]])

    one = app_of(world, group, topic, dead_letters, ledger)
    two = app_of(world, group, topic, dead_letters, ledger)
    one.start()
    assert ledger.wait_for(PAYMENTS // 4)
    two.start()
    assert ledger.wait_for(PAYMENTS // 2)
    world.produce(topic, [*second_half, *second_half[:REPEATS]])
    one.stop()
    assert one.join(PATIENCE_S)
    assert ledger.wait_for(PAYMENTS)
    wait_until_settled(world, group, topic)
    two.stop()
    assert two.join(PATIENCE_S)

    assert Counter({f"p-{number}": 1 for number in range(PAYMENTS)}) == ledger.runs
    assert {f"p-{number}": 1 for number in range(7, PAYMENTS, 100)} == dict(ledger.raised)
    dead = world.read(dead_letters)
    assert sorted(value for _, value, _ in dead if value) == sorted(value for _, value, _ in poison if value)
    for app in (one, two):
        assert app.stats()["deliveries"] == outcomes(app), app.stats()
        assert app.stats()["doubled"] == app.stats()["forgotten"] == app.stats()["in_doubt"] == 0
    completed = one.stats()["completed"] + two.stats()["completed"]
    assert completed == PAYMENTS
    repeats = sum(app.stats()["repeat"] for app in (one, two))
    redelivered = sum(app.stats()["redelivery"] for app in (one, two))
    assert repeats + redelivered >= 2 * REPEATS


@pytest.mark.integration
def test_a_dead_letter_says_where_it_comes_from(world: World) -> None:
    """The bytes and headers of the message, and headers of ours with its origin and the reason."""
    topic, dead_letters, group = world.topic(1), world.topic(1), f"billing-{uuid.uuid4().hex[:8]}"
    world.produce(topic, [payment(1), (b"d", b'{"id": "p-negative", "amount": -1}', [("trace", b"t-1")])])
    app = app_of(world, group, topic, dead_letters, Ledger())
    app.start()
    wait_until_settled(world, group, topic)
    app.stop()
    assert app.join(PATIENCE_S)

    [(key, value, headers)] = world.read(dead_letters)

    told = dict(headers)
    assert (key, value) == (b"d", b'{"id": "p-negative", "amount": -1}')
    assert told["trace"] == b"t-1"
    assert told["kafka-once.topic"] == topic.encode()
    assert told["kafka-once.offset"] == b"1"
    assert told["kafka-once.group"] == group.encode()
    assert told["kafka-once.reason"] == b"attempts exhausted (3)"
    assert told["kafka-once.attempts"] == b"3"
    assert told["kafka-once.error-type"] == b"builtins.ValueError"
