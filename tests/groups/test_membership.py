"""Who may be a member, and of what: static ids, patterns, new partitions, upgrades (R19; C17, C20, C21, C22, C24)."""

import re
import signal
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import NewPartitions

from kafka_once.testing.services import KafkaServer, RedisServer
from tests.groups.members import PROTOCOLS, names, once, scene, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.groups]

SOON = {"topic.metadata.refresh.interval.ms": 500}


@pytest.mark.parametrize("protocol", ["eager", "cooperative"])
def test_of_two_processes_with_one_static_id_the_older_one_stops(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """R19, classic: Kafka gives the place to the newer one. The older one says why it stops and exits with 1."""
    with scene(kafka, tmp_path) as group:
        older = group.member(protocol, store=redis_server.url, instance_id="one")
        group.produce(names(0, 20))
        group.wait_for(names(0, 20))
        newer = group.member(protocol, store=redis_server.url, instance_id="one")
        code, _ = older.end()
        group.produce(names(20, 40))
        group.wait_for(names(20, 40))
        group.wait_for_lag_0()
        newer.signal(signal.SIGTERM)
        assert newer.end()[0] == 0

    assert code == 1
    assert "another process took this group.instance.id" in older.log[-1]
    assert group.runs() == once(names(0, 40))


def test_of_two_processes_with_one_static_id_the_newer_one_waits_under_the_consumer_protocol(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """R19, KIP-848: Kafka refuses the newer one while the older one lives; it says so, waits, and takes over."""
    with scene(kafka, tmp_path) as group:
        older = group.member("consumer", store=redis_server.url, instance_id="one")
        group.produce(names(0, 20))
        group.wait_for(names(0, 20))
        newer = group.member("consumer", store=redis_server.url, instance_id="one")
        newer.wait_for_log("the group still holds this group.instance.id")
        group.produce(names(20, 40))
        group.wait_for(names(20, 40))
        assert {run.pid for run in group.ledger()} == {older.pid}
        older.signal(signal.SIGTERM)
        assert older.end()[0] == 0
        group.produce(names(40, 60))
        group.wait_for(names(40, 60))
        group.wait_for_lag_0()

    assert group.runs() == once(names(0, 60))


def test_members_with_another_assignor_are_refused_with_a_clear_text(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """C21."""
    with scene(kafka, tmp_path) as group:
        first = group.member("cooperative", store=redis_server.url)
        first.wait_for_log("partition assigned")
        code, _ = group.member("eager", store=redis_server.url).end()
        last = group._started[-1].log[-1]
        group.produce(names(0, 20))
        group.wait_for(names(0, 20))

    assert code == 1
    assert "the group's other members use another partition.assignment.strategy: use the same" in last


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_pattern_takes_in_new_topics_and_new_partitions_from_their_beginning(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """C22: what was produced before the member noticed is not passed by. The dead letters are never read (C24)."""
    with scene(kafka, tmp_path) as group:
        member = group.member(
            protocol,
            store=redis_server.url,
            topics=[rf"^{re.escape(group.topic)}(-new)?$"],
            dead_letter_topic=f"{group.topic}-dead",
            kafka=SOON,
        )
        group.produce(names(0, 20))
        group.wait_for(names(0, 20))
        kafka.create_topic(f"{group.topic}-dead", 1)
        kafka.create_topic(f"{group.topic}-new", 4)
        admin = kafka.admin()
        admin.create_partitions([NewPartitions(group.topic, 6)])[group.topic].result(20)
        group.produce(names(20, 40), topic=f"{group.topic}-new")
        group.produce(["dead"], topic=f"{group.topic}-dead", partition=0)
        wait_until(lambda: not _produced_to(group, partition=5, keys=names(40, 60)), "the new partition is there")
        group.wait_for(names(0, 60))
        member.signal(signal.SIGTERM)
        code, counters = member.end()

    assert code == 0
    assert group.runs() == once(names(0, 60))
    assert counters["deliveries"] == 60


def _produced_to(group, partition: int, keys: list[str]) -> str:
    """What went wrong; a producer may not know the new partition yet."""
    try:
        group.produce(keys, partition=partition)
    except KafkaException as unknown:
        return str(unknown)
    return ""


def test_a_group_moves_from_the_classic_to_the_consumer_protocol_member_by_member(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """C20, from range: one is stopped and comes back with the new protocol, then the other. Work goes on meanwhile."""
    with scene(kafka, tmp_path) as group:
        members = [group.member("eager", store=redis_server.url) for _ in range(2)]
        sent = 0
        for old in [*members, None]:
            group.produce(names(sent, sent + 100))
            group.wait_for(names(sent, sent + 100))
            sent += 100
            if old is not None:
                old.signal(signal.SIGTERM)
                assert old.end()[0] == 0
                group.member("consumer", store=redis_server.url).wait_for_log("partition assigned")
        group.wait_for_lag_0()
        ends = []
        for member in group._started[2:]:
            member.signal(signal.SIGTERM)
            ends.append(member.end())

    assert [code for code, _ in ends] == [0, 0]
    assert group.runs() == once(names(0, sent))


def test_from_cooperative_sticky_the_consumer_protocol_is_refused_until_all_have_stopped(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """C20: the broker does not take over what the client's sticky assignor keeps in its assignments. The text says what
    to do, and doing it works."""
    with scene(kafka, tmp_path) as group:
        old, other = (group.member("cooperative", store=redis_server.url) for _ in range(2))
        for member in (old, other):
            member.wait_for_log("partition assigned")
        other.signal(signal.SIGTERM)
        assert other.end()[0] == 0
        group.produce(names(0, 40))
        group.wait_for(names(0, 40))
        early = group.member("consumer", store=redis_server.url)
        assert early.end()[0] == 1
        assert "stop all of them first" in early.log[-1]

        old.signal(signal.SIGTERM)
        assert old.end()[0] == 0
        group.member("consumer", store=redis_server.url)
        group.produce(names(40, 80))
        group.wait_for(names(40, 80))
        group.wait_for_lag_0()

    assert group.runs() == once(names(0, 80))
