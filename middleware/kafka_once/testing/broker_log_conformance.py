"""What every broker must tell of its logs: a part of `broker_conformance.BrokerConformance`, and its small tools."""

from collections.abc import Callable

import pytest

from kafka_once.message import TopicPartition
from kafka_once.ports import Deleted, Outgoing, Passed
from kafka_once.testing.broker_members import Member, World, drive

__all__ = ["LogConformance", "need", "payloads", "records", "topic_of"]


def records(*values: str) -> list[Outgoing]:
    return [Outgoing("", None, value.encode(), ()) for value in values]


def payloads(*values: str) -> list[bytes | None]:
    return [value.encode() for value in values]


def need(world: World, ability: str) -> None:
    if ability not in world.abilities:
        pytest.skip(f"this broker has no {ability}")


def topic_of(member: Member) -> str:
    return next(iter(member.owned)).topic


class LogConformance:
    """Needs the fixtures `world`, `member` and `alone`."""

    def test_nothing_is_returned_before_the_first_seek(self, world: World, member: Callable[..., Member]) -> None:
        topic = world.topic()
        world.produce(topic, records("a", "b"))
        one = member(world.group())
        one.begins = False
        one.start(topic)
        drive([one], lambda: len(one.owned) == 1)
        for _ in range(20):
            assert one.poll() == []
        one.seek(TopicPartition(topic, 0), 1)
        drive([one], lambda: len(one.received) == 1)
        assert one.values() == payloads("b")

    def test_the_bounds_of_logs_are_told(self, world: World, alone: Member) -> None:
        first, second = sorted(alone.owned)
        world.produce(first.topic, records("a", "b", "c"))
        bounds = alone.broker.log_bounds([first, second])
        assert [each[:2] for each in (bounds[first], bounds[second])] == [(0, 3), (0, 0)]
        assert bounds[first].topic_id == bounds[second].topic_id
        assert bool(bounds[first].topic_id) == ("topic ids" in world.abilities)
        assert not bounds[first].diverged

    def test_what_is_no_message_at_the_end_of_a_log_is_told_as_passed(self, world: World, alone: Member) -> None:
        need(world, "gaps")
        partition = min(alone.owned)

        def passed_to_the_end() -> bool:  # a transaction's marker may still be on its way when it has ended
            end = alone.broker.log_bounds([partition])[partition].end
            return alone.news[-1:] == [Passed(partition, end)]

        world.gap(partition.topic)  # a log without a message
        drive([alone], passed_to_the_end)
        world.produce(partition.topic, records("a"))
        world.gap(partition.topic)
        drive([alone], lambda: alone.values() == payloads("a") and passed_to_the_end())

    def test_what_was_deleted_before_it_was_read_is_told(self, world: World, alone: Member) -> None:
        need(world, "deletion")
        partition = min(alone.owned)
        world.produce(partition.topic, records("a"))
        drive([alone], lambda: len(alone.received) == 1)
        alone.broker.pause([partition])
        world.produce(partition.topic, records("b", "c", "d"))
        world.delete_records(partition, 3)
        alone.broker.resume([partition])
        drive([alone], lambda: len(alone.received) == 2)
        assert alone.values() == payloads("a", "d")
        assert alone.news == [Deleted(partition, 1, 3)]

    def test_a_topic_that_is_made_anew_is_lost_and_assigned_again(
        self, world: World, member: Callable[..., Member]
    ) -> None:
        """Also where the new log is as long as the old one was read: nothing of it is passed over."""
        need(world, "deletion")
        topic = world.topic()
        one = member(world.group()).start(topic)
        world.produce(topic, records("a", "b"))
        drive([one], lambda: len(one.received) == 2)
        (before,) = one.broker.log_bounds([TopicPartition(topic, 0)]).values()
        world.recreate(topic)
        world.produce(topic, records("c", "d", "e"))
        drive([one], lambda: one.values()[-3:] == payloads("c", "d", "e"))
        assert one.history[1][0] in ("lost", "revoked")
        (after,) = one.broker.log_bounds([TopicPartition(topic, 0)]).values()
        assert after.topic_id != before.topic_id
