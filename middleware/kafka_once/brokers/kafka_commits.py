"""Commits on the way: which answer of the client belongs to which call, and what the answer means."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers.kafka_errors import commit_verdict
from kafka_once.message import TopicPartition
from kafka_once.ports import CommitMark, CommitResult, Committed

__all__ = ["Commits", "as_client_partitions", "as_committed", "as_partition", "judge", "judge_all", "judge_held"]

log = logging.getLogger("kafka_once.kafka")

OnResult = Callable[[list[CommitResult]], None]


def as_client_partitions(marks: Sequence[CommitMark]) -> list[ClientPartition]:
    """The marks as the client wants them; with the leader epoch, without which truncation goes unnoticed (D04)."""
    assert all(mark.metadata.isascii() for mark in marks), "the metadata of a commit must be ASCII (D25)"
    return [
        ClientPartition(*place, offset, metadata, -1 if leader_epoch is None else leader_epoch)
        for place, offset, leader_epoch, metadata in marks
    ]


def judge(
    marks: Sequence[CommitMark], error: KafkaError | None, answers: Iterable[ClientPartition]
) -> list[CommitResult]:
    """Sort out the client's answer. Each partition has an error of its own, or none (C11).

    The error of the whole call counts only if no partition has one: else it is merely the last partition's.
    """
    errors = {as_partition(answer): answer.error for answer in answers}
    whole = None if any(errors.values()) else error
    return [CommitResult(mark, *commit_verdict(whole or errors.get(mark.partition))) for mark in marks]


def judge_all(marks: Iterable[CommitMark], error: KafkaError | None) -> list[CommitResult]:
    """The same answer for all."""
    verdict, reason = commit_verdict(error)
    return [CommitResult(mark, verdict, reason) for mark in marks]


def judge_held(marks: Iterable[CommitMark], held: Iterable[ClientPartition]) -> list[CommitResult]:
    """Compare the marks with what Kafka holds for the group afterwards."""
    offsets = {as_partition(answer): answer for answer in held}
    return [_judge_one(mark, offsets.get(mark.partition)) for mark in marks]


def _judge_one(mark: CommitMark, held: ClientPartition | None) -> CommitResult:
    if held is None:
        return CommitResult(mark, "retry", "no answer")
    if held.error is not None:
        return CommitResult(mark, *commit_verdict(held.error))
    if held.offset != mark.offset:
        return CommitResult(mark, "retry", f"Kafka holds {held.offset}")
    return CommitResult(mark, "ok")


class Commits:
    """The asynchronous commits that are not answered yet. The client has one callback for all of them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[list[CommitMark], OnResult]] = deque()
        self._answered: deque[tuple[list[CommitResult], OnResult]] = deque()

    def sent(self, marks: Sequence[CommitMark], on_result: OnResult) -> None:
        """A commit is on its way."""
        self._waiting.append((list(marks), on_result))

    def answer_later(self, results: list[CommitResult], on_result: OnResult) -> None:
        """A commit never left; `serve` tells it."""
        self._answered.append((results, on_result))

    def serve(self) -> None:
        """Give the answers that `answer_later` kept."""
        while self._answered:
            results, on_result = self._answered.popleft()
            on_result(results)

    def on_commit(self, error: KafkaError | None, answers: list[ClientPartition]) -> None:
        """The client's callback. Also told of commits that `commit_now` made, for which nobody waits here."""
        told = {(answer.topic, answer.partition, answer.offset) for answer in answers}
        for index, (marks, on_result) in enumerate(self._waiting):
            if not answers or told == {(*mark.partition, mark.offset) for mark in marks}:
                del self._waiting[index]
                on_result(judge(marks, error, answers))
                return
        if error is not None:
            log.debug("a commit that nobody waits for failed: %s", error.name())

    def waiting(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._waiting or self._answered)

    def await_answers(self, consumer: Consumer, deadline: float) -> None:
        """Wait for them, but leave half of the time until the deadline for leaving."""
        until = (time.monotonic() + deadline) / 2
        while self.waiting() and time.monotonic() < until:
            consumer.poll(0.02)  # what else comes is of partitions that are given up
            self.serve()

    def give_up(self) -> None:
        """No answers will come any more: none of them is definite."""
        self.serve()
        while self._waiting:
            marks, on_result = self._waiting.popleft()
            on_result([CommitResult(mark, "retry", "no answer before the client ended") for mark in marks])


def as_partition(client: ClientPartition) -> TopicPartition:
    """The client's partition as ours."""
    return TopicPartition(client.topic, client.partition)


def as_committed(answer: ClientPartition) -> Committed | None:
    """What the group holds for the partition, None if nothing."""
    if answer.offset < 0:  # OFFSET_INVALID
        return None
    epoch: int | None = answer.leader_epoch
    return Committed(answer.offset, epoch, answer.metadata or "")
