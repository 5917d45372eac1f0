"""What turns health red, from the engine's picture to the answer of a probe."""

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from kafka_once import App, ConfigurationError, Consumer, KafkaOnceError, Message, header
from kafka_once.core.standing import EngineStatus, PartitionStatus, status_of
from kafka_once.errors import StoreUnavailable
from kafka_once.health import Bounds, Health, Sighting, judge
from kafka_once.message import TopicPartition
from kafka_once.serving import Probes
from kafka_once.stores.memory import MemoryStore
from kafka_once.testing import MemoryApp
from tests.unit.bench import ROW, Worker

BOUNDS = Bounds(loop_s=30, partition_s=300)
PATIENCE_S = 20


def engine(**changes):
    well = {"unfinished": 0, "stopping": False, "has_session": True, "store_silent": False, "partitions": ()}
    return EngineStatus(**(well | changes))


def seen(**changes):
    well = {"started": True, "ended": False, "error": None, "still_s": 0.1, "engine": engine()}
    return Sighting(**(well | changes))


def partition(standing_ms):
    return PartitionStatus(TopicPartition("payments", 3), True, 5, False, 17, 10, standing_ms)


# ----------------------------------------------------------------------------------------------------------- judgement


def test_all_is_well():
    health = judge(seen(), BOUNDS)

    assert health.live
    assert health.ready
    assert health.as_dict() == {"live": True, "ready": True, "problems": []}


@pytest.mark.parametrize(
    ("changes", "check", "live"),
    [
        ({"started": False, "still_s": None, "engine": None}, "start", True),
        ({"still_s": None, "engine": None}, "start", True),
        ({"ended": True, "error": ValueError("secret")}, "loop", False),
        ({"ended": True}, "loop", False),
        ({"still_s": 31}, "loop", False),
        ({"engine": engine(stopping=True)}, "loop", True),
        ({"engine": engine(store_silent=True)}, "store", True),
        ({"engine": engine(has_session=False)}, "store", True),
        ({"engine": engine(partitions=(partition(300_001),))}, "partition", False),
    ],
)
def test_each_problem_turns_it_red(changes, check, live):
    health = judge(seen(**changes), BOUNDS)

    [problem] = health.problems
    assert problem.check == check
    assert health.live is live
    assert not health.ready
    assert "secret" not in json.dumps(health.as_dict())


def test_within_the_bounds_all_is_well():
    assert judge(seen(still_s=30, engine=engine(partitions=(partition(300_000),))), BOUNDS).ready


def test_a_stalled_partition_is_named():
    [problem] = judge(seen(engine=engine(partitions=(partition(301_000),))), BOUNDS).as_dict()["problems"]

    assert problem == {
        "check": "partition",
        "text": "payments[3]@17 is not settled and has stood still for 301 s",
        "topic": "payments",
        "partition": 3,
        "offset": 17,
    }


# ------------------------------------------------------------------------------- how long a partition has stood still


def standing_ms(worker):
    [status] = worker.engine.status().partitions
    return status.standing_ms


def test_a_running_handler_stands_until_it_ends():
    worker = Worker().own().deliver("a", "b")
    assert standing_ms(worker) == 0
    worker.pass_time(700)
    assert standing_ms(worker) == 700
    worker.run()
    assert standing_ms(worker) == 0
    worker.pass_time(50)
    assert standing_ms(worker) == 50
    worker.run()
    worker.pass_time(50)
    assert standing_ms(worker) == 0


def test_a_handler_that_raises_is_a_sign_of_life():
    worker = Worker(attempts=100).own().deliver("a")
    worker.engine.status()
    worker.pass_time(700)
    worker.run(ValueError())
    assert standing_ms(worker) == 0
    worker.pass_time(90)
    assert standing_ms(worker) == 90


def test_of_a_message_behind_the_first_it_is_none():
    worker = Worker(attempts=100, exclusive=False)
    worker.tick()
    worker.engine.offer(10)
    worker.own().deliver("a")
    worker.engine.offer(10)
    worker.deliver("b", start=1)
    worker.engine.status()
    worker.pass_time(700)
    second = next(group for group in worker.running if group.deliveries[0].offset == 1)
    worker.run(ValueError(), group=second)
    assert standing_ms(worker) == 700


def test_while_the_store_is_silent_nothing_stands():
    worker = Worker().own()
    worker.store_answers = False
    worker.deliver("a")
    worker.engine.on_silence(StoreUnavailable("gone"))
    worker.pass_time(700)
    status = worker.engine.status()
    assert status.store_silent
    assert status.partitions[0].standing_ms == 0


def test_a_partition_that_leaves_is_not_shown():
    worker = Worker().own(*ROW[:2])
    worker.tick()
    worker.engine.on_revoked(ROW[:1])
    assert [each.name for each in worker.engine.status().partitions] == [ROW[1]]


def test_nothing_delivered_nothing_stands():
    worker = Worker().own()
    status = status_of(worker.engine._partitions.get(ROW[0]), 5, excused=False)
    assert status.standing_ms == 0


# ------------------------------------------------------------------------------------------------------ an app's probes


