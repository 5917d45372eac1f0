"""A process that dies at a named step, without dying: from then on nothing that it does reaches the world.

Store, broker and handler are wrapped. Each call is two steps: before it is made, and after it was made while its
answer is not seen. At the chosen step the process is dead: every later call fails, so that what is left in the store
and in Kafka is what a `kill -9` leaves there.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kafka_once.errors import BrokerRefused, StoreUnavailable

if TYPE_CHECKING:
    from kafka_once.brokers.memory import MemoryBroker
    from kafka_once.core.calls import (
        CommitMark,
        CommitResult,
        Exchange,
        ExchangeReply,
        Ownership,
        OwnershipAsk,
        Session,
    )
    from kafka_once.message import Message, TopicPartition
    from kafka_once.ports import Committed, Deleted, LogBounds, Outgoing, Passed, Rebalances
    from kafka_once.stores.memory import MemoryStore

__all__ = ["Died", "MortalBroker", "MortalStore", "Steps", "mortal_handler"]

Answer = TypeVar("Answer")


class Died(BaseException):
    """Raised in a handler at the step at which its process is dead: not to be caught by it."""


class Steps:
    """Counts the steps of one process and ends it at the `dies_at`-th, counted from 0; None lets it live.

    Attributes:
        name: of the step at which it died.
        dead: whether it has.
    """

    def __init__(self, dies_at: int | None = None) -> None:
        self._dies_at = dies_at
        self._count = 0
        self._lock = threading.Lock()
        self.name = ""
        self.dead = False

    def reach(self, name: str) -> bool:
        """Whether the process is dead now."""
        with self._lock:
            if not self.dead and self._count == self._dies_at:
                self.dead, self.name = True, name
            self._count += 1
            return self.dead

    def around(self, name: str, call: Callable[[], Answer], death: Callable[[], BaseException]) -> Answer:
        """Make the call, if the process lives, and tell its answer, if it still does."""
        if self.dead or self.reach(f"before {name}"):
            raise death()
        answer = call()
        if self.reach(f"after {name}"):
            raise death()
        return answer


def _said(exchange: Exchange) -> str:
    parts = {"claim": exchange.claims, "completion": exchange.completes, "release": exchange.releases}
    said = [name for name, asks in parts.items() if asks]
    return " and ".join(said)


class MortalStore:
    """A `Store` around another. Renewals are no steps: when they happen is a matter of time."""

    def __init__(self, inner: MemoryStore, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    def check(self) -> list[str]:
        """Nothing to warn of in a test."""
        return []

    def open_session(self, token: int, instance: str | None = None, previous: int | None = None) -> Session:
        """As the store inside."""
        return self._around("the session", lambda: self._inner.open_session(token, instance, previous))

    def take_ownerships(self, session: Session, call: int, asks: Sequence[OwnershipAsk]) -> list[Ownership] | None:
        """As the store inside."""
        return self._around("the ownership", lambda: self._inner.take_ownerships(session, call, asks))

    def exchange(self, exchange: Exchange) -> ExchangeReply:
        """As the store inside."""
        said = _said(exchange)
        if said or self._steps.dead:
            return self._around(f"the {said}", lambda: self._inner.exchange(exchange))
        return self._inner.exchange(exchange)

    def _around(self, name: str, call: Callable[[], Answer]) -> Answer:
        return self._steps.around(name, call, lambda: StoreUnavailable("the process is dead"))

    def close_session(self, session: Session) -> None:
        """The dead say no goodbye."""
        if not self._steps.dead:
            self._inner.close_session(session)

    def report(self, session: Session, counters: Mapping[str, int]) -> None:
        """Nobody reads them here."""

    def doubts(self, limit: int = 1000) -> list[Any]:
        """As the store inside."""
        return list(self._inner.doubts(limit))

    def survey(self) -> Any:
        """As the store inside."""
        return self._inner.survey()

    def is_new(self) -> bool:
        """As the store inside."""
        return self._inner.is_new()

    def close(self) -> None:
        """Nothing to close."""


class MortalBroker:
    """A `Broker` around another; `on_commit` is called after each commit that was taken."""

    def __init__(self, inner: MemoryBroker, steps: Steps, on_commit: Callable[[], None]) -> None:
        self._inner = inner
        self._steps = steps
        self._on_commit = on_commit

    def start(self, topics: Sequence[str], rebalances: Rebalances) -> None:
        """As the broker inside."""
        self._inner.start(topics, rebalances)

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """As the broker inside, while the process lives."""
        self._live()
        return self._inner.poll(max_messages, timeout_s)

    def _live(self) -> None:
        if self._steps.dead:
            raise self._death()

    def _death(self) -> BaseException:
        return BrokerRefused("the process is dead")

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """As the broker inside."""
        self._inner.pause(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """As the broker inside."""
        self._inner.resume(partitions)

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        """As the broker inside."""
        self._inner.seek(partition, offset, leader_epoch)

    def news(self) -> list[Passed | Deleted]:
        """As the broker inside."""
        return self._inner.news()

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """As the broker inside, while the process lives."""
        self._live()
        return self._inner.committed(partitions)

    def log_bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """As the broker inside, while the process lives."""
        self._live()
        return self._inner.log_bounds(partitions)

    def commit(self, marks: Sequence[CommitMark], on_result: Callable[[list[CommitResult]], None]) -> None:
        """As the broker inside."""
        self._steps.around("the commit", lambda: self._inner.commit(marks, on_result), self._death)
        self._on_commit()

    def commit_now(self, marks: Sequence[CommitMark], timeout_s: float) -> list[CommitResult]:
        """As the broker inside."""
        results = self._steps.around("the commit", lambda: self._inner.commit_now(marks, timeout_s), self._death)
        self._on_commit()
        return results

    def rejoin(self, why: str) -> None:
        """As the broker inside."""
        self._inner.rejoin(why)

    def publish(self, record: Outgoing, on_done: Callable[[Exception | None], None]) -> None:
        """As the broker inside."""
        self._steps.around("the dead letter", lambda: self._inner.publish(record, on_done), self._death)

    def cluster_id(self) -> str:
        """As the broker inside."""
        return self._inner.cluster_id()

    def close(self, timeout_s: float) -> None:
        """The dead do not leave: the group has to miss them."""
        if not self._steps.dead:
            self._inner.close(timeout_s)


def mortal_handler(handler: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    """The handler, with a step before it and one after it, in which its effect has happened and nobody knows."""
    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def run_async(*arguments: Any) -> None:
            _end_at("before the handler", steps)
            await handler(*arguments)
            _end_at("after the handler", steps)

        return run_async

    @functools.wraps(handler)
    def run(*arguments: Any) -> None:
        _end_at("before the handler", steps)
        handler(*arguments)
        _end_at("after the handler", steps)

    return run


def _end_at(name: str, steps: Steps) -> None:
    if steps.dead or steps.reach(name):
        raise Died
