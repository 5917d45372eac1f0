"""Looks at Kafka from outside, on a thread of its own: the committed offsets all the time, the whole log at the end.

It also looks whether the servers answer in time: an answer that comes late makes members of the group look dead.
"""

import threading
import time
import uuid
from typing import Any, Self

import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.storm.history import Logged, Observed, Stall

__all__ = ["Observer", "read_log"]

_EVERY_S = 0.075
_LATE_NS = 400_000_000


class Observer:
    """Runs while its `with` block does.

    It asks as a consumer that never joins the group: librdkafka 2.16's admin client crashes in its answer to
    `list_consumer_group_offsets` (rd_kafka_handle_OffsetFetch, rd_kafka_cgrp_op) when the coordinator is not ready yet.

    Attributes:
        held: the committed offsets as last seen.
        error: why it stopped by itself.
    """

    def __init__(self, bootstrap: str, store: str, group: str, places: list[TopicPartition]) -> None:
        self.observed: list[Observed] = []
        self.stalls: list[Stall] = []
        self.looks = 0
        self.held: dict[int, int] = {}
        self.error: BaseException | None = None
        self._places = places
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 2})
        self._redis: Any = redis.Redis.from_url(store, socket_timeout=30)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._redis.close()
        self._consumer.close()

    def cluster_id(self) -> str:
        return self._consumer.list_topics(timeout=30).cluster_id or ""

    def _main(self) -> None:
        try:
            self._watch()
        except BaseException as error:  # noqa: BLE001  (the storm looks at it)
            self.error = error

    def _watch(self) -> None:
        turn_ns = time.monotonic_ns()
        while not self._ended.is_set():
            began_ns = time.monotonic_ns()
            self._note_if_late("observer", turn_ns, began_ns)
            self._look()
            asked_ns = time.monotonic_ns()
            self._redis.ping()
            turn_ns = time.monotonic_ns()
            self._note_if_late("redis", asked_ns, turn_ns)
            self._ended.wait(max(0.0, _EVERY_S - (turn_ns - began_ns) / 1e9))

    def _look(self) -> None:
        asked_ns = time.monotonic_ns()
        try:
            held = self._committed()
        except KafkaException:  # a new group has no coordinator yet
            return
        finally:
            answered_ns = time.monotonic_ns()
            self._note_if_late("kafka", asked_ns, answered_ns)
        self.looks += 1
        for partition in sorted(held.keys() | self.held.keys()):
            offset = held.get(partition, -1)  # forgotten
            if self.held.get(partition) != offset:
                self.observed.append(Observed(partition, offset, asked_ns, answered_ns))
        self.held = held

    def _committed(self) -> dict[int, int]:
        answer = self._consumer.committed(self._places, timeout=30)
        return {place.partition: place.offset for place in answer if place.offset >= 0}

    def _note_if_late(self, what: str, began_ns: int, ended_ns: int) -> None:
        if ended_ns - began_ns > _LATE_NS:
            self.stalls.append(Stall(what, began_ns, ended_ns))


def read_log(bootstrap: str, topic: str, partitions: int) -> tuple[list[Logged], dict[int, int]]:
    """All messages of the topic, from the first, and per partition the offset behind the last."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"log-{uuid.uuid4().hex}", "enable.auto.commit": False}
    )
    places = [TopicPartition(topic, partition, 0) for partition in range(partitions)]
    ends = {place.partition: consumer.get_watermark_offsets(place, timeout=30)[1] for place in places}
    consumer.assign(places)
    log: list[Logged] = []
    missing = {partition for partition, end in ends.items() if end > 0}
    deadline_s = time.monotonic() + 60
    while missing:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"the log could not be read to its end: partitions {sorted(missing)}")
        for message in consumer.consume(1000, 0.5):
            if message.error() is not None:
                continue
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            log.append(Logged((message.key() or b"").decode(), partition, offset))
            if offset + 1 >= ends[partition]:
                missing.discard(partition)
    consumer.close()
    return sorted(log, key=lambda logged: (logged.partition, logged.offset)), ends
