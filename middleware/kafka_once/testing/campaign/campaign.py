"""The course of a campaign: send, kill, restart, send the rest, wait until all is settled, stop.

A kill hits a process *at work*: a chunk of payments is sent, the campaign waits until its victim writes to the ledger,
and kills it a moment (drawn by the seed) later. Whether it was at work is judged afterwards by the checker; a kill that
does not count is made up for by another one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from kafka_once import Semantics
from kafka_once.testing.campaign.checker import was_at_work
from kafka_once.testing.campaign.history import Event, History, Reported
from kafka_once.testing.campaign.ledger import EventReader, LedgerReader
from kafka_once.testing.campaign.payments import Sender, plan_payments
from kafka_once.testing.campaign.reports import read_reported
from kafka_once.testing.campaign.worker import WorkerSpec
from kafka_once.testing.campaign.workers import Program, Workers

__all__ = ["Campaign", "Plan", "Progress"]

WORKER = ("kafka_once.testing.campaign.worker",)

_JOIN_S = 60.0  # until every worker has partitions, at the start
_SETTLE_S = 30.0  # after the last kill
_KILLING_S, _KILLING_EACH_S = 60.0, 15.0  # all kills together take at most a minute, and this much for each
_HEAD_START_S = 2.0  # for the victim that the seed wants
_KILL_PATIENCE_S = 30.0  # until one victim is at work
_LATER_MS = 30.0  # a victim is killed at most that long after it was seen to write
_LOOK_S = 0.002  # shorter, and the campaign takes the processor from its workers
_SURVEY_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign does.

    Attributes:
        store: URL of the Redis; None for semantics without one.
        kafka: librdkafka's settings of the workers.
        static: each worker has an instance id.
        program: the module that runs as a worker, and its arguments before the `WorkerSpec`.
    """

    bootstrap: str
    topic: str
    group: str
    store: str | None
    semantics: Semantics = Semantics.EFFECTIVELY_ONCE
    distinct: int = 10_000
    repeats: int = 2_000
    partitions: int = 12
    processes: int = 3
    kills: int = 20
    handler_ms: float = 1.0
    seed: int = 1
    static: bool = True
    kafka: dict[str, Any] = field(default_factory=dict)
    program: tuple[str, ...] = WORKER

    def settings(self, name: str) -> dict[str, Any]:
        """Of the App of the worker with this name."""
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "group": self.group,
            "semantics": self.semantics.value,
            "kafka": self.kafka,
        }
        if self.store is not None:
            settings["store"] = self.store
        if self.static:
            settings["instance_id"] = name
        return settings


@dataclass(slots=True)
class Progress:
    """Where a campaign stands, for people who watch."""

    deliveries: int = 0
    processings: int = 0
    skipped: int = 0
    kills: int = 0
    in_doubt: int = 0
    lag: int = 0


