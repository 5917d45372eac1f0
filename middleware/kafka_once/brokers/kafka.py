"""Kafka, by confluent-kafka: a member of a consumer group that loses no message it took from the client.

Rules that hold here, and why:
- Every Consumer call is made on the caller's thread, which is not the main thread: a signal's exception inside the
  client throws away what it had dequeued (finding 5, C29).
- The client assigns and unassigns by itself; no callback does it (C03). No callback raises (C27): what goes wrong in
  one is a bug, kept and raised by `poll`.
- Seeks, and what must be asked for again, are owed: `poll` pays them before it takes anything. A partition that is
  just assigned cannot be sought yet, one that is paused had better not be (E05, E07).
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers import kafka_commits, kafka_settings
from kafka_once.brokers.kafka_assignment import Assignment, as_client_partitions
from kafka_once.brokers.kafka_client import Client, known_ends, wait_for_first
from kafka_once.brokers.kafka_commits import Commits, as_partition
from kafka_once.brokers.kafka_errors import Reaction, error_of, no_answer, rule_on_event
from kafka_once.brokers.kafka_group import ask_group_times
from kafka_once.brokers.kafka_logs import Logs
from kafka_once.brokers.kafka_positions import Jump, Position
from kafka_once.brokers.kafka_publisher import Publisher
from kafka_once.brokers.kafka_start import check_topics
from kafka_once.errors import BrokerRefused, BrokerUnavailable
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import (
    CommitMark,
    CommitResult,
    Committed,
    Deleted,
    GroupTimes,
    LogBounds,
    Outgoing,
    Passed,
    Rebalances,
)

__all__ = ["KafkaBroker"]

log = logging.getLogger("kafka_once.kafka")

_REJOIN_PAUSE_S = 0.5
_LEAVE_S = 1.0  # for a client that is given up; its thread goes on if it takes longer
_LONG_AGO_S = 10.0  # a client that lived as long had its place in the group
_WARN_AGAIN_S = 60.0


class KafkaBroker:
    """See `ports.Broker` for what it promises; see `kafka_settings` for which settings it takes.

    Args:
        settings: librdkafka's, as for confluent-kafka's Consumer.
        publish_settings: more of them for publishing; the connection's are taken from `settings`.
        on_warning: called with a sentence that a person should read; logs it by default.
        start_timeout_s: how long Kafka may take to answer at the start.
        answer_timeout_s: how long Kafka may take to answer `committed` or `log_bounds`.
        rejoin_timeout_s: how long to wait for a group that still holds our `group.instance.id` (C17).

    Raises:
        ConfigurationError: the settings lose messages, or librdkafka does not know them.

    """

    def __init__(
        self,
        settings: Mapping[str, object],
        publish_settings: Mapping[str, object] | None = None,
        on_warning: Callable[[str], None] | None = None,
        *,
        start_timeout_s: float = 10.0,
        answer_timeout_s: float = 10.0,
        rejoin_timeout_s: float = 60.0,
    ) -> None:
        self._settings = kafka_settings.consumer_settings(settings)
        self._publish_settings = kafka_settings.publish_settings(settings, publish_settings)
        self._on_warning = on_warning or log.warning
        self._start_timeout_s = start_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._rejoin_timeout_s = rejoin_timeout_s
        self._address = str(settings.get("bootstrap.servers") or settings.get("metadata.broker.list") or "(mock)")
        self._topics: list[str] = []
        self._cluster_id = ""
        self._client: Client | None = None
        self._connected: Client | None = None  # made to ask for the cluster's id, no member yet
        self._publisher: Publisher | None = None
        self._logs = Logs(kafka_settings.connection_settings(settings), answer_timeout_s)
        self._assignment = Assignment()
        self._commits = Commits()
        self._rejoin_until: float | None = None
        self._rejoin_at = 0.0
        self._warned: dict[str, float] = {}

    def __repr__(self) -> str:  # no settings: they hold passwords (H12)
        return f"<KafkaBroker {self._settings['group.id']!r} at {self._address}>"

    # ---------------------------------------------------------------------------------------------------- membership

    def start(self, topics: Sequence[str], rebalances: Rebalances) -> None:
        """Check that Kafka answers and the topics are there, then join; see `kafka_start` for what it raises."""
        self._topics = list(topics)
        self._assignment.pass_on_to(rebalances)
        for warning in kafka_settings.connection_warnings(self._settings):
            self._warn(warning)
        client = self._connected or self._make_client()
        self._connected = None
        try:
            self._cluster_id = check_topics(
                client.consumer, topics, self._address, self._start_timeout_s, client.troubles
            )
            client.subscribe(topics)
        except BaseException:
            client.close(1.0)
            raise
        self._client = client
        self._logs.warm_up()  # meanwhile the group lets us in

    def cluster_id(self) -> str:
        """Kafka's cluster id; asks Kafka if it is not known yet, and raises what `start` raises for that."""
        if not self._cluster_id and self._client is None:
            if self._connected is None:
                self._connected = self._make_client()
            client = self._connected
            self._cluster_id = check_topics(client.consumer, [], self._address, self._start_timeout_s, client.troubles)
        return self._cluster_id

    def group_times(self) -> GroupTimes | None:
        """Asked for where the broker decides (`kafka_group`)."""
        return ask_group_times(self._settings, self.cluster_id(), self._start_timeout_s)

    def rejoin(self, why: str) -> None:
        """End this client and make another: what it believes of its partitions may be wrong (librdkafka #5604)."""
        self._warn(f"joining the group {self._settings['group.id']!r} anew: {why}")
        self._end_client()

    def close(self, timeout_s: float) -> None:
        """Drain, leave the group, and return within the time-out.

        Consumer.close() may hang for as long as the coordinator is away (C28), so it runs in a thread that is
        left behind when it takes too long. `on_revoked` does not run there: it is called before, here, while the
        partitions are still ours and heartbeats go on. What the client calls back after that is passed over.
        """
        deadline = time.monotonic() + timeout_s
        if self._connected is not None:
            self._connected.close(1.0)
            self._connected = None
        client = self._client
        try:
            if client is not None:
                client.leave()
                self._assignment.revoked(self._assignment.positions.owned())
                self._commits.await_answers(client.consumer, deadline)
        finally:  # a client that is not ended stops whatever thread happens to collect it as garbage
            self._client = None
            if client is not None and not client.close(deadline - time.monotonic()):
                self._warn("Kafka did not let the consumer leave in time; its session will time out")
        self._commits.give_up()
        self._logs.close()
        if self._publisher is not None:
            self._publisher.close(deadline - time.monotonic())
            self._publisher = None

    # ------------------------------------------------------------------------------------------------------ messages

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """Return what is there; wait for the first message at most `timeout_s`.

        Nothing of a newly assigned partition is returned before its first `seek`. Raises BrokerRefused and
        BrokerUnavailable; the position then stands at the first message not returned.
        """
        deadline = time.monotonic() + timeout_s
        self._assignment.was_told = False
        self._commits.serve()
        if self._assignment.waits_for_starts():
            return []
        try:
            if self._client is not None:
                self._assignment.greet_fresh(self._client.consumer)
                self._compare_topics()
            while True:
                messages = self._poll_once(max_messages, deadline)
                if messages or self._assignment.was_told or time.monotonic() >= deadline:
                    self._assignment.positions.returned()
                    return messages
        except KafkaException as failed:
            self._assignment.positions.take_back()
            self._react(error_of(failed))
            raise BrokerUnavailable(f"Kafka: {error_of(failed).str()}") from failed
        except BaseException:
            self._assignment.positions.take_back()
            raise

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Return nothing of these until `resume`; partitions that are not owned are passed over (E07)."""
        owned = [position for position in map(self._position_of, partitions) if position is not None]
        for position in owned:
            position.pause()
        if owned:
            self._consumer().pause(as_client_partitions(owned))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on where `pause` stopped, or where was sought since."""
        paused = [
            position for position in map(self._position_of, partitions) if position is not None and position.paused
        ]
        for position in paused:
            position.resume()
        if paused:
            self._consumer().resume(as_client_partitions(paused))

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        """The next message of this partition is the first at or behind `offset`. Passed over if it is not owned."""
        position = self._position_of(partition)
        if position is not None:
            position.seek(offset, leader_epoch, check=self._logs.may_be_truncated(partition, leader_epoch))
            position.topic_id = self._logs.id_of(partition.topic)
            self._logs.diverged.discard(partition)

    def news(self) -> list[Passed | Deleted]:
        """What was learned of the logs since the last call."""
        return [*self._logs.take_deleted(), *self._assignment.positions.passed()]

    # ------------------------------------------------------------------------------------------------------- offsets

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """Ask the coordinator. Raises BrokerUnavailable if there is no definite answer for each of them (C32)."""
        if not partitions:
            return {}
        asked = [ClientPartition(*partition) for partition in partitions]
        try:
            answers = self._consumer().committed(asked, timeout=self._answer_timeout_s)
        except KafkaException as failed:
            raise no_answer(error_of(failed)) from failed
        for answer in answers:
            if answer.error is not None:
                raise no_answer(answer.error)
        held = {as_partition(answer): kafka_commits.as_committed(answer) for answer in answers}
        self._assignment.positions.start_by_themselves(held)
        return held

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """What the last fetches told; asks nobody and never waits."""
        return {} if self._client is None else known_ends(self._client.consumer, partitions)

    def log_bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """Ask the leaders. Raises BrokerUnavailable if there is no definite answer for each of them."""
        if not partitions:
            return {}
        try:
            return self._logs.bounds(partitions)
        except KafkaException as failed:
            raise no_answer(error_of(failed)) from failed

    def commit(self, marks: Sequence[CommitMark], on_result: Callable[[list[CommitResult]], None]) -> None:
        """Commit without waiting. The metadata must be ASCII (D25)."""
        offsets = kafka_commits.as_client_partitions(marks)
        try:
            self._consumer().commit(offsets=offsets, asynchronous=True)
        except KafkaException as failed:
            self._commits.answer_later(kafka_commits.judge_all(marks, error_of(failed)), on_result)
        else:
            self._commits.sent(marks, on_result)

    def commit_now(self, marks: Sequence[CommitMark], timeout_s: float) -> list[CommitResult]:
        """Commit, and ask Kafka what it holds then.

        The client's own synchronous commit waits for a lost coordinator as long as a session plus a socket's time-out,
        and takes no time-out. So the commit is sent without waiting and followed by an OffsetFetch, which takes one:
        both go over the same connection, which Kafka serves in order. What is held then is the answer; what differs
        is "retry".
        """
        if not marks:
            return []
        offsets = kafka_commits.as_client_partitions(marks)
        try:
            self._consumer().commit(offsets=offsets, asynchronous=True)
            held = self._consumer().committed([ClientPartition(*mark.partition) for mark in marks], timeout=timeout_s)
        except KafkaException as failed:
            return kafka_commits.judge_all(marks, error_of(failed))
        return kafka_commits.judge_held(marks, held)

    # ------------------------------------------------------------------------------------------------------- publish

    def publish(self, record: Outgoing, on_done: Callable[[Exception | None], None]) -> None:
        """Publish without waiting; `on_done` is called from a thread of the publisher's, or here if refused at once."""
        if self._publisher is not None and self._publisher.is_dead:
            self._publisher.close(0.0)
            self._publisher = None
        if self._publisher is None:
            self._publisher = Publisher(self._publish_settings)
        self._publisher.publish(record, lambda done: on_done(done if isinstance(done, Exception) else None))

    # ------------------------------------------------------------------------------------------------------- private

    def _consumer(self) -> Consumer:
        if self._client is None:
            assert self._topics, "the broker is not started"
            raise BrokerUnavailable("the group is being joined anew")
        return self._client.consumer

    def _make_client(self) -> Client:
        return Client(self._settings, self._assignment, self._commits.on_commit, self._trouble)

    def _trouble(self, error: KafkaError) -> None:
        """The client's connections: it tries again by itself, whatever it is."""
        self._warn(f"Kafka: {rule_on_event(error).text}", error.name())

    def _position_of(self, partition: TopicPartition) -> Position | None:
        return self._assignment.positions.get(partition)

    def _poll_once(self, max_messages: int, deadline: float) -> list[Message]:
        if self._client is None and not self._rejoin(deadline):
            return []
        consumer = self._consumer()
        self._assignment.pay_seeks(consumer)
        records = consumer.consume(max_messages, 0)
        if not records and time.monotonic() < deadline:  # each call into the client costs a turn of the GIL
            records = wait_for_first(consumer, max_messages, deadline)
        events = [(record, error) for record in records if (error := record.error()) is not None]
        if events:
            records = [record for record in records if record.error() is None]
        jumps: list[Jump] = []
        messages = self._assignment.positions.take(records, jumps)
        if events:
            ends = [event for event, error in events if error.code() == KafkaError._PARTITION_EOF]
            self._assignment.positions.pass_ends(ends, jumps)
            for _, error in events:
                self._react(error)
        for jump in jumps:
            self._look_at(jump)
        if self._client is None:  # its partitions are lost
            return []
        self._client.raise_bug()
        return messages

    def _look_at(self, jump: Jump) -> None:
        if self._client is None:
            return
        start, _end = self._consumer().get_watermark_offsets(ClientPartition(*jump.partition), cached=True)
        if not self._logs.look_at(jump, start):
            self.rejoin(f"{jump.partition} gives offset {jump.found} where {jump.expected} was next, twice")

    def _compare_topics(self) -> None:
        anew = self._logs.changed(self._assignment.positions.owned())
        if anew:
            self.rejoin(f"{', '.join(sorted(anew))} was deleted and made anew")

    def _react(self, error: KafkaError) -> None:
        ruling = rule_on_event(error)
        if ruling.reaction is Reaction.REFUSE:
            raise BrokerRefused(f"Kafka: {ruling.text}")
        if ruling.reaction is Reaction.WARN:
            self._warn(f"Kafka: {ruling.text}")
        if ruling.reaction is Reaction.REJOIN:
            self._prepare_rejoin(ruling.text)

    def _prepare_rejoin(self, why: str) -> None:
        """End this client; `_rejoin` makes the next. A static member that was killed is held until its session ends."""
        client, now = self._client, time.monotonic()
        if client is None:
            return
        if self._rejoin_until is None or now - client.made_at > _LONG_AGO_S:
            self._rejoin_until = now + self._rejoin_timeout_s
            self._warn(f"Kafka: {why}; trying for {self._rejoin_timeout_s:.0f} s")
        if now >= self._rejoin_until:
            raise BrokerRefused(f"Kafka: {why}, since {self._rejoin_timeout_s:.0f} s: is another process using it?")
        self._rejoin_at = now + _REJOIN_PAUSE_S
        self._end_client()

    def _end_client(self) -> None:
        client, self._client = self._client, None
        try:
            self._assignment.lost(self._assignment.positions.owned())
        finally:
            if client is not None:
                client.close(_LEAVE_S)
        self._commits.give_up()

    def _rejoin(self, deadline: float) -> bool:
        """Make a new client when it is time to; False if that is after the deadline."""
        wait_s = self._rejoin_at - time.monotonic()
        if wait_s > 0:
            time.sleep(max(min(wait_s, deadline - time.monotonic()), 0.0))
        if time.monotonic() < self._rejoin_at:
            return False
        self._client = self._make_client()
        self._client.subscribe(self._topics)
        return True

    def _warn(self, text: str, subject: str = "") -> None:
        """Warn, of the same subject (the text, if none is given) at most once a minute."""
        now, subject = time.monotonic(), subject or text
        if now - self._warned.get(subject, -_WARN_AGAIN_S) >= _WARN_AGAIN_S:
            self._warned[subject] = now
            self._on_warning(text)
