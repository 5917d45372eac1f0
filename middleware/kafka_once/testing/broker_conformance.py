"""What every broker must do, as tests that any implementation can run.

Derive a test class from `BrokerConformance` and give it a fixture `world`:

    class TestMyBroker(BrokerConformance):
        @pytest.fixture
        def world(self):
            return MyWorld()
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest

from kafka_once.errors import BrokerRefused
from kafka_once.message import TopicPartition
from kafka_once.ports import CommitMark, CommitResult, Committed, Outgoing
from kafka_once.testing.broker_log_conformance import LogConformance, need, payloads, records, topic_of
from kafka_once.testing.broker_members import Member, World, committing, drive

__all__ = ["BrokerConformance"]


class BrokerConformance(LogConformance):
    """The suite. Every test makes its own topic and group."""

    @pytest.fixture
    def member(self, world: World) -> Iterator[Callable[..., Member]]:
        """Make members; they are closed after the test."""
        made: list[Member] = []

        def make(group: str, instance: str | None = None) -> Member:
            made.append(Member(world.broker(group, instance)))
            return made[-1]

        yield make
        for one in made:
            one.at_revoke = lambda _partitions: None
            one.broker.close(10.0)

    @pytest.fixture
    def alone(self, world: World, member: Callable[..., Member]) -> Member:
        """A started member that owns both partitions of a new topic."""
        topic = world.topic(2)
        one = member(world.group()).start(topic)
        drive([one], lambda: len(one.owned) == 2)
        return one

    # ---------------------------------------------------------------------------------------------------- membership

    def test_a_single_member_is_assigned_every_partition(self, alone: Member) -> None:
        assert {partition.partition for partition in alone.owned} == {0, 1}
        assert [what for what, _ in alone.history] == ["assigned"]

    def test_a_missing_topic_is_refused_with_its_name(self, world: World, member: Callable[..., Member]) -> None:
        need(world, "missing topics")
        with pytest.raises(BrokerRefused, match="no-such-topic"):
            member(world.group()).start("no-such-topic")

    def test_the_cluster_id_is_the_same_for_all(
        self, world: World, alone: Member, member: Callable[..., Member]
    ) -> None:
        other = member(world.group()).start(world.topic())
        assert other.broker.cluster_id() == alone.broker.cluster_id()

    def test_two_members_share_and_lose_nothing(self, world: World, member: Callable[..., Member]) -> None:
        group, topic = world.group(), world.topic(4)
        first = committing(member(group)).start(topic)
        drive([first], lambda: len(first.owned) == 4)
        for number in range(4):
            world.produce(topic, records(f"{number}a", f"{number}b"), number)
        drive([first], lambda: len(first.received) == 8)

        second = committing(member(group)).start(topic)
        drive([first, second], lambda: len(first.owned) == len(second.owned) == 2)
        assert first.owned.isdisjoint(second.owned)
        assert first.history[1][0] == "revoked"

        for number in range(4):
            world.produce(topic, records(f"{number}c"), number)
        drive([first, second], lambda: len(first.received) + len(second.received) == 12)
        for number in range(4):
            assert first.values(number) + second.values(number) == payloads(f"{number}a", f"{number}b", f"{number}c")

    def test_what_a_member_leaves_goes_to_the_others(self, world: World, member: Callable[..., Member]) -> None:
        group, topic = world.group(), world.topic(2)
        first, second = member(group).start(topic), member(group).start(topic)
        drive([first, second], lambda: len(first.owned) == len(second.owned) == 1)
        first.broker.close(10.0)
        assert first.history[-1][0] == "revoked"
        assert not first.owned
        drive([second], lambda: len(second.owned) == 2)

    def test_a_static_member_that_comes_back_moves_nothing(self, world: World, member: Callable[..., Member]) -> None:
        need(world, "static")
        group, topic = world.group(), world.topic(2)
        first, second = member(group, "one").start(topic), member(group, "two").start(topic)
        drive([first, second], lambda: len(first.owned) == len(second.owned) == 1)
        had, seen = set(second.owned), len(first.history)
        second.broker.close(10.0)
        again = member(group, "two").start(topic)
        drive([first, again], lambda: again.owned == had)
        assert len(first.history) == seen

    def test_a_member_that_joins_anew_loses_everything_and_begins_where_the_group_stands(
        self, world: World, alone: Member
    ) -> None:
        topic = topic_of(alone)
        world.produce(topic, records("a", "b", "c"))
        drive([alone], lambda: len(alone.received) == 3)
        marks = [CommitMark(TopicPartition(topic, 0), 1, 0)]
        assert [result.verdict for result in alone.broker.commit_now(marks, 10.0)] == ["ok"]

        alone.broker.rejoin("a test")

        assert [what for what, _ in alone.history] == ["assigned", "lost"]
        drive([alone], lambda: len(alone.received) == 5)
        assert alone.values() == payloads("a", "b", "c", "b", "c")

    # ------------------------------------------------------------------------------------------------------ messages

    def test_messages_come_in_order_and_once(self, world: World, alone: Member) -> None:
        topic = topic_of(alone)
        world.produce(topic, records(*[f"a{n}" for n in range(250)]), 0)
        world.produce(topic, records(*[f"b{n}" for n in range(250)]), 1)
        drive([alone], lambda: len(alone.received) >= 500)
        assert alone.values(0) == payloads(*[f"a{n}" for n in range(250)])
        assert alone.values(1) == payloads(*[f"b{n}" for n in range(250)])
        assert [message.offset for message in alone.received if message.partition == 0] == list(range(250))

    def test_a_message_has_every_part_of_its_record(self, world: World, alone: Member) -> None:
        need(world, "records")
        topic, now_ms = topic_of(alone), time.time() * 1000
        headers: list[tuple[str, bytes | None]] = [("twice", b"1"), ("none", None), ("twice", b"2"), ("empty", b"")]
        world.produce(
            topic, [Outgoing("", b"k", b"v", headers), Outgoing("", None, None, ()), Outgoing("", b"", b"", ())]
        )
        drive([alone], lambda: len(alone.received) == 3)
        full, nulls, empty = alone.received
        assert (full.topic, full.partition, full.offset, full.key, full.value) == (topic, 0, 0, b"k", b"v")
        assert full.headers == tuple(headers)
        assert full.header("twice") == b"2"
        assert full.timestamp_ms is not None
        assert abs(full.timestamp_ms - now_ms) < 60_000
        assert full.leader_epoch is not None
        assert (nulls.key, nulls.value, nulls.headers) == (None, None, ())
        assert (empty.key, empty.value) == (b"", b"")

    def test_offsets_with_gaps_are_no_obstacle(self, world: World, alone: Member) -> None:
        need(world, "gaps")
        topic = topic_of(alone)
        world.produce(topic, records("a"))
        world.gap(topic)
        world.produce(topic, records("b"))
        drive([alone], lambda: len(alone.received) == 2)
        assert alone.values() == payloads("a", "b")
        gapped = alone.received[1].offset
        assert gapped > 1
        for offset in (1, gapped):  # into the gap, and behind it
            alone.broker.seek(TopicPartition(topic, 0), offset)
            drive([alone], lambda: len(alone.received) > 2)
            assert alone.received.pop().value == b"b"

    def test_a_paused_partition_rests_and_loses_nothing(self, world: World, alone: Member) -> None:
        topic = topic_of(alone)
        resting, busy = TopicPartition(topic, 0), TopicPartition(topic, 1)
        world.produce(topic, records("a", "b"), 0)
        drive([alone], lambda: len(alone.received) == 2)
        alone.broker.pause([resting])
        world.produce(topic, records("c"), 0)
        world.produce(topic, records("x"), 1)
        drive([alone], lambda: alone.values(busy.partition) == payloads("x"))
        alone.poll()
        assert alone.values(0) == payloads("a", "b")
        alone.broker.resume([resting])
        drive([alone], lambda: len(alone.values(0)) == 3)
        assert alone.values(0) == payloads("a", "b", "c")

    def test_paused_with_messages_waiting_and_resumed_many_times(self, world: World, alone: Member) -> None:
        topic, expected = topic_of(alone), [f"a{n}" for n in range(100)]
        world.produce(topic, records(*expected), 0)
        alone.max_messages = 7
        for wanted in range(7, 101, 7):
            drive([alone], lambda wanted=wanted: len(alone.received) >= wanted)  # type: ignore[misc]
            alone.broker.pause([TopicPartition(topic, 0)])
            alone.poll(timeout_s=0)
            alone.broker.resume([TopicPartition(topic, 0)])
        drive([alone], lambda: len(alone.received) >= 100)
        assert alone.values() == payloads(*expected)

    def test_seek_goes_back_and_forth(self, world: World, alone: Member) -> None:
        topic = topic_of(alone)
        world.produce(topic, records("a", "b", "c", "d"))
        drive([alone], lambda: len(alone.received) == 4)
        alone.broker.seek(TopicPartition(topic, 0), 1)
        drive([alone], lambda: len(alone.received) == 7)
        assert alone.values() == payloads("a", "b", "c", "d", "b", "c", "d")
        alone.broker.seek(TopicPartition(topic, 0), 0)
        alone.broker.seek(TopicPartition(topic, 0), 3)
        drive([alone], lambda: len(alone.received) == 8)
        assert alone.values()[7:] == payloads("d")

    def test_a_failed_message_is_paused_sought_and_comes_again(self, world: World, alone: Member) -> None:
        topic = topic_of(alone)
        partition = TopicPartition(topic, 0)
        world.produce(topic, records("a", "b", "c"))
        drive([alone], lambda: len(alone.received) == 3)
        alone.broker.pause([partition])
        alone.broker.seek(partition, 1)
        assert alone.poll(timeout_s=0.2) == []
        alone.broker.resume([partition])
        drive([alone], lambda: len(alone.received) == 5)
        assert alone.values() == payloads("a", "b", "c", "b", "c")

    def test_seek_and_pause_work_already_in_on_assigned(self, world: World, member: Callable[..., Member]) -> None:
        topic = world.topic(2)
        world.produce(topic, records("a", "b", "c"), 0)
        world.produce(topic, records("x"), 1)
        one = member(world.group())

        def prepare(partitions: Sequence[TopicPartition]) -> None:
            one.broker.pause([partition for partition in partitions if partition.partition == 1])
            one.seek(TopicPartition(topic, 0), 2)

        one.at_assign = prepare
        one.start(topic)
        drive([one], lambda: len(one.received) == 1)
        assert one.values() == payloads("c")
        one.broker.resume([TopicPartition(topic, 1)])
        drive([one], lambda: len(one.received) == 2)
        assert one.values() == payloads("c", "x")

    def test_what_is_not_owned_is_passed_over(self, alone: Member) -> None:
        stranger = TopicPartition(topic_of(alone), 77)
        alone.broker.pause([stranger])
        alone.broker.resume([stranger])
        alone.broker.seek(stranger, 5)
        assert alone.poll() == []

    # ------------------------------------------------------------------------------------------------------- offsets

    def test_a_commit_is_answered_by_a_later_poll_and_read_back(self, world: World, alone: Member) -> None:
        first, second = sorted(alone.owned)
        world.produce(first.topic, records("a", "b"), 0)
        drive([alone], lambda: len(alone.received) == 2)
        assert alone.broker.committed([first, second]) == {first: None, second: None}
        answers: list[list[CommitResult]] = []
        alone.broker.commit([CommitMark(first, 2, 0, "the mark")], answers.append)
        assert answers == []
        drive([alone], lambda: len(answers) == 1)
        assert answers[0][0][:2] == (CommitMark(first, 2, 0, "the mark"), "ok")
        held = alone.broker.committed([first, second])
        assert held == {first: Committed(2, 0, "the mark"), second: None}

    def test_several_commits_get_each_their_own_answer(self, world: World, alone: Member) -> None:
        first, second = sorted(alone.owned)
        world.produce(first.topic, records("a", "b", "c"), 0)
        answers: list[tuple[str, list[CommitResult]]] = []
        for offset in (1, 2, 3):
            alone.broker.commit([CommitMark(first, offset)], partial(_note, answers, f"first {offset}"))
        alone.broker.commit([CommitMark(second, 0)], partial(_note, answers, "second"))
        drive([alone], lambda: len(answers) == 4)
        assert [name for name, _ in answers] == ["first 1", "first 2", "first 3", "second"]
        assert [got[0].mark.offset for _, got in answers] == [1, 2, 3, 0]

    def test_commit_now_is_answered_at_once_also_inside_on_revoked(
        self, world: World, member: Callable[..., Member]
    ) -> None:
        group, topic = world.group(), world.topic()
        world.produce(topic, records("a", "b"))
        first = committing(member(group)).start(topic)
        drive([first], lambda: len(first.received) == 2)
        partition = TopicPartition(topic, 0)
        (result,) = first.broker.commit_now([CommitMark(partition, 1, 0, "now")], 10.0)
        assert result.verdict == "ok"
        assert first.broker.committed([partition])[partition] == Committed(1, 0, "now")
        first.broker.close(10.0)
        second = member(group).start(topic)
        drive([second], lambda: len(second.owned) == 1)
        assert second.broker.committed([partition])[partition] == Committed(2, 0, "revoked")

    def test_reading_goes_on_where_the_group_committed(self, world: World, member: Callable[..., Member]) -> None:
        group, topic = world.group(), world.topic()
        world.produce(topic, records("a", "b", "c"))
        first = member(group).start(topic)
        drive([first], lambda: len(first.received) == 3)
        first.broker.commit_now([CommitMark(TopicPartition(topic, 0), 2)], 10.0)
        first.broker.close(10.0)
        second = member(group).start(topic)
        drive([second], lambda: len(second.received) == 1)
        assert second.values() == payloads("c")

    def test_a_commit_just_before_close_is_answered(self, alone: Member) -> None:
        answers: list[list[CommitResult]] = []
        alone.broker.commit([CommitMark(min(alone.owned), 0)], answers.append)
        alone.broker.close(10.0)
        assert [result.verdict for result in answers[0]] == ["ok"]

    def test_each_commit_has_metadata_of_its_own(self, alone: Member) -> None:
        first, second = sorted(alone.owned)
        alone.broker.commit_now([CommitMark(first, 0, None, "one"), CommitMark(second, 0, None, "two")], 10.0)
        held = alone.broker.committed([first, second])
        assert {each: known and known.metadata for each, known in held.items()} == {first: "one", second: "two"}

    # ------------------------------------------------------------------------------------------------------- publish

    def test_what_is_published_is_confirmed_and_can_be_read(self, alone: Member) -> None:
        confirmed: list[Exception | None] = []
        headers: list[tuple[str, bytes | None]] = [("why", b"test"), ("none", None)]
        for number in range(20):
            alone.broker.publish(Outgoing(topic_of(alone), b"key", str(number).encode(), headers), confirmed.append)
        drive([alone], lambda: len(confirmed) == len(alone.received) == 20)
        assert confirmed == [None] * 20
        assert alone.values() == [str(number).encode() for number in range(20)]
        assert (alone.received[0].key, alone.received[0].headers) == (b"key", tuple(headers))

    def test_a_record_for_a_missing_topic_is_told_to_have_failed(self, world: World, alone: Member) -> None:
        need(world, "missing topics")
        outcomes: list[Exception | None] = []
        alone.broker.publish(Outgoing("no-such-topic", None, b"v", ()), outcomes.append)
        drive([alone], lambda: len(outcomes) == 1)
        assert isinstance(outcomes[0], BrokerRefused)


def _note(answers: list[tuple[str, list[CommitResult]]], name: str, results: list[CommitResult]) -> None:
    answers.append((name, results))