class Campaign:
    """One campaign. The topic exists, is empty and has `plan.partitions` partitions; the group is new.

    Args:
        plan: what to do.
        folder: an empty folder for ledger and logs.
        on_progress: called about twice a second.
    """

    def __init__(self, plan: Plan, folder: Path, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        self.plan = plan
        self.history = History()
        self._on_progress = on_progress
        self._progress = Progress()
        self._rng = random.Random(plan.seed)
        self._payments = plan_payments(plan.distinct, plan.repeats, plan.partitions, plan.seed)
        # A quarter is kept for kills that do not count and for the end.
        self._chunk = max(1, len(self._payments) * 3 // 4 // max(1, plan.kills))
        self._sender = Sender(plan.bootstrap, plan.topic)
        self._offsets = _Offsets(plan)
        self._starts = LedgerReader(folder / "starts")
        self._ledger = LedgerReader(folder / "ledger")
        self._events = EventReader(folder / "events")
        self._last_run_ns: dict[str, int] = {}
        self._assigned: set[str] = set()  # lives that had partitions
        self._surveyed_ns = 0
        self._workers = Workers(plan.processes, Program(plan.program, folder, self._spec_of(folder)))

    def run(self) -> History:
        """Do it all. Raises RuntimeError where it cannot go on; what is known until then stands in `history`."""
        began_s = time.monotonic()
        history = self.history
        try:
            with self._workers:
                self._await_assignment()
                self._kill_all()
                self._settle()
                self._workers.stop()
        finally:
            self._read()
            history.starts.extend(self._starts.read_new())
            history.sent, history.kills, history.exits = self._sender.sent, self._workers.kills, self._workers.exits
            history.reported = self._reported()
            history.seconds = time.monotonic() - began_s
            self._survey()
            self._offsets.close()
        return history

    # ------------------------------------------------------------------------------------------------------ the course

    def _await_assignment(self) -> None:
        if not self._wait(lambda: self._assigned >= set(self._workers.lives()), _JOIN_S):
            raise RuntimeError(f"not all workers had partitions after {_JOIN_S:.0f} s; see their logs")

    def _kill_all(self) -> None:
        counted = 0
        deadline_s = time.monotonic() + _KILLING_S + self.plan.kills * _KILLING_EACH_S
        while counted < self.plan.kills and self._payments and time.monotonic() < deadline_s:
            counted += self._kill_one()

    def _kill_one(self) -> bool:
        """Kill one worker; whether it counts."""
        preference = self._rng.sample(range(self.plan.processes), self.plan.processes)
        later_s = self._rng.uniform(0, _LATER_MS) / 1000
        victim = self._choose_victim(preference)
        if victim is None or not self._await_work(victim):
            return False
        time.sleep(later_s)
        kill = self._workers.kill(victim)
        self._look()
        return kill is not None and was_at_work(kill, self._last_run_ns.get(kill.life))

    def _choose_victim(self, preference: list[int]) -> int | None:
        """The worker that the seed wants, if it has partitions soon (its last life may have been killed just now, and
        Kafka may keep its place for it); else another one."""

        def ready() -> list[int]:
            lives = self._workers.lives()
            return [number for number in preference if lives[number] in self._assigned]

        self._wait(lambda: preference[0] in ready(), _HEAD_START_S)
        self._wait(lambda: bool(ready()), _JOIN_S)
        return next(iter(ready()), None)

    def _await_work(self, victim: int) -> bool:
        """Send a chunk and wait until the victim writes to the ledger; if all is done without it, send another one."""
        life = self._workers.lives()[victim]
        deadline_s = time.monotonic() + _KILL_PATIENCE_S
        sent_ns = self._send_chunk()
        while time.monotonic() < deadline_s:
            self._look()
            if life != self._workers.lives()[victim]:  # ended by itself
                return False
            if self._last_run_ns.get(life, 0) > sent_ns:
                return True
            if self._progress.lag == 0 and self._surveyed_ns > sent_ns:
                if not self._payments:
                    return False
                sent_ns = self._send_chunk()
            time.sleep(_LOOK_S)
        return False

    def _send_chunk(self) -> int:
        """Send the next chunk, if there is any left; returns when it was there."""
        chunk, self._payments = self._payments[: self._chunk], self._payments[self._chunk :]
        self._sender.send(chunk)
        return time.monotonic_ns()

    def _settle(self) -> None:
        last_s = self._workers.kills[-1].time_ns / 1e9 if self._workers.kills else time.monotonic()
        self._sender.send(self._payments)
        deadline_s = last_s + _SETTLE_S
        if not self._workers.kills:
            deadline_s += _SETTLE_S

        self._survey()
        self._wait(lambda: self._progress.lag == 0, deadline_s - time.monotonic())
        self.history.committed = self._offsets.committed()

    # -------------------------------------------------------------------------------------------------------- watching

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.01)
            self._look()
        return True

    def _look(self) -> None:
        """Restart what ended by itself; read what is new."""
        self._workers.supervise()
        self._read()
        if time.monotonic_ns() >= self._surveyed_ns + _SURVEY_EVERY_S * 1e9:
            self._survey()

    def _read(self) -> None:
        runs = self._ledger.read_new()
        for run in runs:
            self._last_run_ns[run.life] = run.time_ns
        self.history.ledger.extend(runs)
        events = self._events.read_new()
        self._assigned.update(event.life for event in events if event.kind == "assigned")
        self.history.events.extend(events)

    def _survey(self) -> None:
        """The figures for people, and the lag, which also says when all is settled."""
        progress, history = self._progress, self.history
        self._surveyed_ns = time.monotonic_ns()
        progress.deliveries = sum(event.number for event in history.events if event.kind == "polled")
        progress.skipped = _total_skipped(history.events)
        progress.processings = len(history.ledger)
        progress.kills = len(self._workers.kills)
        committed = self._offsets.committed()
        progress.lag = sum(sent.offset >= committed.get(sent.partition, 0) for sent in self._sender.sent)
        progress.in_doubt = sum(entry.in_doubt for entry in history.ledger)
        self._on_progress(progress)

    def _spec_of(self, folder: Path) -> Callable[[str, str], WorkerSpec]:
        plan = self.plan

        def spec_of(name: str, life: str) -> WorkerSpec:
            return WorkerSpec(life, str(folder), plan.topic, plan.handler_ms, plan.settings(name))

        return spec_of

    def _reported(self) -> list[Reported]:
        plan = self.plan
        return [] if plan.store is None else read_reported(plan.settings("reader"), self._offsets.cluster_id())


def _total_skipped(events: Iterable[Event]) -> int:
    """Each life tells its total; what it skipped after it told it last and before it was killed is not in it."""
    last = {event.life: event.number for event in events if event.kind == "skipped"}
    return sum(last.values())


class _Offsets:
    """Reads the group's committed offsets from outside; never a member."""

    def __init__(self, plan: Plan) -> None:
        self._consumer = Consumer({"bootstrap.servers": plan.bootstrap, "group.id": plan.group, "log_level": 2})
        self._partitions = [TopicPartition(plan.topic, partition) for partition in range(plan.partitions)]

    def committed(self) -> dict[int, int]:
        """Per partition; nothing for one without. RuntimeError if Kafka does not tell."""
        for _ in range(50):
            try:
                committed = self._consumer.committed(self._partitions, timeout=10)
            except KafkaException:  # a new group has no coordinator yet
                time.sleep(0.1)
            else:
                return {partition.partition: partition.offset for partition in committed if partition.offset >= 0}
        raise RuntimeError("Kafka does not tell what the group has committed")

    def cluster_id(self) -> str:
        return self._consumer.list_topics(timeout=10).cluster_id or ""

    def close(self) -> None:
        self._consumer.close()
