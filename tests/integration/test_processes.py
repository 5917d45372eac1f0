"""Processes that are signalled, killed and restarted; group protocols; outages. On a real Kafka and a real Redis."""

import signal
import threading
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import Producer, TopicPartition

from kafka_once import App, Consumer, Message, StoreRefused, header
from kafka_once.ports import Namespace
from kafka_once.stores.redis import RedisStore
from kafka_once.testing.services import KafkaServer, RedisServer, start_redis
from tests.conftest import or_skip
from tests.integration.programs import Program, ledger_lines, programs

pytestmark = pytest.mark.integration

PATIENCE_S = 60
PROTOCOLS = {
    "eager": {"partition.assignment.strategy": "range", "session.timeout.ms": 6000},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 6000},
    "consumer": {"group.protocol": "consumer"},
}


def make_topic(kafka: KafkaServer, partitions: int = 4) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name, partitions)
    return name


def produce(kafka: KafkaServer, topic: str, keys: list[str]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
    for key in keys:
        producer.produce(topic, b"x", key.encode(), headers=[("id", key.encode())])
        producer.poll(0)
    assert producer.flush(30) == 0


def lag(kafka: KafkaServer, group: str, topic: str, partitions: int = 4) -> int:
    consumer = PlainConsumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        places = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=10)
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        return sum(end - max(place.offset, 0) for place, end in zip(places, ends, strict=True))
    finally:
        consumer.close()


def wait_until(condition: Any, what: str) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE_S * 20):
        if condition():
            return
        pause.wait(0.05)  # books outside of this process can only be looked at again and again
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