def ask(app, path):
    host, port = app.health_address
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def app_with_probes(handler, **settings):
    app = App("k:9092", group="billing", store="redis://r", health_host="127.0.0.1")
    app.handler("payments", key=header("id"))(handler)
    memory = MemoryApp(app, health_port=0, **settings)
    return memory, memory._app


def nothing(message: Message) -> None:
    pass


def until(condition):
    pause = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if condition():
            return
        pause.wait(0.01)  # what the other threads did can only be looked at
    raise AssertionError(f"not within {PATIENCE_S} s")


def test_probes_of_an_app_that_works():
    memory, app = app_with_probes(nothing)
    assert app.health().problems[0].check == "start"
    assert app.health_address is None
    with memory:
        until(lambda: app.health().ready)
        assert ask(app, "/healthz")[0] == 200
        status, kind, body = ask(app, "/readyz?verbose")
        assert (status, kind) == (200, "application/json; charset=utf-8")
        assert json.loads(body) == {"live": True, "ready": True, "problems": []}
        assert ask(app, "/elsewhere")[0] == 404
        status, kind, body = ask(app, "/metrics")
        assert status == 200
        assert kind.startswith("text/plain; version=0.0.4")
        assert b'kafka_once_ready{group="billing"} 1.0' in body
    assert app.health_address is None
    assert not app.health().live


def test_a_stalled_partition_turns_both_probes_red():
    go_on = threading.Event()

    def hang(_: Message) -> None:
        assert go_on.wait(PATIENCE_S)

    memory, app = app_with_probes(hang, red_after="100ms", backoff_max="1ms", backoff="1ms")
    with memory:
        memory.send("payments", b"", headers={"id": "1"})
        until(lambda: not app.health().live)
        for path in ("/healthz", "/readyz"):
            status, _, body = ask(app, path)
            [problem] = json.loads(body)["problems"]
            assert (status, problem["check"], problem["partition"], problem["offset"]) == (503, "partition", 0, 0)
        go_on.set()
        memory.settle()
        until(lambda: app.health().ready)


def test_a_loop_that_died_is_told_until_somebody_joins():
    def refuse(_: Message) -> None:
        raise ValueError("never")

    memory, app = app_with_probes(refuse, attempts=1)
    app.start()
    memory.send("payments", b"", headers={"id": "1"})
    until(lambda: not app.health().live)
    status, _, body = ask(app, "/healthz")
    assert status == 503
    assert json.loads(body)["problems"] == [{"check": "loop", "text": "it has ended: ConsumerStopped"}]
    with pytest.raises(KafkaOnceError):
        app.join()
    assert app.health_address is None


def test_a_silent_store_turns_readiness_red_and_not_liveness(monkeypatch):
    silent = threading.Event()
    exchange = MemoryStore.exchange

    def sometimes(store, what):
        if silent.is_set():
            raise StoreUnavailable("no answer")
        return exchange(store, what)

    monkeypatch.setattr(MemoryStore, "exchange", sometimes)
    memory, app = app_with_probes(nothing)
    with memory:
        until(lambda: app.health().ready)
        silent.set()
        memory.send("payments", b"", headers={"id": "1"})
        until(lambda: not app.health().ready)
        assert ask(app, "/healthz")[0] == 200
        status, _, body = ask(app, "/readyz")
        assert (status, json.loads(body)["problems"][0]["check"]) == (503, "store")
        silent.clear()
        memory.settle()
        until(lambda: app.health().ready)


def test_a_port_that_is_taken_is_refused_before_anything_is_consumed():
    memory, app = app_with_probes(nothing)
    with memory:
        _, port = app.health_address
        other, _ = app_with_probes(nothing)
        other._app.settings.__dict__["health_port"] = port
        with pytest.raises(ConfigurationError, match="health_port"):
            other._app.start()


def test_a_client_that_says_nothing_holds_up_neither_the_work_nor_other_probes_nor_the_end():
    """G09."""
    memory, app = app_with_probes(nothing)
    with memory:
        until(lambda: app.health().ready)
        begin = time.monotonic()
        silent = socket.create_connection(app.health_address, PATIENCE_S)
        memory.send("payments", b"", headers={"id": "1"})
        memory.settle()
        assert ask(app, "/healthz")[0] == 200
    assert time.monotonic() - begin < 5  # such a client is waited for 10 s, by nobody but its own thread
    silent.close()


def test_metrics_that_cannot_be_told_are_an_error_of_that_request_only(capsys):
    """G09."""

    def broken():
        raise ValueError("no metrics")

    probes = Probes("127.0.0.1", 0, Health, broken)
    served = SimpleNamespace(health_address=probes.address)
    for _ in range(2):
        with pytest.raises(http.client.RemoteDisconnected):
            ask(served, "/metrics")
        assert ask(served, "/healthz")[0] == 200
    probes.close()
    assert "no metrics" in capsys.readouterr().err


def test_a_consumer_tells_its_health_too():
    conf = {"bootstrap.servers": "k:9092", "group.id": "billing"}
    consumer = Consumer(conf, store="redis://r", key=header("id"))
    assert [problem.check for problem in consumer.health().problems] == ["start"]
    assert consumer.health_address is None
