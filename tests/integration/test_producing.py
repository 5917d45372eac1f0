"""The sender's half on a real Kafka whose acknowledgements are lost: repeats with the same key, processed once."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import TopicPartition

from kafka_once import App, BrokerRefused, BrokerUnavailable, Message, Producer, header
from kafka_once.testing.services import KafkaServer, RedisServer, start_kafka
from tests.conftest import or_skip
from tests.integration.proxies import Proxy

pytestmark = pytest.mark.integration

PATIENCE_S = 60
MESSAGES = 20
HASTY = {"delivery.timeout.ms": 1000, "linger.ms": 0, "reconnect.backoff.max.ms": 200}


@dataclass
class World:
    """A Kafka that is reached only through a proxy, and a topic in it."""

    kafka: KafkaServer
    proxy: Proxy
    topic: str

    def records(self) -> list[tuple[bytes, bytes]]:
        """Key and payload of all that is in the topic."""
        consumer = PlainConsumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "reader"})
        try:
            place = TopicPartition(self.topic, 0, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            records = []
            while len(records) < end:
                message = consumer.poll(10)
                assert message is not None
                assert not message.error()
                records.append((dict(message.headers())["idempotency-key"], message.value()))
            return records
        finally:
            consumer.close()


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[KafkaServer, Proxy]]:
    proxy = Proxy()
    with or_skip(
        lambda: start_kafka("apache", config={"advertised.listeners": f"PLAINTEXT://{proxy.address}"})
    ) as kafka:
        proxy.server_url = f"kafka://{kafka.bootstrap}"
        yield kafka, proxy
    proxy.close()


@pytest.fixture
def world(proxied: tuple[KafkaServer, Proxy]) -> World:
    kafka, proxy = proxied
    topic = f"payments-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic)
    return World(kafka, proxy, topic)


def processed(world: World, redis: RedisServer, deliveries: int) -> tuple[Counter[bytes], dict[str, int]]:
    """What an App makes of the topic: how often each payload was processed, and its counters."""
    app = App(world.kafka.bootstrap, group=f"billing-{world.topic}", store=redis.url)
    payloads: Counter[bytes] = Counter()
    all_there = threading.Event()

    @app.handler(world.topic, key=header("idempotency-key"))
    def charge(message: Message) -> None:
        payloads[message.value or b""] += 1

    app.start()
    for _ in range(PATIENCE_S * 20):
        stats = app.stats()
        if stats["completed"] + stats["repeat"] + stats["redelivery"] >= deliveries:
            break
        all_there.wait(0.05)
    app.stop()
    assert app.join(PATIENCE_S)
    return payloads, app.stats()


def test_repeats_after_lost_acknowledgements_have_the_same_key_and_are_processed_once(
    world: World, redis_server: RedisServer
) -> None:
    with Producer(world.kafka.bootstrap, kafka=HASTY) as producer:
        first = producer.send(world.topic, b"first").result(PATIENCE_S)
        with world.proxy.dropping_answers():
            sendings = [producer.send(world.topic, f"p-{number}".encode()) for number in range(MESSAGES)]
            assert world.proxy.dropped.wait(PATIENCE_S)
            while any(sending.attempts < 2 for sending in sendings):
                assert not producer.flush(0.05)
        places = [sending.result(PATIENCE_S) for sending in sendings]
        stats = producer.stats()

    records = world.records()
    payload_of = dict(records)
    assert (first.topic, first.partition, first.offset) == (world.topic, 0, 0)
    assert len({place.offset for place in places}) == MESSAGES
    assert all(records[place.offset][0] == each.idempotency_key for place, each in zip(places, sendings, strict=True))
    assert stats["acknowledged"] == stats["sent"] == MESSAGES + 1
    assert len(records) > MESSAGES + 1, "no message is twice in the topic: the test has shown nothing"
    assert len(payload_of) == MESSAGES + 1, "a repeat has a key of its own"
    assert all(payload_of[key] == value for key, value in records)

    payloads, counted = processed(world, redis_server, len(records))
    assert payloads == {b"first": 1, **{f"p-{number}".encode(): 1 for number in range(MESSAGES)}}
    assert counted["deliveries"] == len(records)
    assert counted["repeat"] == len(records) - len(payload_of)


def test_sent_once_is_never_sent_again_though_nobody_acknowledged_it(world: World) -> None:
    with Producer(world.kafka.bootstrap, semantics="at_most_once", kafka=HASTY) as producer:
        producer.send(world.topic, b"first").result(PATIENCE_S)
        with world.proxy.dropping_answers():
            sending = producer.send(world.topic, b"second")
            error = sending.exception(PATIENCE_S)
        producer.send(world.topic, b"third").result(PATIENCE_S)

    assert isinstance(error, BrokerUnavailable)
    assert "send it again with the same idempotency key" in str(error)
    assert sending.attempts == 1
    assert [value for _, value in world.records()] == [b"first", b"second", b"third"], "it had arrived, once"


def test_after_a_fatal_error_of_the_client_it_goes_on_with_a_new_one(world: World) -> None:
    with Producer(world.kafka.bootstrap) as producer:
        producer.send(world.topic, b"first").result(PATIENCE_S)
        dead = producer._publisher
        dead.is_dead = True  # librdkafka has no way to be brought there from outside
        producer.send(world.topic, b"second").result(PATIENCE_S)

        assert producer._publisher is not dead
    assert [value for _, value in world.records()] == [b"first", b"second"]


def test_a_delivery_can_be_awaited_and_a_refusal_names_the_remedy(world: World) -> None:
    async def send(producer: Producer) -> int:
        place = await asyncio.wait_for(asyncio.wrap_future(producer.send(world.topic, "x")), PATIENCE_S)
        return place.offset

    with Producer(world.kafka.bootstrap, kafka={"topic.metadata.propagation.max.ms": 100}) as producer:
        assert asyncio.run(send(producer)) == 0
        with pytest.raises(BrokerRefused, match="create the topic"):
            producer.send("no-such-topic", b"x").result(PATIENCE_S)
        with pytest.raises(BrokerRefused, match=r"message\.max\.bytes"):
            producer.send(world.topic, b"x" * 2_000_000).result(PATIENCE_S)
        assert producer.stats() == {"sent": 3, "repeats": 0, "acknowledged": 1, "failed": 2}


def test_what_is_sent_while_the_broker_is_dead_arrives_when_it_is_back(world: World) -> None:
    with Producer(world.kafka.bootstrap, kafka=HASTY) as producer:
        producer.send(world.topic, b"first", idempotency_key="0").result(PATIENCE_S)
        world.kafka.kill()
        sendings = [producer.send(world.topic, b"later", idempotency_key=number + 1) for number in range(MESSAGES)]
        while any(sending.attempts < 2 for sending in sendings):
            assert not producer.flush(0.05)
        world.kafka.restart()
        places = [sending.result(PATIENCE_S) for sending in sendings]

    keys = [key for key, _ in world.records()]
    assert [keys[place.offset] for place in places] == [sending.idempotency_key for sending in sendings]
    assert set(keys) == {str(number).encode() for number in range(MESSAGES + 1)}
