"""Performs what the engine decides, and tells it what happened. Decides nothing itself.

One turn: tell the engine the time and what arrived in the inbox; ask it what to do; do that; poll Kafka; hand over the
messages. All of it on one thread, which is not the main thread (a signal handler that raises there would lose what the
client had dequeued). Store calls, handlers and dead letters answer into the inbox from their own threads.

Rebalance callbacks come from inside `poll`. A revocation turns the same wheel without polling, inside the callback,
until what runs has ended or the drain time is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING

from kafka_once.boot_clock import boot_clock_s
from kafka_once.core.engine import Engine
from kafka_once.core.lane import Group
from kafka_once.core.rules import Effects
from kafka_once.dead_letters import dead_letter_of
from kafka_once.errors import BrokerUnavailable
from kafka_once.inbox import Inbox
from kafka_once.log_lines import log_counters
from kafka_once.look_up import LookUp
from kafka_once.message import TopicPartition
from kafka_once.observers import Observers
from kafka_once.picture import Picture
from kafka_once.ports import Passed

if TYPE_CHECKING:
    from kafka_once.core.delivery import Delivery
    from kafka_once.executors import Executor
    from kafka_once.intake import Intake
    from kafka_once.message import Message
    from kafka_once.ports import Broker, CommitMark, CommitResult
    from kafka_once.store_link import StoreLink

__all__ = ["Runner", "RunnerSettings"]

log = logging.getLogger("kafka_once")

_POLL_MESSAGES = 500  # taken from the client at once
_POLL_FEW = 50  # with a slow handler: what takes longer to take in would hold up its completion
_INBOX_ITEMS = 24  # looked at in one turn: what they bring about leaves before the next ones are looked at
_POLL_EVERY_S = 0.003  # while something is in flight
_IDLE_S = 0.1  # a poll with nothing in flight; a message ends it, a request to stop waits for it
_COMMIT_S = 0.001  # a poll while a handler waits for the answer to a commit
_BUSY_S = 0.005  # a wait for the inbox while something is in flight; new messages wait for it
_GROUP_S = 0.002  # the same while a group of several runs: its completions leave at most that late


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """What the runner is told once.

    Attributes:
        topics, group: what is consumed, and as whom.
        drain_s: how long running handlers may take to end at a stop or a revocation.
        answer_s: how long Kafka may take to answer while nothing else goes on.
        dead_letter_topic: None if there is none.
        report_every_s: how often the counters are logged and kept in the store; None for never.
    """

    topics: Sequence[str]
    group: str
    drain_s: float
    answer_s: float
    dead_letter_topic: str | None = None
    report_every_s: float | None = 60.0


class Runner:
    """Runs one consumer until it is stopped. `run` is called once, on its own thread."""

    def __init__(
        self,
        engine: Engine,
        broker: Broker,
        store: StoreLink | None,
        executor: Executor,
        intake: Intake,
        settings: RunnerSettings,
        *,
        observers: Observers | None = None,
        clock_s: Callable[[], float] = boot_clock_s,
    ) -> None:
        self._engine = engine
        self._broker = broker
        self._store = store
        self._executor = executor
        self._intake = intake
        self._settings = settings
        self._observers = observers or Observers()
        self._clock_s = clock_s
        # Its own: in a program that seeds Python's shared generator all processes would have the same waits and, worse,
        # the same tokens, by which the store knows a repeated request for a session.
        self._random_bits = Random().getrandbits
        self.picture = Picture(clock_s)
        self._inbox = Inbox()
        self._running: set[Group] = set()
        self._several: set[Group] = set()  # of these, groups of several messages: looked at while they run
        self._starts = LookUp(broker)
        self._report_due_s = 0.0
        self._poll_due_s = 0.0
        self._broken = False  # the loop has died: what it believes must not be committed
        self._drain_until_s: float | None = None  # one deadline for all that the end of the process waits for

    # ----------------------------------------------------------------------------------------------- from other threads

    def stop(self) -> None:
        """Drain and end. Safe from any thread, and a second time."""
        self._inbox.put(self._engine.stop)

    def wake(self) -> None:
        """Something outside has changed: look at it now."""
        self._inbox.put(_nothing)

    # ---------------------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Consume until stopped.

        Raises:
            KafkaOnceError: the reason why it stopped by itself; what was not settled is not committed.
        """
        self._executor.open(self._post_ran, self._clock_s)
        if self._store is not None:
            self._store.open(self._post)
        try:
            self._broker.start(self._settings.topics, self)
            self._loop()
        except BaseException as error:
            self._engine.stop(error)
            self._broken = True
            self._drain_until_s = self._clock_s()  # a member that reads nothing must not stay in the group
            raise
        finally:
            self._close()
        if self._engine.error is not None:
            raise self._engine.error

    def _loop(self) -> None:
        while True:
            self._turn()
            if not self._engine.stopping:
                continue
            if self._drain_until_s is None:
                self._executor.withdraw(None)
                self._drain_until_s = self._clock_s() + self._settings.drain_s
            if self._engine.drained() or self._clock_s() >= self._drain_until_s:
                return

    def _turn(self) -> None:
        self._tick()
        self.picture.look(self._engine, self._broker, len(self._running))
        self._take_inbox()
        self._tick()  # what was posted may have blocked
        self._perform(self._engine.decide(), inside_callback=False)
        busy = bool(self._running) or self._engine.unfinished > 0 or self._engine.locating
        messages = self._receive(busy=busy)
        if self._starts.due(self._clock_s()):
            self._look_up()
        if messages:
            self._deliver(messages)
        self._tell_news()
        if not messages and busy and not self._engine.awaits_commit():
            self._wait(_GROUP_S if self._several else _BUSY_S)

    def _receive(self, *, busy: bool) -> list[Message]:
        """Poll; but while something is in flight only now and then, for each call into the client costs a turn of the
        interpreter's lock, which handlers and the store's thread wait for."""
        now_s = self._clock_s()
        if self._engine.awaits_commit():  # the answer comes only from inside a poll
            return self._poll(_POLL_FEW, _COMMIT_S)
        if busy and now_s < self._poll_due_s:
            return []
        slow, hungry = self._engine.slow, self._engine.hungry()
        most = 1
        if hungry:  # of fast ones a quarter of a buffer at once: together with three that wait they fit into one
            most = _POLL_FEW if slow else min(_POLL_MESSAGES, self._engine.rules.buffer // 4 or 1)
        messages = self._poll(most, 0.0 if busy or not self._inbox.empty() else self._idle_s())
        self._poll_due_s = now_s if hungry and messages else now_s + _POLL_EVERY_S
        return messages

    def _tick(self) -> None:
        now_s = self._clock_s()
        self.picture.turned(now_s)
        self._engine.tick(int(now_s * 1000), self._random_bits(53))
        if not self._engine.rules.exclusive:
            self._engine.offer(self._executor.room())

    def _idle_s(self) -> float:
        due_ms = self._engine.next_due_ms()
        if due_ms is None:
            return _IDLE_S
        return min(_IDLE_S, max(0.0, due_ms / 1000 - self._clock_s()))

    def _take_inbox(self) -> None:
        if self._store is not None:
            self._store.receive()
        arrived = self._inbox.items
        for _ in range(min(_INBOX_ITEMS, len(arrived))):
            arrived.popleft()()
        for group in self._several:
            if len(group.results) > group.seen:
                self._engine.on_results(group)

    def _wait(self, timeout_s: float) -> None:
        self._inbox.wait(timeout_s, -1 if self._store is None else self._store.descriptor())

    def _poll(self, most: int, timeout_s: float) -> list[Message]:
        try:
            return self._broker.poll(most, timeout_s)
        except BrokerUnavailable as error:
            log.warning("Kafka gives no answer: %s", error)
            self._wait(_IDLE_S)
            return []

    def _deliver(self, messages: list[Message]) -> None:
        self._tick()
        for name, of_partition in _by_partition(messages):
            self._engine.on_delivered(name, of_partition, self._intake.read(name.topic, of_partition))

    # ------------------------------------------------------------------------------------------------------- performing

    def _perform(self, effects: Effects, *, inside_callback: bool) -> None:
        if effects.rejoin and not inside_callback:  # a client cannot be ended from inside its own callback
            self._broker.rejoin(effects.rejoin)
            self._engine.on_rejoined()
        for call in effects.calls:
            assert self._store is not None
            self._store.send(call)
        self._run_handlers(effects)
        for delivery in effects.publish:
            self._publish(delivery)
        if effects.commit:
            self._commit(effects.commit, inside_callback=inside_callback)
        self._starts.add(effects.look_up)
        for partition, offset, leader_epoch in effects.seek:
            self._broker.seek(partition, offset, leader_epoch)
        if effects.pause:
            self._broker.pause(effects.pause)
        if effects.resume:
            self._broker.resume(effects.resume)
        self._observers.tell(effects)
        self._report()

    def _run_handlers(self, effects: Effects) -> None:
        if effects.withdraw:
            self._executor.withdraw(None)
        if effects.groups:
            self._running.update(effects.groups)
            self._several.update(group for group in effects.groups if len(group.deliveries) > 1)
            self._executor.start(effects.groups)
        for group in effects.cancel:
            self._executor.cancel(group)

    def _commit(self, marks: list[CommitMark], *, inside_callback: bool) -> None:
        if inside_callback:
            self._engine.on_committed(self._broker.commit_now(marks, self._settings.answer_s))
        else:
            self._broker.commit(marks, self._on_committed)

    def _on_committed(self, results: list[CommitResult]) -> None:
        self._tick()
        self._engine.on_committed(results)

    def _publish(self, delivery: Delivery) -> None:
        topic = self._settings.dead_letter_topic
        assert topic is not None
        record = dead_letter_of(delivery, topic, self._settings.group)

        def on_done(error: Exception | None) -> None:
            self._inbox.put(lambda: self._engine.on_published(delivery, error))

        self._broker.publish(record, on_done)

    def _post_ran(self, group: Group) -> None:
        self._inbox.put(partial(self._on_ran, group))

    def _on_ran(self, group: Group) -> None:
        self._running.discard(group)
        self._several.discard(group)
        self.picture.ran(group)
        self._engine.on_ran(group)

    def _post(self, what: Callable[[Engine], None]) -> None:
        self._inbox.put(partial(what, self._engine))

    def _report(self) -> None:
        every_s = self._settings.report_every_s
        now_s = self._clock_s()
        if every_s is None or now_s < self._report_due_s:
            return
        if self._report_due_s:
            counters = self._engine.counters.as_dict()
            log_counters(counters)
            if self._store is not None and not self._engine.store_is_silent:
                self._store.report(counters)
        self._report_due_s = now_s + every_s

    # ------------------------------------------------------------------------------------------------------- rebalances

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._tick()
        self._engine.on_assigned(partitions)
        self._starts.add(partitions)

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._tick()
        self._engine.on_revoked(partitions)
        self._executor.withdraw(partitions)
        deadline_s = self._drain_until_s or self._clock_s() + self._settings.drain_s
        while not self._engine.drained(partitions) and self._clock_s() < deadline_s:
            self._turn_without_poll()
            if self._engine.awaits_commit(partitions):  # the answer to one on its way comes only from a poll
                self._commit_last()
                self._engine.on_uncommitted(partitions)
        self._commit_last()
        self._leave(partitions)

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._tick()
        self._engine.on_lost(partitions)
        self._executor.withdraw(partitions)
        self._starts.forget(partitions)

    def _turn_without_poll(self) -> None:
        self._tick()
        self.picture.look(self._engine, self._broker, len(self._running))
        self._take_inbox()
        self._perform(self._engine.decide(), inside_callback=True)
        self._wait(_GROUP_S)

    def _commit_last(self) -> None:
        if self._broken:
            return
        self._tick()
        marks = self._engine.commit_last()
        if marks:
            self._commit(marks, inside_callback=True)

    def _leave(self, partitions: Sequence[TopicPartition]) -> None:
        self._engine.on_gone(partitions)
        self._starts.forget(partitions)
        self._turn_without_poll()  # the ends of the ownerships leave now, before another member claims

    def _look_up(self) -> None:
        """Before it nothing of a partition is taken."""
        found = self._starts.find(self._clock_s())
        self._tick()
        for partition, log_bounds, committed in found:
            self._engine.on_looked_up(partition, log_bounds, committed)

    def _tell_news(self) -> None:
        for news in self._broker.news():
            tell = self._engine.on_passed if isinstance(news, Passed) else self._engine.on_deleted
            tell(*news)

    # ---------------------------------------------------------------------------------------------------------- closing

    def _close(self) -> None:
        """Leave everything in order as far as it goes; the first error is the one that is reported."""
        steps = (self._executor.close, self._commit_last, self._close_broker, self._say_goodbye, self._inbox.close)
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001  (one part that fails must not keep the others open)
                log.warning("while closing: %s: %s", type(error).__name__, error)
                self._engine.stop(error)

    def _say_goodbye(self) -> None:
        self._observers.tell(self._engine.untold())
        if self._store is not None:
            self._store.close(self._engine.counters.as_dict())

    def _close_broker(self) -> None:
        self._broker.close(self._settings.drain_s)


def _nothing() -> None:
    """Wakes the loop."""


_place = attrgetter("topic", "partition")


def _by_partition(messages: list[Message]) -> Iterator[tuple[TopicPartition, list[Message]]]:
    """What stands together in one partition, in the order in which it came."""
    for (topic, partition), together in groupby(messages, _place):
        yield TopicPartition(topic, partition), list(together)
