"""One span per run of a handler, linked to the producer's trace; nothing of the message in clear."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from kafka_once import App, Message, header
from kafka_once.testing import MemoryApp
from kafka_once.tracing import Tracing

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
TRACEPARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"
SECRET = "secret-7"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


def nothing(message: Message) -> None:
    pass


def traced(exporter, handler, **options):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(group="billing", tracer_provider=provider, **options)
    app = App("k:9092", group="billing", store="redis://r", observers=[tracing])
    app.handler("payments", key=header("id"))(handler)
    return MemoryApp(app)


def send(memory, **headers):
    memory.send("payments", SECRET.encode(), key=SECRET, headers={"id": SECRET, **headers})
    memory.settle()


def test_a_run_is_a_consumer_span_linked_to_the_producers_trace(exporter):
    inside = []

    def charge(_: Message) -> None:
        inside.append(get_current_span().get_span_context().span_id)

    with traced(exporter, charge) as memory:
        send(memory, traceparent=TRACEPARENT)

    [span] = exporter.get_finished_spans()
    assert (span.name, span.kind, span.parent) == ("process payments", SpanKind.CONSUMER, None)
    [link] = span.links
    assert (link.context.trace_id, link.context.span_id) == (TRACE, SPAN)
    assert span.context.trace_id != TRACE
    assert inside == [span.context.span_id]
    assert dict(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "payments",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": "billing",
        "messaging.message.body.size": len(SECRET),
        "kafka_once.attempt": 1,
        "kafka_once.in_doubt": False,
    }
    assert SECRET not in span.to_json()


def test_as_child_the_span_is_in_the_producers_trace(exporter):
    with traced(exporter, nothing, as_child=True) as memory:
        send(memory, Traceparent=TRACEPARENT)

    [span] = exporter.get_finished_spans()
    assert (span.context.trace_id, span.parent.span_id) == (TRACE, SPAN)
    assert len(span.links) == 1


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}, {"traceparent": b"\xff\xfe"}])
def test_without_a_usable_trace_there_is_no_link(exporter, headers):
    with traced(exporter, nothing) as memory:
        send(memory, **headers)

    [span] = exporter.get_finished_spans()
    assert span.links == ()


def test_a_handler_that_raises_is_an_error_named_by_its_type_only(exporter):
    def charge(message: Message) -> None:
        if message.attempt == 1:
            raise ValueError(SECRET)

    with traced(exporter, charge) as memory:
        send(memory)

    failed, returned = exporter.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "builtins.ValueError"
    assert failed.events == ()
    assert SECRET not in failed.to_json()
    assert returned.status.status_code is StatusCode.UNSET
    assert returned.attributes["kafka_once.attempt"] == 2


def test_spans_of_async_handlers_do_not_mix(exporter):
    current = {}

    async def charge(message: Message) -> None:
        await asyncio.sleep(0)
        current[message.partition] = get_current_span().get_span_context().span_id

    memory = traced(exporter, charge)
    with memory:
        for number in range(8):
            memory.send("payments", b"", headers={"id": str(number)}, partition=0)
        memory.settle()

    spans = exporter.get_finished_spans()
    assert len({span.context.span_id for span in spans}) == 8
    assert current[0] == spans[-1].context.span_id
    assert all(span.parent is None for span in spans)
