"""Looks at Kafka as a group sees it, without joining the group: nothing here moves an offset or a partition."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers.kafka_client import Client
from kafka_once.brokers.kafka_errors import error_of, rule_on_event
from kafka_once.brokers.kafka_settings import consumer_settings
from kafka_once.brokers.kafka_start import check_topics
from kafka_once.errors import BrokerRefused, BrokerUnavailable, ConfigurationError
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import Committed
from kafka_once.settings import Settings

__all__ = ["Onlooker", "looking_at"]

ANSWER_S = 5.0

Answer = TypeVar("Answer")


class Onlooker:
    """A consumer that subscribes to nothing. Every method raises `BrokerUnavailable` if Kafka does not answer, and
    `BrokerRefused` if it will not."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.bootstrap_servers
        config = consumer_settings(settings.librdkafka()) | {"enable.partition.eof": True}
        config.pop("group.instance.id", None)  # it belongs to a member
        self._client = Client(config, _Nobody(), lambda _error, _partitions: None, lambda _error: None)
        self._consumer = self._client.consumer

    def cluster_id(self) -> str:
        """Kafka's cluster id, empty if it tells none."""
        return self._check([])

    def check_topic(self, topic: str) -> int:
        """How many partitions it has. Raises BrokerRefused if it does not exist or may not be seen."""
        self._check([topic])
        return len(self.partitions([topic]))

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics; those that begin with ^ are patterns, as in a subscription."""
        known = self._ask(lambda: self._consumer.list_topics(timeout=ANSWER_S)).topics
        names = {name for topic in topics for name in known if _is_meant(topic, name)}
        return sorted(TopicPartition(name, number) for name in names for number in known[name].partitions)

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """What the group has committed, None where nothing is."""
        if not partitions:
            return {}
        asked = [ClientPartition(*partition) for partition in partitions]
        answers = self._ask(lambda: self._consumer.committed(asked, timeout=ANSWER_S))
        for answer in answers:
            if answer.error is not None:
                raise _refusal(answer.error)
        return {TopicPartition(answer.topic, answer.partition): _committed(answer) for answer in answers}

    def ends(self, partition: TopicPartition) -> tuple[int, int]:
        """The first offset that is there, and the one that the next message will have."""
        asked = ClientPartition(*partition)
        low, high = self._ask(lambda: self._consumer.get_watermark_offsets(asked, timeout=ANSWER_S))
        return low, high

    def message_at(self, partition: TopicPartition, offset: int) -> Message | None:
        """The message that stands exactly there, None if it is not there any more."""
        low, high = self.ends(partition)
        if not low <= offset < high:
            return None
        self._consumer.assign([ClientPartition(*partition, offset)])
        try:
            record = self._ask(lambda: self._consumer.poll(ANSWER_S))
        finally:
            self._consumer.unassign()
        if record is None:
            raise BrokerUnavailable(f"Kafka did not give {partition}@{offset} in {ANSWER_S:.0f} s")
        error = record.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise _refusal(error)
        return None if error is not None or record.offset() != offset else _message(partition, record)

    def close(self) -> None:
        """Leave Kafka; there is no group to leave."""
        self._client.close(1.0)

    def _check(self, topics: Sequence[str]) -> str:
        return check_topics(self._consumer, topics, self._address, ANSWER_S, self._client.troubles)

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except KafkaException as failed:
            raise _refusal(error_of(failed)) from failed


@contextmanager
def looking_at(settings: Settings) -> Iterator[Onlooker]:
    """An onlooker for a `with` block."""
    try:
        onlooker = Onlooker(settings)
    except ConfigurationError as error:
        raise settings.placed(error) from None
    try:
        yield onlooker
    finally:
        onlooker.close()


class _Nobody:
    """Is told of no rebalance: there are none without a subscription."""

    def assigned(self, partitions: list[TopicPartition]) -> None:
        raise AssertionError(f"an onlooker was given {partitions}")

    revoked = lost = assigned


def _is_meant(topic: str, name: str) -> bool:
    return re.match(topic, name) is not None if topic.startswith("^") else topic == name


def _committed(answer: ClientPartition) -> Committed | None:
    return None if answer.offset < 0 else Committed(answer.offset, answer.leader_epoch, answer.metadata or "")


def _message(partition: TopicPartition, record: Any) -> Message:
    return Message(
        partition.topic,
        partition.partition,
        record.offset(),
        key=record.key(),
        value=record.value(),
        headers=record.headers(),
    )


def _refusal(error: KafkaError) -> Exception:
    ruling = rule_on_event(error)
    if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
        return BrokerUnavailable(f"Kafka does not answer: {error.str()}")
    return BrokerRefused(f"Kafka: {ruling.text}")
