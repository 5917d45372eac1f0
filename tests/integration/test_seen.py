"""Health, metrics and traces of an app that works on a real Kafka and a real Redis."""

import json
import threading
import urllib.error
import urllib.request

import pytest
from confluent_kafka import Producer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from kafka_once import App, Consumer, Message, Observer, header
from kafka_once.testing.fixtures import or_skip
from kafka_once.testing.served_app import ServedApp
from kafka_once.testing.services import start_redis
from kafka_once.tracing import Tracing

pytestmark = pytest.mark.integration

PATIENCE_S = 40
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def frozen_redis():
    """A Redis of its own, which a test may freeze."""
    with or_skip(start_redis) as server:
        yield server


def until(condition):
    pause = threading.Event()
    for _ in range(PATIENCE_S * 20):
        if condition():
            return
        pause.wait(0.05)  # what others see of the app can only be looked at
    raise AssertionError(f"not within {PATIENCE_S} s")


class Probed:
    def __init__(self, served):
        self.host, self.port = served._app.health_address

    def ask(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.port}{path}", timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def sum_of(self, name):
        families = text_string_to_metric_families(self.ask("/metrics")[1])
        found = [sample.value for family in families for sample in family.samples if sample.name == name]
        return sum(found) if found else None


def shipping(handler, *observers):
    app = App("unreachable:9092", group="shipping", store="redis://unreachable", observers=observers)
    app.handler("orders", key=header("id"))(handler)
    return app


PROBES = {"health_port": 0, "health_host": "127.0.0.1"}


def test_lag_and_outcomes_are_those_of_kafka(once_app):
    began, go_on = threading.Event(), threading.Event()

    def wait(_: Message) -> None:
        began.set()
        assert go_on.wait(PATIENCE_S)

    served = once_app(shipping(wait), partitions=1, **PROBES)
    probed = Probed(served)
    for number in range(30):
        served.send("orders", b"", headers={"id": str(number)})
    assert began.wait(PATIENCE_S)
    until(lambda: (probed.sum_of("kafka_once_partition_lag") or 0) > 20)
    assert probed.sum_of("kafka_once_lanes_running") == 1
    go_on.set()
    served.settle()

    until(lambda: probed.sum_of("kafka_once_partition_lag") == 0)
    assert probed.sum_of("kafka_once_outcomes_total") == probed.sum_of("kafka_once_deliveries_total") == 30
    assert probed.sum_of("kafka_once_partition_frontier") == 30
    until(lambda: probed.sum_of("kafka_once_partition_committed") == 30)
    assert probed.ask("/readyz")[0] == 200


def test_a_frozen_redis_turns_readiness_red_and_back(kafka, frozen_redis):
    def nothing(_: Message) -> None:
        pass

    with ServedApp(shipping(nothing), kafka, frozen_redis, lease="2s", **PROBES) as served:
        probed = Probed(served)
        until(lambda: probed.ask("/readyz")[0] == 200)
        frozen_redis.pause()
        try:
            until(lambda: probed.ask("/readyz")[0] == 503)
            [problem] = json.loads(probed.ask("/readyz")[1])["problems"]
            assert problem["check"] == "store"
            assert probed.ask("/healthz")[0] == 200
            assert probed.sum_of("kafka_once_store_silent") == 1
        finally:
            frozen_redis.resume()
        served.send("orders", b"", headers={"id": "1"})
        served.settle(PATIENCE_S)
        until(lambda: probed.ask("/readyz")[0] == 200)


def test_a_span_is_linked_to_the_trace_in_the_record(once_app):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def nothing(_: Message) -> None:
        pass

    served = once_app(shipping(nothing, Tracing(tracer_provider=provider)))
    served.send("orders", b"", headers={"id": "1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    served.repeat()
    served.settle()

    [span] = exporter.get_finished_spans()
    assert f"{span.links[0].context.trace_id:032x}" == TRACE
    assert served.outcomes == {"completed": 1, "repeat": 1}


def test_a_loop_of_the_users_own_is_seen_too(kafka, redis, once_app):
    class Runs(Observer):
        def __init__(self):
            self.around = []

        def on_run(self, message):
            runs = self.around

            class Run:
                def __enter__(self):
                    runs.append(("began", message.offset))

                def __exit__(self, kind, error, trace):
                    runs.append((kind and kind.__name__, message.offset))

            return Run()

    topic = f"loop-{threading.get_native_id()}-{id(once_app)}"
    kafka.create_topic(topic, 1)
    runs = Runs()
    conf = {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "session.timeout.ms": 6000}
    key = header("id")
    with Consumer(conf, store=redis.url, key=key, observers=[runs], backoff="10ms", **PROBES) as consumer:
        consumer.subscribe([topic])
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce(topic, b"", headers={"id": "1"})
        producer.flush()
        for attempt, message in enumerate(consumer):
            with message:
                if attempt == 0:
                    raise ValueError
                break
        host, port = consumer.health_address
        until(lambda: consumer.health().ready)
        assert urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=PATIENCE_S).status == 200

    assert runs.around == [("began", 0), ("ValueError", 0), ("began", 0), (None, 0)]
    assert consumer.health_address is None
