"""Where handlers run: no more at once than there are places, the next one begins in the place of the last."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from kafka_once.core.delivery import Delivery
from kafka_once.core.lane import Group, Lane
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition
from kafka_once.core.semantics import KeyPolicy
from kafka_once.executors import Handlers
from kafka_once.intake import KeyRule, Route, Routes
from kafka_once.message import Message, TopicPartition
from kafka_once.signatures import HandlerSignature

PATIENCE_S = 10
Stages = Callable[[int], "Stage"]
RULE = KeyRule(None, None, KeyPolicy.STOP, stop_on_bad_payload=True)


class Stage:
    """Handlers that begin, wait for the test and end; and what was posted."""

    def __init__(self, limit: int) -> None:
        handlers = {"sync": self.sync, "async": self.coroutine}
        routes = [
            Route((topic,), RULE, function, HandlerSignature.of(function)) for topic, function in handlers.items()
        ]
        self.executor = Handlers(Routes(routes), limit)
        self.executor.open(self._post, lambda: 0.0)
        self._started = 0
        self.begun: list[int] = []
        self.posted: list[Group] = []
        self.threads: set[int] = set()
        self._gates: dict[int, threading.Event] = {}
        self._changed = threading.Condition()

    def sync(self, message: Message) -> None:
        self._began(message.offset)
        assert self._gate(message.offset).wait(PATIENCE_S)
        if message.value == b"raise":
            raise ValueError

    async def coroutine(self, message: Message) -> None:
        self._began(message.offset)
        assert await asyncio.to_thread(self._gate(message.offset).wait, PATIENCE_S)

    def _gate(self, offset: int) -> threading.Event:
        return self._gates.setdefault(offset, threading.Event())

    def _began(self, offset: int) -> None:
        with self._changed:
            self.begun.append(offset)
            self.threads.add(threading.get_ident())
            self._changed.notify_all()

    def _post(self, group: Group) -> None:
        with self._changed:
            self.posted.append(group)
            self._changed.notify_all()

    def start(self, *groups: Group) -> None:
        self._started += len(groups)
        self.executor.start(list(groups))

    def close(self) -> None:
        self.executor.withdraw(None)
        self.end(*range(50))
        assert self.wait(lambda: len(self.posted) == self._started)
        self.executor.close()

    def end(self, *offsets: int) -> None:
        for offset in offsets:
            self._gate(offset).set()

    def wait(self, condition: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, PATIENCE_S)


@pytest.fixture
def stages() -> Iterator[Stages]:
    made: deque[Stage] = deque()

    def make(limit: int) -> Stage:
        made.append(Stage(limit))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


def group(
    topic: str, *offsets: int, begin_before_ms: int | None = None, partition: int = 0, value: bytes = b""
) -> Group:
    lane = Lane(Partition(TopicPartition(topic, partition), Pace(2.0, 500), Order.PARTITION), None)
    deliveries = [Delivery(Message(topic, partition, offset, value=value), lane, None) for offset in offsets]
    return Group(lane, deliveries, begin_before_ms)


@pytest.mark.parametrize("kinds", [("sync", "sync", "sync"), ("async", "async", "async"), ("sync", "async", "sync")])
def test_no_more_run_at_once_than_there_are_places_whatever_they_are(stages: Stages, kinds: list[str]) -> None:
    stage = stages(2)
    stage.start(*(group(kind, offset) for offset, kind in enumerate(kinds)))
    assert stage.wait(lambda: len(stage.begun) == 2)
    assert 2 not in stage.begun

    stage.end(0)

    assert stage.wait(lambda: stage.begun[2:] == [2])
    stage.end(1, 2)
    assert stage.wait(lambda: len(stage.posted) == 3)
    assert all(each.results == [None] for each in stage.posted)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_who_waited_for_a_place_and_is_called_back_never_begins(stages: Stages, kind: str) -> None:
    stage = stages(1)
    waiting, other = group(kind, 1), group(kind, 2, partition=7)
    stage.start(group(kind, 0), waiting, other)
    assert stage.wait(lambda: stage.begun == [0])

    stage.executor.withdraw([TopicPartition(kind, 0)])

    assert stage.posted == [waiting]
    assert waiting.results == []
    stage.end(0, 2)
    assert stage.wait(lambda: len(stage.posted) == 3)
    assert stage.begun == [0, 2]


def test_a_group_runs_in_order_and_stops_at_the_first_that_raises(stages: Stages) -> None:
    stage = stages(1)
    stage.end(0, 1)
    stage.start(group("sync", 0, 1, value=b"raise"))

    assert stage.wait(lambda: bool(stage.posted))
    [result] = stage.posted[0].results
    assert isinstance(result, ValueError)
    assert stage.begun == [0]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_waited_until_its_lease_was_not_trusted_is_not_begun(stages: Stages, kind: str) -> None:
    stage = stages(1)
    now_s = [0.0]
    stage.executor.open(stage._post, lambda: now_s[0])
    late = group(kind, 1, begin_before_ms=1000)
    stage.start(group(kind, 0), late)
    assert stage.wait(lambda: stage.begun == [0])
    now_s[0] = 1.0
    stage.end(0)

    assert stage.wait(lambda: late in stage.posted)
    assert late.results == []
    assert stage.begun == [0]


def test_a_thread_goes_on_with_what_waits_and_is_used_again(stages: Stages) -> None:
    stage = stages(2)
    stage.end(*range(40))
    for offset in range(40):
        stage.start(group("sync", offset))
        assert stage.wait(lambda: len(stage.posted) == offset + 1)  # noqa: B023  (waited for at once)

    assert len(stage.threads) <= 2


def test_when_it_is_closed_nothing_that_waits_begins(stages: Stages) -> None:
    stage = stages(1)
    stage.start(group("sync", 0), group("sync", 1))
    assert stage.wait(lambda: stage.begun == [0])

    stage.executor.close()
    stage.end(0, 1)

    assert stage.wait(lambda: len(stage.posted) == 1)
    assert stage.executor._places.next() is None
    assert stage.begun == [0]
