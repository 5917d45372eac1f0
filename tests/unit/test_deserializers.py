"""Payloads by confluent-kafka Deserializers: real clients of a schema registry, and one in this process."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import (
    Deserializer,
    IntegerDeserializer,
    MessageField,
    SerializationContext,
    StringDeserializer,
)
from google.protobuf.type_pb2 import Field as ProtobufMessage

from kafka_once import (
    App,
    ConfigurationError,
    Consumer,
    ConsumerStopped,
    Message,
    MissingKey,
    UndecodablePayload,
    compose,
    field,
    header,
)
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.deserializers import Deserialized
from kafka_once.member import Adapters
from kafka_once.signatures import HandlerSignature
from kafka_once.stores.memory import MemoryState, MemoryStore

CANARY = "cAnArY7"
PATIENCE_S = 20
JSON_SCHEMA = json.dumps(
    {"title": "Order", "type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
)
AVRO_SCHEMA = json.dumps({"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}]})
CONTEXT = SerializationContext("orders", MessageField.VALUE)


class Registry:
    """As much of a schema registry as its clients ask for. `status` other than 200 is the answer to everything."""

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.status = 200
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                registry.schemas.append({"schemaType": "AVRO", **asked})
                self.answer(200, {"id": len(registry.schemas), "version": 1, "subject": "orders-value", **asked})

            def do_GET(self) -> None:
                number = self.path.rpartition("/")[2].partition("?")[0]
                if number.isdigit() and 0 < int(number) <= len(registry.schemas):
                    self.answer(200, registry.schemas[int(number) - 1])
                else:
                    self.answer(404, {"error_code": 40403, "message": "Schema not found"})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(registry.status if registry.status != 200 else status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def client(self) -> SchemaRegistryClient:
        return SchemaRegistryClient(
            {"url": f"http://127.0.0.1:{self._server.server_port}", "timeout": 5, "max.retries": 0}
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()


def message(value: bytes | None, **parts: Any) -> Message:
    return Message("orders", 0, 1, value=value, **parts)


def json_bytes(registry: Registry, order: dict[str, Any]) -> bytes:
    return JSONSerializer(JSON_SCHEMA, registry.client())(order, CONTEXT)


# ---------------------------------------------------------------------------------------------------------- decoding


def test_a_registrys_deserializers_make_the_payload(registry: Registry) -> None:
    as_json = JSONDeserializer(JSON_SCHEMA, schema_registry_client=registry.client())
    as_avro = AvroDeserializer(registry.client())
    avro = AvroSerializer(registry.client(), AVRO_SCHEMA)({"id": "o-1"}, CONTEXT)

    assert Deserialized(as_json).decode(message(json_bytes(registry, {"id": "o-1"}))) == {"id": "o-1"}
    assert Deserialized(as_avro).decode(message(avro)) == {"id": "o-1"}


def test_a_deserializer_is_told_topic_field_and_headers() -> None:
    told: list[Any] = []

    class Spy(Deserializer):
        def __call__(self, value: bytes | None, ctx: SerializationContext | None = None) -> object:
            told.append((value, ctx))
            return "made"

    assert Deserialized(Spy()).decode(message(b"x", headers=[("a", b"1")])) == "made"
    [(value, context)] = told
    assert (value, context.topic, context.field, context.headers) == (b"x", "orders", MessageField.VALUE, [("a", b"1")])


@pytest.mark.parametrize(
    "junk", [CANARY.encode(), b"", b"\x00", b'\x00\x00\x00\x00\x01{"id": 5}', b"\x00\x00\x00\x00\x63{}"]
)
def test_bytes_that_do_not_fit_are_undecodable_and_not_quoted(junk: bytes, registry: Registry) -> None:
    json_bytes(registry, {"id": "o-1"})
    for deserializer in (
        JSONDeserializer(JSON_SCHEMA, schema_registry_client=registry.client()),
        AvroDeserializer(registry.client()),
    ):
        with pytest.raises(UndecodablePayload) as caught:
            Deserialized(deserializer).decode(message(junk))
        shown = "".join(traceback.format_exception(caught.value))
        assert CANARY not in shown
        assert type(deserializer).__name__ in shown


@pytest.mark.parametrize("status", [500, 503, 401, 429])
def test_a_registry_that_refuses_us_says_nothing_about_the_message(status: int, registry: Registry) -> None:
    value = json_bytes(registry, {"id": "o-1"})
    registry.status = status

    with pytest.raises(SchemaRegistryError) as caught:
        Deserialized(JSONDeserializer(None, schema_registry_client=registry.client())).decode(message(value))
    assert caught.value.http_status_code == status


def test_a_registry_that_is_away_says_nothing_about_the_message(registry: Registry) -> None:
    value = json_bytes(registry, {"id": "o-1"})
    decoder = Deserialized(JSONDeserializer(None, schema_registry_client=registry.client()))
    registry.close()

    with pytest.raises(Exception, match="refused") as caught:
        decoder.decode(message(value))
    assert not isinstance(caught.value, UndecodablePayload)


# -------------------------------------------------------------------------------------------------------- signatures


def of_dict(order: dict) -> None: ...  # type: ignore[type-arg]
def of_dict_or_none(order: dict | None) -> None: ...  # type: ignore[type-arg]
def unannotated(order) -> None: ...  # type: ignore[no-untyped-def]
def of_anything(order: Any, message: Message) -> None: ...
def of_message(message: Message) -> None: ...


def test_the_annotation_may_be_missing_and_is_not_asked() -> None:
    made = IntegerDeserializer()
    for handler in (of_dict, of_dict_or_none, unannotated):
        assert HandlerSignature.of(handler, made).arguments(message(b"\x00\x00\x00\x05")) == (5,)
    whole = message(b"\x00\x00\x00\x05")
    assert HandlerSignature.of(of_anything, made).arguments(whole) == (5, whole)


def test_a_tombstone_is_given_only_to_a_handler_that_may_take_none() -> None:
    for handler in (of_dict_or_none, unannotated):
        assert HandlerSignature.of(handler, StringDeserializer()).arguments(message(None)) == (None,)
    with pytest.raises(UndecodablePayload, match="tombstone"):
        HandlerSignature.of(of_dict, StringDeserializer()).arguments(message(None))


def test_a_handler_of_the_message_has_no_use_for_a_deserializer() -> None:
    with pytest.raises(ConfigurationError, match=r"write \(payload, message\)"):
        HandlerSignature.of(of_message, StringDeserializer())


class Asynchronous(Deserializer):
    async def __call__(self, value: bytes | None, ctx: SerializationContext | None = None) -> object: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (StringDeserializer, "give an object of it"),
        (json.loads, "subclass"),
        (Asynchronous(), "asynchronous"),
        (5, "give"),
    ],
)
def test_what_is_no_deserializer_is_refused(given: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        HandlerSignature.of(unannotated, given)
    assert caught.value.setting == "payload"


# -------------------------------------------------------------------------------------------------------------- keys


class Plain:
    """As the examples of confluent-kafka write them."""

    kind = "of all"

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    @property
    def total(self) -> int:
        return 5

    def id_of(self) -> str:
        return "x"


class Slotted:
    __slots__ = ("id", "unset")

    def __init__(self, name: str) -> None:
        self.id = name


@dataclass
class Declared:
    id: str


@pytest.mark.parametrize(
    "made", [{"id": "o-1"}, Plain(id="o-1"), Slotted("o-1"), Declared("o-1"), ProtobufMessage(name="o-1")]
)
def test_a_field_is_read_from_whatever_object_was_made(made: object) -> None:
    path = "name" if isinstance(made, ProtobufMessage) else "id"
    assert field(path).extract(message(b"\x00"), made) == b"o-1"
    assert field(f"order.{path}").extract(message(b"\x00"), Plain(order=made)) == b"o-1"


@pytest.mark.parametrize("path", ["kind", "total", "id_of", "absent", "__class__", "order.unset", "order.id.real"])
def test_only_what_the_object_carries_is_a_field(path: str) -> None:
    with pytest.raises(MissingKey):
        field(path).extract(message(b"\x00"), Plain(order=Slotted("o-1")))


def test_a_protobuf_field_that_is_not_set_is_missing_and_not_its_default() -> None:
    assert field("number").extract(message(b"\x00"), ProtobufMessage(number=7)) == b"7"
    for path in ("number", "name", "absent", "SerializeToString"):
        with pytest.raises(MissingKey):
            field(path).extract(message(b"\x00"), ProtobufMessage())


# --------------------------------------------------------------------------------------------- through the whole app


class Memory:
    """A Kafka and a store in this process."""

    def __init__(self, *values: bytes | None, **settings: Any) -> None:
        self.cluster = MemoryCluster()
        for topic in ("orders", "dead"):
            self.cluster.create_topic(topic, 1)
        for number, value in enumerate(values):
            self.cluster.produce("orders", None, value, [("id", f"h-{number}".encode())])
        state = MemoryState()
        self.adapters = Adapters(
            broker=lambda settings: MemoryBroker(self.cluster, settings.group),
            store=lambda settings, namespace: MemoryStore(namespace, settings.lease_ms, state=state),
        )
        self.app = App(
            "memory:1", group="billing", store="memory://", adapters=self.adapters, backoff="10ms", **settings
        )

    def run(self, until: Any) -> dict[str, int]:
        self.app.start()
        pause = threading.Event()
        for _ in range(PATIENCE_S * 100):
            if until(self.app.stats()):
                break
            pause.wait(0.01)  # what the other threads did can only be looked at
        self.app.stop()
        assert self.app.join(PATIENCE_S)
        return self.app.stats()


def test_a_field_key_of_a_deserialized_payload_finds_the_repeats(registry: Registry) -> None:
    orders = [json_bytes(registry, {"id": name}) for name in ("o-1", "o-2", "o-1")]
    memory = Memory(*orders)
    deserializer = JSONDeserializer(JSON_SCHEMA, schema_registry_client=registry.client())
    processed: list[str] = []

    @memory.app.handler("orders", key=compose(field("id"), lambda _message: "x"), payload=deserializer)
    def take(order: dict[str, str]) -> None:
        processed.append(order["id"])

    stats = memory.run(lambda stats: stats["completed"] + stats["repeat"] == 3)

    assert processed == ["o-1", "o-2"]
    assert stats["repeat"] == 1


@pytest.mark.parametrize("key", [field("id"), header("id")])
def test_a_payload_that_does_not_deserialize_goes_by_on_bad_payload(key: Any, registry: Registry) -> None:
    memory = Memory(b"junk", json_bytes(registry, {"id": "o-1"}), dead_letter_topic="dead")
    processed: list[str] = []

    @memory.app.handler(
        "orders", key=key, payload=JSONDeserializer(JSON_SCHEMA, schema_registry_client=registry.client())
    )
    def take(order: dict[str, str]) -> None:
        processed.append(order["id"])

    stats = memory.run(lambda stats: stats["completed"] + stats["dead_lettered"] == 2)

    assert processed == ["o-1"]
    assert stats["dead_lettered"] == 1
    assert [record.value for record in memory.cluster.records("dead")] == [b"junk"]


def test_without_a_dead_letter_topic_it_stops(registry: Registry) -> None:
    memory = Memory(b"junk")

    @memory.app.handler(
        "orders", key=field("id"), payload=JSONDeserializer(JSON_SCHEMA, schema_registry_client=registry.client())
    )
    def take(order: dict[str, str]) -> None: ...

    memory.app.start()
    with pytest.raises(ConsumerStopped):
        memory.app.join(PATIENCE_S)


def test_a_registry_outage_is_tried_again_where_the_key_does_not_need_it(registry: Registry) -> None:
    value = json_bytes(registry, {"id": "o-1"})
    memory = Memory(value, dead_letter_topic="dead", attempts=1000)
    registry.status = 503
    processed: list[str] = []

    @memory.app.handler(
        "orders", key=header("id"), payload=JSONDeserializer(None, schema_registry_client=registry.client())
    )
    def take(order: dict[str, str]) -> None:
        processed.append(order["id"])

    def until(stats: dict[str, int]) -> bool:
        if stats["retries"] >= 2:
            registry.status = 200
        return stats["completed"] == 1

    stats = memory.run(until)
    assert (processed, stats["dead_lettered"]) == (["o-1"], 0)


def test_a_registry_outage_stops_it_where_the_key_needs_it_and_nothing_is_lost(registry: Registry) -> None:
    memory = Memory(json_bytes(registry, {"id": "o-1"}), dead_letter_topic="dead")
    registry.status = 503

    @memory.app.handler(
        "orders", key=field("id"), payload=JSONDeserializer(None, schema_registry_client=registry.client())
    )
    def take(order: dict[str, str]) -> None: ...

    memory.app.start()
    with pytest.raises(ConsumerStopped):
        memory.app.join(PATIENCE_S)
    assert memory.app.stats()["dead_lettered"] == 0
    assert all(known.offset == 0 for known in memory.cluster.committed("billing").values())


def test_a_loop_of_its_own_reads_field_keys_through_a_deserializer(registry: Registry) -> None:
    memory = Memory(*[json_bytes(registry, {"id": name}) for name in ("o-1", "o-1", "o-2")])
    deserializer = JSONDeserializer(JSON_SCHEMA, schema_registry_client=registry.client())
    conf = {"bootstrap.servers": "memory:1", "group.id": "billing"}
    with Consumer(conf, store="memory://", key=field("id"), payload=deserializer, adapters=memory.adapters) as consumer:
        consumer.subscribe(["orders"])
        taken = []
        for _ in range(2):
            taken.append(consumer.poll(PATIENCE_S))
            assert taken[-1] is not None
            consumer.commit(taken[-1])

    assert [deserializer(each.value(), CONTEXT) for each in taken if each] == [{"id": "o-1"}, {"id": "o-2"}]
