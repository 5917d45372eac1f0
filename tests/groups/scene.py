"""A topic, a group and its store, and what an operator, a clock or a broken disk can do to them from outside."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import redis
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafka_once import App, Message, header
from kafka_once.keys import KeyLike
from kafka_once.message import TopicPartition
from kafka_once.testing.services import KafkaServer, RedisServer, ServiceUnavailable

__all__ = ["PATIENCE_S", "Scene", "wait_until"]

PATIENCE_S = 60


def wait_until(condition: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE_S * 20):
        if condition():
            return
        pause.wait(0.05)  # books outside of this process can only be looked at again and again
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


class Scene:
    """One partition. Keys are names of the work; `runs` counts what the handlers of all its apps did."""

    def __init__(self, kafka: KafkaServer, redis_server: RedisServer, config: Mapping[str, str] | None = None) -> None:
        self.kafka = kafka
        self.redis = redis_server
        self.topic, self.group = f"t-{uuid.uuid4().hex[:8]}", f"g-{uuid.uuid4().hex[:8]}"
        self.partition = TopicPartition(self.topic, 0)
        self.runs: Counter[str] = Counter()
        self.stats: dict[str, int] = {}
        self._config = dict(config or {})
        self._admin: AdminClient = kafka.admin()
        kafka.create_topic(self.topic, 1, self._config)

    # --------------------------------------------------------------------------------------------------- the middleware

    @contextmanager
    def running(self, **settings: Any) -> Iterator[App]:
        """An app that consumes meanwhile; `stats` are its counters afterwards. An error of its own is raised."""
        app = self.app(**settings)
        app.start()
        try:
            yield app
        finally:
            app.stop()
            ended = app.join(PATIENCE_S)
            self.stats = app.stats()
        assert ended

    def app(self, key: KeyLike | None = None, **settings: Any) -> App:
        kafka = {"session.timeout.ms": 6000, **settings.pop("kafka", {})}
        semantics = settings.get("semantics", "effectively_once")
        store = self.redis.url if semantics == "effectively_once" else None
        app = App(self.kafka.bootstrap, group=self.group, store=store, commit_every="50ms", kafka=kafka, **settings)

        @app.handler(self.topic, key=(key or header("id")) if store else None)
        def handle(message: Message) -> None:
            self.runs[dict(message.headers)["id"].decode()] += 1

        return app

    def work_off(self, **settings: Any) -> None:
        """Run an app until nothing is left to do."""
        with self.running(**settings):
            wait_until(lambda: self.lag() == 0, "lag 0")

    # --------------------------------------------------------------------------------------------------------- the log

    def produce(self, *keys: str) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 0})
        self._produce(producer, keys)
        assert producer.flush(30) == 0

    def transaction(self, *keys: str, commit: bool = True) -> None:
        """The records of a transaction, and behind them its marker."""
        settings = {"bootstrap.servers": self.kafka.bootstrap, "transactional.id": uuid.uuid4().hex, "log_level": 0}
        producer = Producer(settings)
        producer.init_transactions(30)
        producer.begin_transaction()
        self._produce(producer, keys)
        producer.flush(30)
        before = self.end()
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
        wait_until(lambda: self.end() > before, "the marker")

    def _produce(self, producer: Producer, keys: tuple[str, ...]) -> None:
        for key in keys:
            producer.produce(self.topic, b"x", key.encode(), partition=0, headers=[("id", key.encode())])

    def delete_records(self, before: int) -> None:
        asked = ClientPartition(*self.partition, before)
        self._admin.delete_records([asked])[asked].result(30)

    def recreate(self) -> None:
        """Delete the topic and make it anew, as soon as Kafka takes it."""
        self._admin.delete_topics([self.topic])[self.topic].result(30)
        wait_until(self._made, "the topic made anew")

    def _made(self) -> bool:
        try:
            self.kafka.create_topic(self.topic, 1, self._config)
        except ServiceUnavailable as failed:
            cause = failed.__cause__
            if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
        return True

    def offsets_from(self, offset: int) -> list[int]:
        """Of the records that stand there now."""
        settings = {"bootstrap.servers": self.kafka.bootstrap, "group.id": "onlooker", "enable.auto.commit": False}
        consumer, offsets, end = PlainConsumer(settings), [], self.end()
        try:
            consumer.assign([ClientPartition(*self.partition, offset)])
            while not offsets or offsets[-1] < end - 1:
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                offsets.append(message.offset())
        finally:
            consumer.close()
        return offsets

    def end(self) -> int:
        return self._offset(OffsetSpec.latest())

    def start(self) -> int:
        return self._offset(OffsetSpec.earliest())

    def _offset(self, spec: OffsetSpec) -> int:
        place = ClientPartition(*self.partition)
        return int(self._answered(lambda: self._admin.list_offsets({place: spec})[place].result(30)).offset)

    def _answered(self, ask: Callable[[], Any]) -> Any:
        """The answer of a broker that may just have been started."""
        answers: list[Any] = []

        def is_answered() -> bool:
            try:
                answers.append(ask())
            except KafkaException:  # its coordinator loads, or our client knows an older leader epoch
                self._admin = self.kafka.admin()
            return bool(answers)

        wait_until(is_answered, "an answer of Kafka")
        return answers[0]

    # ----------------------------------------------------------------------------------------------- the group's offset

    def committed(self) -> ClientPartition:
        """Not by the admin client: librdkafka 2.16 ends the process when the coordinator has moved."""
        with self._outsider() as consumer:
            asked = [ClientPartition(*self.partition)]
            (found,) = self._answered(lambda: consumer.committed(asked, timeout=30))
        return cast("ClientPartition", found)

    def commit(self, held: ClientPartition) -> None:
        """Put a commit where it stood before, as a zombie's late one does; or any other, as an operator does."""
        with self._outsider() as consumer:
            (answer,) = self._answered(lambda: consumer.commit(offsets=[held], asynchronous=False))
        assert answer.error is None

    @contextmanager
    def _outsider(self) -> Iterator[PlainConsumer]:
        """It has the group's name, and is no member."""
        settings = {"bootstrap.servers": self.kafka.bootstrap, "group.id": self.group, "enable.auto.commit": False}
        consumer = PlainConsumer({**settings, "log_level": 0})
        try:
            yield consumer
        finally:
            consumer.close()

    def reset(self, offset: int) -> None:
        """As `kafka-consumer-groups --reset-offsets` does."""
        self.commit(ClientPartition(*self.partition, offset))

    def expire_offsets(self) -> None:
        """What Kafka does to a group that was empty for `offsets.retention.minutes`."""
        self._answered(lambda: self._admin.delete_consumer_groups([self.group])[self.group].result(30))

    def lag(self) -> int:
        return self.end() - max(self.committed().offset, 0)

    # -------------------------------------------------------------------------------------------------------- the store

    def forget_done_keys(self) -> None:
        """`remember_for` has passed."""
        with redis.Redis.from_url(self.redis.url) as client:
            done = list(client.scan_iter(f"kafka-once:*{self.group}*:d:*"))
            assert done, "nothing was remembered"
            client.delete(*done)

    def forget_everything(self) -> None:
        with redis.Redis.from_url(self.redis.url) as client:
            client.delete(*client.scan_iter(f"kafka-once:*{self.group}*"))
