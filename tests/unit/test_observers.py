"""Observers are told what happens, and never disturb it."""

import asyncio
import contextlib
import logging
import threading

import pytest

from kafka_once import App, ConfigurationError, Kind, Observer, Outcome, header
from kafka_once.core.events import Counters
from kafka_once.message import Message
from kafka_once.observers import Observers
from kafka_once.testing import MemoryApp


def nothing(message: Message) -> None:
    pass


def billing(*observers, handler=nothing, **settings):
    app = App("k:9092", group="billing", store="redis://r", observers=observers, **settings)
    app.handler("payments", key=header("id"))(handler)
    return app


def charge(message: Message) -> None:
    if message.value == b"bad" and message.attempt == 1:
        raise ValueError("once")


class Everything(Observer):
    def __init__(self):
        self.notes, self.outcomes, self.runs = [], [], []
        self.threads = set()

    def on_note(self, note):
        self.notes.append((note.kind, note.offset))

    def on_outcome(self, message, outcome):
        self.outcomes.append((message.offset, outcome))
        self.threads.add(threading.current_thread().name)

    @contextlib.contextmanager
    def on_run(self, message):
        try:
            yield
        except ValueError as error:
            self.runs.append((message.offset, message.attempt, str(error)))
            raise
        self.runs.append((message.offset, message.attempt, "returned"))


def test_an_observer_is_told_notes_outcomes_and_runs():
    seen = Everything()
    with MemoryApp(billing(seen, handler=charge)) as memory:
        memory.send("payments", b"good", headers={"id": "1"})
        memory.send("payments", b"bad", headers={"id": "2"})
        memory.send("payments", b"again", headers={"id": "1"})
        memory.settle()

    assert sorted(seen.outcomes) == [(0, Outcome.COMPLETED), (1, Outcome.COMPLETED), (2, Outcome.REPEAT)]
    assert seen.runs == [(0, 1, "returned"), (1, 1, "once"), (1, 2, "returned")]
    assert (Kind.RAISED, 1) in seen.notes
    assert seen.notes[0][0] is Kind.ASSIGNED
    assert (Kind.REVOKED, None) in seen.notes
    assert seen.threads == {"kafka-once-consumer"}


def test_every_delivery_is_told_in_one_outcome_also_at_a_stop():
    seen = Everything()
    began, go_on = threading.Event(), threading.Event()

    def wait(_: Message) -> None:
        began.set()
        go_on.wait(20)

    memory = MemoryApp(billing(seen, handler=wait))
    with memory:
        for number in range(5):
            memory.send("payments", b"", headers={"id": str(number)})
        assert began.wait(20)
        memory._app.stop()
        go_on.set()
    stats = memory.stats()

    assert len(seen.outcomes) == stats["deliveries"] > 0
    assert sum(outcome is Outcome.HANDED_BACK for _, outcome in seen.outcomes) == stats["handed_back"]


def test_an_async_handler_is_surrounded_in_its_own_task():
    tasks = []

    class Surrounding:
        @contextlib.contextmanager
        def on_run(self, message):
            tasks.append(asyncio.current_task())
            yield
            tasks.append(asyncio.current_task())

    async def handle(_: Message) -> None:
        tasks.append(asyncio.current_task())

    with MemoryApp(billing(Surrounding(), handler=handle)) as memory:
        memory.send("payments", b"", headers={"id": "1"})
        memory.settle()

    assert len(tasks) == 3
    assert len(set(tasks)) == 1


class Broken(Observer):
    def on_note(self, note):
        raise RuntimeError("note")

    def on_outcome(self, message, outcome):
        raise RuntimeError("outcome")

    def on_run(self, message):
        raise RuntimeError("run")


class Leaving:
    @contextlib.contextmanager
    def on_run(self, message):
        yield
        raise RuntimeError("left")


class Suppressing:
    @contextlib.contextmanager
    def on_run(self, message):
        with contextlib.suppress(ValueError):
            yield


@pytest.mark.parametrize("broken", [Broken(), Leaving()])
def test_an_observer_that_raises_is_logged_and_counted_and_the_work_goes_on(broken, caplog):
    with caplog.at_level(logging.INFO, "kafka_once"), MemoryApp(billing(broken, handler=charge)) as memory:
        for number in range(50):
            memory.send("payments", b"good", headers={"id": str(number)})
        memory.settle()

    assert memory.outcomes == {"completed": 50}
    assert memory.stats()["observer_failures"] >= 50
    complaints = [record for record in caplog.records if "an observer raised in" in record.getMessage()]
    names = {record.getMessage() for record in complaints}
    assert len(complaints) == len(names) > 0  # once a minute for each method
    assert all(record.exc_info and record.levelname == "ERROR" for record in complaints)


def test_an_observer_cannot_suppress_what_a_handler_raised():
    with MemoryApp(billing(Suppressing(), handler=charge)) as memory:
        memory.send("payments", b"bad", headers={"id": "1"})
        memory.settle()

    assert memory.stats()["failures"] == 1
    assert memory.outcomes == {"completed": 1}


@pytest.mark.parametrize("nobody", [object(), Observer, Everything, Observer()])
def test_what_observes_nothing_is_refused(nobody):
    with pytest.raises(ConfigurationError, match="on_note, on_outcome, on_run"):
        App("k:9092", group="g", semantics="at_least_once", observers=[nobody])


def test_what_is_not_overridden_costs_nothing():
    class OnlyNotes(Observer):
        def on_note(self, note):
            pass

    observers = Observers([OnlyNotes()])
    logging.getLogger("kafka_once").setLevel(logging.INFO)
    try:
        observers.open(Counters())
    finally:
        logging.getLogger("kafka_once").setLevel(logging.NOTSET)

    assert not observers.want_outcomes
    assert observers.around is None
