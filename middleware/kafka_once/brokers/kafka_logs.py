"""What only an admin client can ask: where logs begin and end, and the ids of their topics.

A topic that was deleted and made anew has other messages at the same offsets. librdkafka goes by names: it goes on
reading at the old offset, and skips what stands below it in the new topic. So the ids of owned topics are compared from
time to time (C23).
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from kafka_once.brokers.kafka_errors import error_of
from kafka_once.brokers.kafka_positions import Jump
from kafka_once.message import TopicPartition
from kafka_once.ports import Deleted, LogBounds

__all__ = ["MOCK", "Logs"]

log = logging.getLogger("kafka_once.kafka")

_COMPARE_EVERY_S = 5.0
_COMPARE_SOON_S = 1.0  # after an answer
MOCK = "mockCluster"  # so the cluster id of librdkafka's begins
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"  # zero
_EARLIEST, _LATEST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]

# The broker is older than topic ids (Kafka 2.8), or than what asks for them.
_TELLS_NO_IDS = {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}


class Logs:
    """Asks; changes nothing. Used by one thread.

    Args:
        settings: of the connection only.
        timeout_s: how long Kafka may take to answer.

    Attributes:
        diverged: partitions where another log was found than the one that was read, and nobody has decided yet.
        deleted: what retention deleted before it was read, and nobody was told yet.

    """

    def __init__(self, settings: Mapping[str, object], timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._client: AdminClient | None = None
        self.diverged: set[TopicPartition] = set()
        self.deleted: list[Deleted] = []
        self._tells_ids: bool | None = None  # not known yet
        self._known: dict[str, str] = {}  # the ids of the topics that were asked for
        self._end_epochs: dict[TopicPartition, int | None] = {}
        self._asked: dict[str, Future[Any]] = {}
        self._compare_at = time.monotonic() + _COMPARE_EVERY_S

    def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """Where the logs begin and end, open transactions included, and the topics' ids.

        All is asked at once. If a topic is made anew just then, its id may be that of the one before: so the ids are
        compared again soon. Raises KafkaException where there is no definite answer.
        """
        try:
            return self._read(partitions, {partition.topic for partition in partitions})
        except KafkaException:
            self.close()  # a client that knows an older leader epoch repeats its mistake: the next call makes a new one
            raise

    def id_of(self, topic: str) -> str:
        """As `bounds` found it last; empty if Kafka told none."""
        return self._known.get(topic, "")

    def may_be_truncated(self, partition: TopicPartition, leader_epoch: int | None) -> bool:
        """Whether another leader has led since that leader epoch. None: nothing would tell."""
        return leader_epoch is not None and leader_epoch != self._end_epochs.get(partition)

    def look_at(self, jump: Jump, start: int) -> bool:
        """Look at a message that did not stand where it was expected: False if it is of another log.

        Args:
            jump: where it stands.
            start: where the log starts, as the client knows.

        """
        if jump.found < jump.expected:
            self.diverged.add(jump.partition)
            return False
        if start > jump.expected:  # D03; all other gaps are markers and compaction (D07)
            self.deleted.append(Deleted(jump.partition, jump.expected, start))
        return True

    def take_deleted(self) -> list[Deleted]:
        """What was deleted unread since the last call."""
        deleted, self.deleted = self.deleted, []
        return deleted

    def close(self) -> None:
        """End the client; it is made again when something is asked."""
        self._client = None
        self._asked = {}

    def warm_up(self) -> None:
        """Connect, so that the first `bounds` is quick. What goes wrong is told there."""
        with suppress(KafkaException):
            self._may_ask_for_ids()

    def changed(self, owned: Iterable[TopicPartition]) -> set[str]:
        """Topics that were made anew since their bounds were asked for. Does not wait: asks now, and looks later."""
        if self._client is None:
            return set()
        if self._asked:
            return self._answered() if all(answer.done() for answer in self._asked.values()) else set()
        topics = {partition.topic for partition in owned if self._known.get(partition.topic)}
        if topics and time.monotonic() >= self._compare_at:
            self._asked = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=self._timeout_s)
        return set()

    def _read(self, partitions: Sequence[TopicPartition], topics: set[str]) -> dict[TopicPartition, LogBounds]:
        """Also keeps the leader epoch of each log's end."""
        asked_ids = self._ask_ids(topics)
        asked_starts, asked_ends = self._ask_offsets(partitions, _EARLIEST), self._ask_offsets(partitions, _LATEST)
        ids = self._ids(topics, asked_ids)
        starts, ends = self._answers(asked_starts), self._answers(asked_ends)
        self._known.update(ids)
        self._end_epochs.update({each: end.leader_epoch for each, end in ends.items()})
        self._compare_at = time.monotonic() + _COMPARE_SOON_S
        return {
            each: LogBounds(starts[each].offset, ends[each].offset, ids[each.topic], each in self.diverged)
            for each in partitions
        }

    @property
    def _admin(self) -> AdminClient:
        if self._client is None:
            config: dict[str, Any] = {"logger": log, **self._settings}
            self._client = AdminClient(config)
        return self._client

    def _answered(self) -> set[str]:
        asked, self._asked = self._asked, {}
        self._compare_at = time.monotonic() + _COMPARE_EVERY_S
        now = {topic: _id_of(answer.result()) for topic, answer in asked.items() if answer.exception() is None}
        changed = {topic for topic, topic_id in now.items() if topic_id != self._known.get(topic)}
        for topic in changed:
            del self._known[topic]
        return changed

    def _ask_ids(self, topics: set[str]) -> dict[str, Future[Any]]:
        if not self._may_ask_for_ids():
            return {}
        return self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=self._timeout_s)

    def _ids(self, topics: set[str], asked: dict[str, Future[Any]]) -> dict[str, str]:
        try:
            return {topic: _id_of(asked[topic].result(self._timeout_s)) if asked else "" for topic in topics}
        except KafkaException as failed:
            if error_of(failed).code() not in _TELLS_NO_IDS:
                raise
            self._tells_ids = False
            return dict.fromkeys(topics, "")
        except TimeoutError:
            raise _timed_out() from None

    def _may_ask_for_ids(self) -> bool:
        """Librdkafka's mock cluster has no controller, and who asks for topics in detail waits for one."""
        if self._tells_ids is None:
            cluster_id: str | None = self._admin.list_topics(timeout=self._timeout_s).cluster_id
            self._tells_ids = not (cluster_id or "").startswith(MOCK)
        return self._tells_ids

    def _ask_offsets(
        self, partitions: Sequence[TopicPartition], spec: OffsetSpec
    ) -> dict[ClientPartition, Future[Any]]:
        """Read uncommitted: a group that read so may stand behind what a transaction holds back."""
        return self._admin.list_offsets(
            {ClientPartition(*partition): spec for partition in partitions},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._timeout_s,
        )

    def _answers(self, asked: dict[ClientPartition, Future[Any]]) -> dict[TopicPartition, Any]:
        try:
            return {TopicPartition(p.topic, p.partition): f.result(self._timeout_s) for p, f in asked.items()}
        except TimeoutError:
            raise _timed_out() from None


def _id_of(description: Any) -> str:
    """Base64 as Kafka shows it, empty if the topic has none."""
    topic_id = str(description.topic_id or _NO_ID)
    return "" if topic_id == _NO_ID else topic_id


def _timed_out() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._TIMED_OUT))
