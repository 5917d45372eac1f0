"""Groups of brokers behind the port `Broker`: the Kafka in memory, and the real one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Producer

from kafka_once.brokers.kafka import KafkaBroker
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.message import TopicPartition
from kafka_once.ports import Broker, CommitMark
from kafka_once.testing.broker_members import Member, drive
from kafka_once.testing.services import KafkaServer
from tests.groups.members import PROTOCOLS

__all__ = ["BrokerGroup", "KafkaGroup", "MemoryGroup", "summary"]

PARTITIONS = 4
OUT_OF_THE_CLIENT = "out of the client"


def summary(name: str, told: Iterable[tuple[str, int]]) -> str:
    """What a member was told, in its order; of the same kind one after another in one number."""
    merged: list[tuple[str, int]] = []
    for what, count in told:
        before = merged.pop()[1] if merged and merged[-1][0] == what else 0
        if count + before:
            merged.append((what, count + before))
    return f"{name}: " + ", ".join(f"{what} {count}" for what, count in merged)


class BrokerGroup:
    """What both have in common. A member that is not named in `settle` is not polled."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.topic = f"t-{uuid.uuid4().hex[:8]}"
        self.members: dict[str, Member] = {}
        self._looked: dict[str, int] = {}
        self._produced = 0

    def broker(self) -> Broker:
        raise NotImplementedError

    def append(self, value: bytes) -> None:
        raise NotImplementedError

    def raise_in_the_next_poll(self, name: str) -> None:
        raise NotImplementedError

    def join(self, name: str) -> None:
        self._looked[name] = 0
        self.members[name] = Member(self.broker()).start(self.topic)

    def settle(self, **owned: int) -> list[str]:
        self._until([*owned], lambda: all(len(self.members[name].owned) == count for name, count in owned.items()))
        return [self._told(name) for name in owned]

    def wake(self, name: str) -> list[str]:
        self._until([name], lambda: not self.members[name].owned)
        return [self._told(name)]

    def _until(self, names: list[str], met: Callable[[], bool]) -> None:
        drive([self.members[name] for name in names], met)

    def _told(self, name: str) -> str:
        history = self.members[name].history
        news, self._looked[name] = history[self._looked[name] :], len(history)
        return summary(name, ((what, len(partitions)) for what, partitions in news))

    def owned(self, name: str) -> list[int]:
        return sorted(partition.partition for partition in self.members[name].owned)

    def commit(self, name: str, offsets: dict[int, int]) -> list[str]:
        marks = [CommitMark(TopicPartition(self.topic, number), offset, 0) for number, offset in offsets.items()]
        results = self.members[name].broker.commit_now(marks, 10.0)
        return ["taken" if result.verdict == "ok" else "refused" for result in results]

    def committed(self, partition: int) -> int | None:
        place = TopicPartition(self.topic, partition)
        held = self.members[max(self.members)].broker.committed([place])[place]
        return None if held is None else held.offset

    def produce(self, count: int) -> None:
        for number in range(self._produced, self._produced + count):
            self.append(str(number).encode())
        self._produced += count

    def poll_that_raises(self, name: str) -> str:
        self.raise_in_the_next_poll(name)
        try:
            drive([self.members[name]], lambda: False)
        except ZeroDivisionError as error:
            return str(error)
        raise AssertionError("it never came out")

    def received(self, name: str, count: int) -> list[int]:
        member = self.members[name]
        drive([member], lambda: len(member.received) >= count)
        return [int(message.value or b"") for message in member.received]

    def close(self) -> None:
        for member in self.members.values():
            member.broker.close(10.0)


class MemoryGroup(BrokerGroup):
    """The group in memory gives up on a member when the test says so. It knows one protocol, the cooperative way."""

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        self.cluster = MemoryCluster()
        self.cluster.create_topic(self.topic, PARTITIONS)

    def broker(self) -> Broker:
        return MemoryBroker(self.cluster, "g")

    def append(self, value: bytes) -> None:
        self.cluster.produce(self.topic, value=value, partition=0)

    def raise_in_the_next_poll(self, name: str) -> None:
        del name
        self.cluster.fail_next("poll", ZeroDivisionError(OUT_OF_THE_CLIENT))

    def settle(self, **owned: int) -> list[str]:
        for silent in self.members.keys() - owned.keys():
            self._give_up(silent)
        return super().settle(**owned)

    def hang(self, name: str) -> None:
        if self.protocol != "consumer":  # there the client leaves only when it is polled
            self._give_up(name)

    def wake(self, name: str) -> list[str]:
        self._give_up(name)
        return super().wake(name)

    def _give_up(self, name: str) -> None:
        broker = self.members[name].broker
        assert isinstance(broker, MemoryBroker)
        if broker._is_member():
            self.cluster.expire(broker)


class _Thrower:
    """The client's Consumer: it throws once, after it has dequeued what is there, as a signal or a callback does."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._thrown = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        records: list[Any] = self._consumer.consume(count, timeout_s)
        if self._thrown or not any(record.error() is None for record in records):
            return records
        self._thrown = True
        raise ZeroDivisionError(OUT_OF_THE_CLIENT)


class KafkaGroup(BrokerGroup):
    """The real one."""

    def __init__(self, protocol: str, server: KafkaServer) -> None:
        super().__init__(protocol)
        self._server = server
        self._admin = server.admin()
        server.create_topic(self.topic, PARTITIONS)

    def broker(self) -> Broker:
        connection = {"bootstrap.servers": self._server.bootstrap, "group.id": self.topic}
        return KafkaBroker({**connection, **PROTOCOLS[self.protocol]}, on_warning=lambda _text: None)

    def append(self, value: bytes) -> None:
        producer = Producer({"bootstrap.servers": self._server.bootstrap, "linger.ms": 0})
        producer.produce(self.topic, value, partition=0)
        assert producer.flush(30) == 0

    def raise_in_the_next_poll(self, name: str) -> None:
        broker = self.members[name].broker
        assert isinstance(broker, KafkaBroker)
        assert broker._client is not None
        broker._client.consumer = _Thrower(broker._client.consumer)

    def hang(self, name: str) -> None:
        """Classic: until Kafka says that it is gone. Consumer: twice as long as it may, and it stays a member."""
        del name
        limit_s = PROTOCOLS[self.protocol]["max.poll.interval.ms"] / 1000
        stays = self.protocol == "consumer"
        until = time.monotonic() + (2 if stays else 10) * limit_s
        while time.monotonic() < until:
            members = self._members()
            if members == 0 and not stays:
                return
            assert members == 1
        assert stays, "it was never put out"

    def _members(self) -> int:
        described = self._admin.describe_consumer_groups([self.topic])[self.topic].result(20)
        return len(described.members)
