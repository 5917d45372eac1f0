"""Order by record key where members come and go, die and fail: in memory, and on a real Kafka and a real Redis."""

import asyncio
import signal
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_once import App, Message, header
from kafka_once.testing.services import KafkaServer, RedisServer, ServiceUnavailable
from tests.conftest import missing
from tests.integration.programs import Program, ledger_lines, programs
from tests.integration.worlds import WORLDS, Record, ServerWorld, World

pytestmark = pytest.mark.integration

PARTITIONS, ACCOUNTS, EACH = 3, 24, 20
PATIENCE_S = 60
TAKES_S = 0.002  # a handler: long enough for others to run beside it


@pytest.fixture(scope="module", params=["memory", "real"])
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


class Books:
    """Which run of which account began and ended, over all members; what broke the order, in sentences."""

    def __init__(self) -> None:
        self.returned: dict[bytes, list[int]] = defaultdict(list)
        self.broken: list[str] = []
        self.most_at_once = 0
        self.failures = 0
        self._running: dict[bytes, int] = {}
        self._failed: set[tuple[bytes, int]] = set()
        self._changed = threading.Condition()

    def began(self, account: bytes, number: int) -> None:
        with self._changed:
            if account in self._running:
                self.broken.append(f"{account!r}: {number} beside {self._running[account]}")
            if number != len(self.returned[account]):
                self.broken.append(f"{account!r}: {number} after {self.returned[account]}")
            self._running[account] = number
            self.most_at_once = max(self.most_at_once, len(self._running))

    def ended(self, account: bytes, number: int) -> None:
        """Raises the first time for every seventh message."""
        with self._changed:
            del self._running[account]
            if number % 7 == 3 and (account, number) not in self._failed:
                self._failed.add((account, number))
                self.failures += 1
                raise ConnectionError("try again")
            self.returned[account].append(number)
            self._changed.notify_all()

    def wait_for(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: sum(map(len, self.returned.values())) >= count, PATIENCE_S)


def app_of(world: World, group: str, topic: str, books: Books, kind: str) -> App:
    app = world.app(group, attempts=3, backoff="5ms", commit_every="50ms", order="key", concurrency=32)
    pause = threading.Event()

    def sync(message: Message) -> None:
        account, number = message.key or b"", int(message.value or b"-1")
        books.began(account, number)
        pause.wait(TAKES_S)
        books.ended(account, number)

    async def coroutine(message: Message) -> None:
        account, number = message.key or b"", int(message.value or b"-1")
        books.began(account, number)
        await asyncio.to_thread(pause.wait, TAKES_S)
        books.ended(account, number)

    app.handler(topic, key=header("id"))(sync if kind == "threads" else coroutine)
    return app


def record(account: int, number: int) -> Record:
    return (b"account-%d" % account, b"%d" % number, [("id", b"%d-%d" % (account, number))])


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_the_order_of_a_record_key_is_kept_through_failures_and_a_change_of_members(world: World, kind: str) -> None:
    topic, group, books = world.topic(PARTITIONS), f"orders-{uuid.uuid4().hex[:8]}", Books()
    log = [record(account, number) for number in range(EACH) for account in range(ACCOUNTS)]
    half = len(log) // 2
    one, two = (app_of(world, group, topic, books, kind) for _ in range(2))
    world.produce(topic, [*log[:half], *log[:ACCOUNTS]])  # some of it twice
    one.start()
    assert books.wait_for(half // 2)
    two.start()
    world.produce(topic, log[half:])
    assert books.wait_for(half + half // 3)
    one.stop()
    assert one.join(PATIENCE_S)
    assert books.wait_for(len(log))
    two.stop()
    assert two.join(PATIENCE_S)

    assert books.broken == []
    assert books.returned == {b"account-%d" % account: list(range(EACH)) for account in range(ACCOUNTS)}
    assert books.failures == ACCOUNTS * 3
    assert books.most_at_once > PARTITIONS
    assert one.stats()["in_doubt"] == two.stats()["in_doubt"] == 0
    assert one.stats()["completed"] + two.stats()["completed"] == len(log)


def test_the_order_of_a_record_key_outlives_kill_9(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Run again is only what was running, it is told so, and within its account it stands where it belongs."""
    world = ServerWorld(kafka.bootstrap, redis_server.url, kafka.create_topic)
    topic, ledger, kills, at_once = world.topic(PARTITIONS), tmp_path / "ledger", 2, 16
    world.produce(topic, [record(account, number) for number in range(EACH * 4) for account in range(ACCOUNTS)])
    settings = {"order": "key", "concurrency": at_once, "instance_id": "orders-0", "commit_every": "50ms"}
    spec = {"bootstrap": kafka.bootstrap, "store": redis_server.url, "group": f"g-{topic}", "topic": topic}
    spec |= {"ledger": str(ledger), "handler_s": 0.01, "settings": settings}
    look_again = threading.Event()
    with programs() as running:
        for life in range(kills + 1):
            before = len(ledger_lines(ledger))
            running.append(Program(spec))
            enough = ACCOUNTS * EACH if life < kills else ACCOUNTS * EACH * 4 - before
            for _ in range(PATIENCE_S * 20):
                if len(ledger_lines(ledger)) - before >= enough or (
                    life == kills and not world.lag(spec["group"], topic)
                ):
                    break
                look_again.wait(0.05)  # a file that another process writes can only be looked at again and again
            running[life].signal(signal.SIGKILL if life < kills else signal.SIGTERM)
            running[life].end()

    runs: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for key, _, doubt, _ in ledger_lines(ledger):
        account, number = key.split("-")
        runs[account].append((int(number), doubt))
    broken = [
        (account, *two)
        for account, numbers in runs.items()
        for two in zip([(-1, False), *numbers], numbers, strict=False)
        if two[1][0] != two[0][0] + 1 and not (two[1][0] == two[0][0] and two[1][1])
    ]
    assert broken == []
    assert {account: max(numbers)[0] for account, numbers in runs.items()} == {
        str(account): EACH * 4 - 1 for account in range(ACCOUNTS)
    }
    told = sum(doubt for numbers in runs.values() for _, doubt in numbers)
    assert told <= kills * 2 * at_once
