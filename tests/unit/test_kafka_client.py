"""The client's end: what it tells from its own closing thread reaches nobody."""

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers import kafka_client
from kafka_once.brokers.kafka_assignment import Assignment


class Ending:
    """A consumer that answers commits late: one while the group is left, one while the client ends."""

    def __init__(self, config: dict[str, object]) -> None:
        self._on_commit = config["on_commit"]

    def unsubscribe(self) -> None:
        self._on_commit(None, [ClientPartition("t", 0, 1)])

    def poll(self, timeout: float) -> None:
        pass

    def assignment(self) -> list[ClientPartition]:
        return []

    def close(self) -> None:
        self._on_commit(KafkaError(KafkaError._DESTROY), [ClientPartition("t", 0, 2)])


def test_a_commit_that_is_answered_while_the_client_ends_is_not_taken_for_one_of_the_next_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_client, "Consumer", Ending)
    heard: list[int] = []
    client = kafka_client.Client({}, Assignment(), lambda _error, answers: heard.append(answers[0].offset), print)

    assert client.close(5.0)

    assert heard == [1]