class Books:
    """What in-process handlers did."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.changed = threading.Condition()

    def write(self, message: Message) -> None:
        assert message.idempotency_key is not None
        with self.changed:
            self.runs[message.idempotency_key.decode()] += 1
            self.changed.notify_all()

    def wait_for(self, keys: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.runs) >= keys, PATIENCE_S), len(self.runs)


def app_of(server: KafkaServer, url: str, group: str, topic: str, books: Books, **settings: Any) -> App:
    app = App(server.bootstrap, group=group, store=url, commit_every="50ms", **settings)

    @app.handler(topic, key=header("id"))
    def handle(message: Message) -> None:
        books.write(message)

    return app


def spec(kafka: KafkaServer, redis: RedisServer, topic: str, ledger: Path, **changes: Any) -> dict[str, Any]:
    made = {
        "bootstrap": kafka.bootstrap,
        "store": redis.url,
        "group": f"g-{topic}",
        "topic": topic,
        "ledger": str(ledger),
        "handler_s": 0.002,
        "settings": {"kafka": PROTOCOLS["cooperative"], "commit_every": "50ms"},
    }
    return {**made, **changes}


# --------------------------------------------------------------------------------------------------------- protocols


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_two_members_join_and_leave_under_each_protocol(
    kafka: KafkaServer, redis_server: RedisServer, protocol: str
) -> None:
    topic, group, books = make_topic(kafka), f"g-{uuid.uuid4().hex[:8]}", Books()
    one, two = (app_of(kafka, redis_server.url, group, topic, books, kafka=dict(PROTOCOLS[protocol])) for _ in range(2))
    one.start()
    produce(kafka, topic, [f"k{number}" for number in range(200)])
    books.wait_for(200)
    two.start()
    produce(kafka, topic, [f"k{number}" for number in range(100, 400)])
    books.wait_for(400)
    one.stop()
    assert one.join(PATIENCE_S)
    produce(kafka, topic, [f"k{number}" for number in range(300, 600)])
    books.wait_for(600)
    wait_until(lambda: lag(kafka, group, topic) == 0, "lag 0")
    two.stop()
    assert two.join(PATIENCE_S)

    assert Counter(dict.fromkeys((f"k{number}" for number in range(600)), 1)) == books.runs


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_static_member_that_is_killed_and_restarted_goes_on(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """What ran at the kill runs again, in doubt; everything else once; nothing is lost."""
    topic, ledger = make_topic(kafka), tmp_path / "ledger"
    settings = {"kafka": PROTOCOLS[protocol], "instance_id": "one", "commit_every": "50ms"}
    its_spec = spec(kafka, redis_server, topic, ledger, settings=settings)
    produce(kafka, topic, [f"k{number}" for number in range(2000)])
    with programs() as running:
        running.append(Program(its_spec))
        wait_until(lambda: len(ledger_lines(ledger)) > 200, "at work")
        running[0].kill()
        running.append(Program(its_spec))
        wait_until(lambda: len({key for key, *_ in ledger_lines(ledger)}) == 2000, "all keys")
        wait_until(lambda: lag(kafka, its_spec["group"], topic) == 0, "lag 0")
        running[1].signal(signal.SIGTERM)
        code, counters = running[1].end()

    lines = ledger_lines(ledger)
    doubled = {key for key, count in Counter(key for key, *_ in lines).items() if count > 1}
    told = {key for key, _, doubt, _ in lines if doubt}
    assert code == 0
    assert len(doubled) <= 4  # as many as lanes were running
    assert doubled <= told
    assert counters["in_doubt"] == len(told) <= 4


# ----------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
def test_a_signal_drains_commits_and_ends_with_zero(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    topic, ledger = make_topic(kafka), tmp_path / "ledger"
    produce(kafka, topic, [f"k{number}" for number in range(3000)])
    with programs() as running:
        running.append(Program(spec(kafka, redis_server, topic, ledger)))
        wait_until(lambda: len(ledger_lines(ledger)) > 100, "at work")
        for number in signals:
            running[0].signal(number)
        code, counters = running[0].end()

    lines = ledger_lines(ledger)
    assert code == 0, running[0].log
    assert counters["completed"] == len(lines) == len({key for key, *_ in lines})
    assert lag(kafka, f"g-{topic}", topic) == 3000 - len(lines)


# ----------------------------------------------------------------------------------------------------------- outages


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_without_the_store_nothing_runs_and_work_resumes_by_itself(kafka: KafkaServer, fault: str) -> None:
    topic, group, books = make_topic(kafka), f"g-{uuid.uuid4().hex[:8]}", Books()
    with or_skip(lambda: start_redis(config={"appendfsync": "always"})) as redis:
        app = app_of(kafka, redis.url, group, topic, books, kafka=dict(PROTOCOLS["cooperative"]), lease="1s")
        app.start()
        produce(kafka, topic, [f"k{number}" for number in range(100)])
        books.wait_for(100)
        wait_until(lambda: lag(kafka, group, topic) == 0, "lag 0")
        (redis.kill if fault == "killed" else redis.pause)()

        produce(kafka, topic, [f"k{number}" for number in range(50, 200)])
        wait_until(lambda: app.stats()["store_silences"] > 2, "silence noticed")
        assert len(books.runs) == 100
        (redis.restart if fault == "killed" else redis.resume)()

        books.wait_for(200)
        wait_until(lambda: lag(kafka, group, topic) == 0, "lag 0")
        app.stop()
        assert app.join(PATIENCE_S)
    assert Counter(dict.fromkeys((f"k{number}" for number in range(200)), 1)) == books.runs


def test_a_wrong_password_is_one_sentence_and_shows_no_password(kafka: KafkaServer) -> None:
    with or_skip(lambda: start_redis(password="right-1")) as redis:
        url = redis.url.replace("right-1", "wrong-2")
        app = app_of(kafka, url, "g", make_topic(kafka), Books())
        app.start()
        with pytest.raises(StoreRefused) as refused:
            app.join(PATIENCE_S)
    assert "wrong-2" not in str(refused.value)
    assert "\n" not in str(refused.value)


# ---------------------------------------------------------------------------------------------------------- adoption


def test_it_starts_beside_a_running_group_from_its_committed_offsets(
    kafka: KafkaServer, redis_server: RedisServer
) -> None:
    topic, group, books = make_topic(kafka, 1), f"g-{uuid.uuid4().hex[:8]}", Books()
    produce(kafka, topic, [f"k{number}" for number in range(100)])
    plain = PlainConsumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    plain.commit(offsets=[TopicPartition(topic, 0, 60)], asynchronous=False)
    plain.close()

    app = app_of(kafka, redis_server.url, group, topic, books)
    app.start()
    wait_until(lambda: lag(kafka, group, topic, 1) == 0, "lag 0")
    app.stop()
    app.join(PATIENCE_S)

    assert set(books.runs) == {f"k{number}" for number in range(60, 100)}
    assert app.stats()["memory_lost"] == 0


def test_a_store_that_lost_its_memory_is_noticed(kafka: KafkaServer) -> None:
    topic, group, books = make_topic(kafka, 1), f"g-{uuid.uuid4().hex[:8]}", Books()
    for expected in (0, 1):
        produce(kafka, topic, [f"k{number}" for number in range(10)])
        with or_skip(start_redis) as redis:
            app = app_of(kafka, redis.url, group, topic, books)
            app.start()
            wait_until(lambda: lag(kafka, group, topic, 1) == 0, "lag 0")
            app.stop()
            app.join(PATIENCE_S)
        assert app.stats()["memory_lost"] == expected
    assert set(books.runs.values()) == {2}


# ------------------------------------------------------------------------------------------------------- the drop-in


def test_the_drop_in_returns_only_what_needs_processing(kafka: KafkaServer, redis_server: RedisServer) -> None:
    topic, group = make_topic(kafka), f"g-{uuid.uuid4().hex[:8]}"
    conf = {"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False}
    produce(kafka, topic, [f"k{number}" for number in range(300)] + [f"k{number}" for number in range(100)])
    got: Counter[str] = Counter()
    with Consumer(conf, store=redis_server.url, key=header("id"), commit_every="50ms") as consumer:
        consumer.subscribe([topic])
        while len(got) < 300:
            message = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            got[dict(message.headers() or [])["id"].decode()] += 1
            consumer.commit(message=message)
        wait_until(lambda: lag(kafka, group, topic) == 0, "lag 0")
        assert consumer.poll(0.1) is None
        stats = consumer.stats()

    assert set(got.values()) == {1}
    assert stats["completed"] == 300
    assert stats["repeat"] == 100


def test_what_is_never_completed_holds_the_frontier_and_is_in_doubt(
    kafka: KafkaServer, redis_server: RedisServer
) -> None:
    topic, group = make_topic(kafka, 1), f"g-{uuid.uuid4().hex[:8]}"
    conf = {"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False}
    produce(kafka, topic, ["a", "b", "c"])
    consumer = Consumer(conf, store=redis_server.url, key=header("id"), commit_every="50ms")
    consumer.subscribe([topic])
    messages = [consumer.poll(10) for _ in range(3)]
    assert [message.offset() for message in messages if message] == [0, 1, 2]
    consumer.commit(message=messages[0])
    consumer.commit(message=messages[2], asynchronous=False)
    consumer.close()
    assert lag(kafka, group, topic, 1) == 2

    again = Consumer(conf, store=redis_server.url, key=header("id"))
    again.subscribe([topic])
    message = again.poll(10)
    assert message is not None
    assert (message.offset(), message.in_doubt) == (1, True)
    again.commit(message=message)
    assert again.poll(0.5) is None
    again.close()
    cluster = kafka.admin().list_topics(timeout=10).cluster_id
    store = RedisStore(redis_server.url, Namespace(cluster, group))
    assert [(doubt.offset, doubt.reason) for doubt in store.doubts()] == [(1, "raised")]
    store.close()


def test_an_exception_in_the_with_form_is_recorded_and_the_message_comes_again(
    kafka: KafkaServer, redis_server: RedisServer
) -> None:
    topic, group = make_topic(kafka, 1), f"g-{uuid.uuid4().hex[:8]}"
    conf = {"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False}
    produce(kafka, topic, ["a", "b"])
    attempts = []
    with Consumer(conf, store=redis_server.url, key=header("id"), backoff="10ms") as consumer:
        consumer.subscribe([topic])
        for message in consumer:
            attempts.append((message.offset(), message.attempt))
            with message:
                if message.offset() == 0 and message.attempt == 1:
                    raise ConnectionError("once")
            if len(attempts) == 3:
                break

    assert sorted(attempts) == [(0, 1), (0, 2), (1, 1)]


def test_a_loop_that_names_offsets_is_told_what_to_write(kafka: KafkaServer, redis_server: RedisServer) -> None:
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "g"}, store=redis_server.url, key=header("id")
    )
    for call in (lambda: consumer.commit(offsets=[]), consumer.seek, consumer.assign, consumer.pause):
        with pytest.raises(Exception, match=r"engine|comes again|claims belong|offsets follow"):
            call()
