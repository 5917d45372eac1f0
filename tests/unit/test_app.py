"""What an app and a consumer refuse before anything is consumed, and after a fork."""

import os
import random
import signal
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from kafka_once import App, ConfigurationError, Consumer, coordinates
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.executors import Handlers
from kafka_once.member import Adapters
from kafka_once.ports import GroupTimes
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.testing import MemoryApp
from kafka_once.testing.store_workers import until


def memory(*payloads: bytes) -> Adapters:
    cluster, state = MemoryCluster(), MemoryState()
    cluster.create_topic("t", 1)
    for payload in payloads:
        cluster.produce("t", None, payload)
    return Adapters(
        broker=lambda settings: MemoryBroker(cluster, settings.group, settings.instance_id),
        store=lambda settings, namespace: MemoryStore(namespace, settings.lease_ms, state=state),
    )


def app_of(*topics: str, deadline: object = None, **settings: Any) -> App:
    app = App("localhost", **{"group": "g", "store": "memory://", "adapters": memory(), **settings})

    @app.handler(*topics or ("t",), key=coordinates(), deadline=deadline)
    def handle(payload: bytes) -> None:
        """Nothing."""

    return app


def test_to_stop_for_a_hung_handler_takes_a_deadline() -> None:
    with pytest.raises(ConfigurationError, match="handler_deadline"):
        app_of(on_hung="stop").start()
    for app in (app_of(on_hung="stop", deadline="5s"), app_of(on_hung="stop", handler_deadline="5s")):
        app.start()
        app.stop()
        app.join()


def test_the_generator_that_all_of_a_program_shares_is_left_alone() -> None:
    """Who seeds it may count on what is drawn; processes must not have the same tokens, or wait in step."""
    ran, adapters = threading.Event(), memory(b"")
    app = App("localhost", group="g", store="memory://", adapters=adapters)

    @app.handler("t", key=coordinates())
    def handle(_: bytes) -> None:
        ran.set()

    before = random.getstate()
    app.start()
    assert ran.wait(20)
    app.stop()
    assert app.join(20)
    assert random.getstate() == before


class Deciding(MemoryBroker):
    """Tells how long it waits for a member, as a broker does with group.protocol=consumer."""

    def group_times(self) -> GroupTimes:
        return GroupTimes(session_timeout_ms=2_000, heartbeat_ms=500)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that goes on in its sleep")
def test_while_the_machine_sleeps_the_time_of_the_lease_and_of_the_group_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G03: the monotonic clock stands still meanwhile, and would show no gap."""
    read, slept_s = time.clock_gettime, [0.0]

    def clock_gettime(clock: int) -> float:
        return read(clock) + (slept_s[0] if clock == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    app = app_of()
    with MemoryApp(app) as awake:
        awake.send("t", b"before")
        awake.settle()
        slept_s[0] = 3600.0
        until(lambda: awake.stats()["self_fenced"] == 1, "it gives up its partitions")
        awake.send("t", b"after")
        awake.settle()

    assert awake.stats()["processings"] == 2  # each once


def test_a_lease_that_is_longer_than_the_broker_waits_for_a_member_is_refused() -> None:
    cluster = MemoryCluster()
    cluster.create_topic("t", 1)
    adapters = replace(memory(), broker=lambda settings: Deciding(cluster, settings.group))
    app = app_of(adapters=adapters, lease="5s")
    app.start()
    with pytest.raises(
        ConfigurationError, match=r"lease.*2000 ms.*or raise the group's consumer\.session\.timeout\.ms"
    ):
        app.join()
    app = app_of(adapters=adapters, lease="1s")
    app.start()
    app.stop()
    app.join()


def test_a_loop_of_ones_own_has_no_deadline() -> None:
    conf = {"bootstrap.servers": "localhost", "group.id": "g"}
    for settings in ({"handler_deadline": "5s"}, {"on_hung": "stop"}):
        with pytest.raises(ConfigurationError, match="leave it out"):
            Consumer(conf, store="memory://", key=coordinates(), adapters=memory(), **settings)


def test_a_decorator_that_was_not_called_is_told_how_to_call_it() -> None:
    app = App("localhost", group="g", store="memory://", adapters=memory())

    def charge(payload: bytes) -> None:
        """Nothing."""

    with pytest.raises(ConfigurationError, match=r"topics='charge': .* write @app.handler\(\"payments\", key=…\)"):
        app.handler(charge)  # type: ignore[arg-type]


def test_a_topic_in_the_place_of_a_list_is_told_so() -> None:
    conf = {"bootstrap.servers": "localhost", "group.id": "g"}
    with pytest.raises(ConfigurationError, match=r"topics='payments': write a list: \[\"payments\"\]"):
        Consumer(conf, store="memory://", key=coordinates(), adapters=memory()).subscribe("payments")


@pytest.mark.parametrize("topic", ["^orders[.].*", "^orders.*", "orders.dead"])
def test_what_takes_in_our_own_dead_letters_is_refused(topic: str) -> None:
    with pytest.raises(ConfigurationError, match="go round for ever"):
        app_of(topic, dead_letter_topic="orders.dead")


def test_a_pattern_that_nobody_here_can_read_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="write its classes out"):
        app_of("^orders[[:digit:]]+", dead_letter_topic="dead")


def test_a_forked_child_is_refused_by_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    app, here = app_of(), os.getpid()
    conf = {"bootstrap.servers": "localhost", "group.id": "g"}
    consumer = Consumer(conf, store="memory://", key=coordinates(), adapters=memory())
    app.start()
    consumer.subscribe(["t"])
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: here + 1)
        calls = (app.start, app.join, lambda: consumer.poll(0), consumer.close, lambda: consumer.commit(None))
        for call in calls:
            with pytest.raises(ConfigurationError, match="was forked from it"):
                call()
    app.stop()
    assert app.join(20)
    consumer.close()


def test_a_signal_ends_a_forked_child_that_inherited_our_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    app, here, sent = app_of(), os.getpid(), []
    app.start()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: here + 1)
        child.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
        child.setattr(signal, "signal", lambda number, handler: sent.append((number, handler)))
        app._on_signal(signal.SIGTERM)
    assert sent == [(signal.SIGTERM, signal.SIG_DFL), (here + 1, signal.SIGTERM)]
    assert not app.join(0)

    app._on_signal(signal.SIGTERM)
    assert app.join(20)


def test_a_signal_that_comes_while_the_member_is_made_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of()

    def told(*given: Any) -> Handlers:
        signal.raise_signal(signal.SIGTERM)
        return Handlers(*given)

    monkeypatch.setattr("kafka_once.app.Handlers", told)
    second = threading.Timer(20, os.kill, (os.getpid(), signal.SIGTERM))
    second.start()
    app.run()
    assert second.is_alive(), "it took a second signal"
    second.cancel()
