"""The course of a storm: members come and go while payments are sent; then calm, until everything is settled."""

import time
from pathlib import Path

from confluent_kafka import TopicPartition

from kafka_once.testing.campaign.history import Entry
from kafka_once.testing.campaign.ledger import EventReader, LedgerReader
from kafka_once.testing.campaign.payments import Payment, Sender, plan_payments
from kafka_once.testing.campaign.reports import read_reported
from kafka_once.testing.campaign.worker import WorkerSpec
from kafka_once.testing.campaign.workers import Program
from tests.storm.deck import Deck, Deed
from tests.storm.history import StormHistory
from tests.storm.members import Members
from tests.storm.observer import Observer, read_log
from tests.storm.plan import HANG_MS, LEASE_MS, SESSION_MS, StormPlan

__all__ = ["Storm"]

_JOIN_S = 90.0  # until the first members work
_SETTLE_S = 90.0  # after the storm; generous, for the machine may be busy
_LOOK_S = 0.02
_CALM = 3  # members at the end, at least


class Storm:
    """One storm. The topic exists, is empty and has `plan.partitions` partitions; the group is new."""

    def __init__(self, plan: StormPlan, folder: Path) -> None:
        self.plan = plan
        self.history = StormHistory(order=plan.order, session_ms=SESSION_MS, lease_ms=LEASE_MS)
        self._starts = LedgerReader(folder / "starts")
        self._ledger = LedgerReader(folder / "ledger")
        self._events = EventReader(folder / "events")
        self._running: dict[tuple[int, int], str] = {}  # what has begun and not ended, and whose it is
        self._deck = Deck(plan.seed, plan.members, SESSION_MS)
        self._sender = Sender(plan.bootstrap, plan.topic)
        self._payments = self._planned()
        self._folder = folder
        self.members = Members(plan.members, Program(plan.program, folder, self._spec_of))

    def run(self) -> StormHistory:
        """Do it all. Raises RuntimeError where it cannot go on; what is known until then stands in `history`."""
        began_s = time.monotonic()
        plan, history = self.plan, self.history
        places = [TopicPartition(plan.topic, partition) for partition in range(plan.partitions)]
        observer = Observer(plan.bootstrap, plan.store, plan.group, places)
        cluster_id = observer.cluster_id()
        try:
            with self.members, observer:
                self._gather()
                self._rage()
                self._settle(observer)
                self.members.stop_all()
        finally:
            self._read()
            books = history.campaign
            books.sent, books.kills, books.exits = self._sender.sent, self.members.kills, self.members.exits
            books.committed = dict(observer.held)
            books.reported = read_reported(plan.settings("reader"), cluster_id)
            books.seconds = time.monotonic() - began_s
            history.freezes = self.members.freezes
            history.observed, history.looks, history.stalls = observer.observed, observer.looks, observer.stalls
        history.log, history.ends = read_log(plan.bootstrap, plan.topic, plan.partitions)
        return history

    # ------------------------------------------------------------------------------------------------------ the course

    def _gather(self) -> None:
        """The first members, and the first payments."""
        self.members.start(_CALM)
        deadline_s = time.monotonic() + _JOIN_S
        while len(self.members.working()) < _CALM:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"not all members had partitions after {_JOIN_S:.0f} s; see their logs")
            self._look()

    def _rage(self) -> None:
        began_s = time.monotonic()
        end_s = began_s + self.plan.seconds
        deed = self._deck.draw()
        due_s = began_s + deed.pause_s
        sent = 0
        while (now_s := time.monotonic()) < end_s:
            due = int((now_s - began_s) * self.plan.rate)
            sent += self._send(due - sent)
            if now_s >= due_s:
                self._do(deed)
                deed = self._deck.draw()
                due_s = time.monotonic() + deed.pause_s
            self._look()
        self._send(int(self.plan.seconds * self.plan.rate) - sent)

    def _do(self, deed: Deed) -> None:
        self.members.do(deed, frozenset(self._running.values()) if deed.at_work else frozenset())

    def _settle(self, observer: Observer) -> None:
        self.members.wake_all()
        self.members.start(_CALM)
        began_s = time.monotonic()
        ends: dict[int, int] = {}
        for sent in self._sender.sent:
            ends[sent.partition] = max(ends.get(sent.partition, 0), sent.offset + 1)
        while time.monotonic() < began_s + _SETTLE_S:
            self._look()
            if observer.error is not None:
                raise RuntimeError(f"the observer stopped: {observer.error!r}") from observer.error
            if all(observer.held.get(partition, 0) >= end for partition, end in ends.items()):
                self.history.settle_s = time.monotonic() - began_s
                return

    def _planned(self) -> list[Payment]:
        plan = self.plan
        total = int(plan.seconds * plan.rate)
        repeats = int(total * plan.repeats)
        return plan_payments(total - repeats, repeats, plan.partitions, plan.seed)

    def _send(self, count: int) -> int:
        chunk, self._payments = self._payments[: max(0, count)], self._payments[max(0, count) :]
        if chunk:
            self._sender.send(chunk)
        return len(chunk)

    # -------------------------------------------------------------------------------------------------------- watching

    def _look(self) -> None:
        time.sleep(_LOOK_S)
        self.members.look()
        self._read()

    def _read(self) -> None:
        books = self.history.campaign
        starts, runs = self._starts.read_new(), self._ledger.read_new()
        for entry in starts:
            self._running[_place(entry)] = entry.life
        for entry in runs:
            self._running.pop(_place(entry), None)
        books.starts.extend(starts)
        books.ledger.extend(runs)
        events = self._events.read_new()
        self.members.began.update(event.life for event in events if event.kind == "assigned")
        books.events.extend(events)

    def _spec_of(self, name: str, life: str) -> WorkerSpec:
        plan = self.plan
        return WorkerSpec(
            life,
            str(self._folder),
            plan.topic,
            plan.handler_ms,
            plan.settings(name),
            slow_ms=plan.slow_ms,
            slow_every=plan.slow_every,
            hang_ms=HANG_MS,
        )


def _place(entry: Entry) -> tuple[int, int]:
    return entry.partition, entry.offset
