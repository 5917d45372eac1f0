"""Partitions move: what runs ends first, a busy key waits without holding others up, and progress never stops
(R4, R15, R29; C01, C02, C16, C27)."""

import signal
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import TopicPartition

from kafka_once import Consumer, header
from kafka_once.testing.services import KafkaServer, RedisServer
from tests.groups.members import PATIENCE_S, PROTOCOLS, Scene, names, once, scene, wait_until
from tests.integration.programs import Program

pytestmark = [pytest.mark.integration, pytest.mark.groups]


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_busy_key_holds_up_nothing_but_its_own_partition_and_ends_as_a_repeat(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """R15. The first copy runs on one member, the repeat arrives at the other, which is then stopped while the key is
    busy: the repeat is handed back and ends as a repeat with whoever gets it."""
    with scene(kafka, tmp_path) as group:
        slow = {"busy": 5}
        given = {"slow": slow, "drain": "8s", "kafka": {"max.poll.interval.ms": 10_000}}
        one, two, ones, twos = group.share(protocol, store=redis_server.url, **given)
        group.produce(["busy"], partition=min(ones))
        wait_until(lambda: any(run.key == "busy" for run in group.ledger("began")), "the first copy runs")
        group.produce(["busy"], partition=min(twos))
        others = [partition for partition in range(4) if partition not in (min(ones), min(twos))]
        for partition in others:
            group.produce([f"p{partition}-{number}" for number in range(25)], partition=partition)
        group.wait_for([f"p{partition}-{number}" for partition in others for number in range(25)])
        assert "busy" not in group.runs(), "the others went by while it was busy"
        behind = names(0, 5)
        group.produce(behind, partition=min(twos))
        two.signal(signal.SIGTERM)
        code, stopped = two.end()

        group.wait_for(["busy", *behind])
        group.wait_for_lag_0()
        one.signal(signal.SIGTERM)
        _, counters = one.end()

    assert (code, stopped["in_doubt"], stopped["completed"] + stopped["handed_back"] + stopped["repeat"]) == (
        0,
        0,
        stopped["deliveries"],
    )
    assert set(group.runs().values()) == {1}
    assert counters["repeat"] + counters["redelivery"] + stopped["repeat"] == 1
    assert counters["in_doubt"] == 0


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_under_a_storm_of_rebalances_the_frontier_keeps_moving(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """R29. Somebody joins or leaves every second; what is committed grows all the time, and never goes back."""
    stop, seen, sent = threading.Event(), [], []
    with scene(kafka, tmp_path) as group:
        stays = group.member(protocol, store=redis_server.url, handler_s=0.005)
        stays.wait_for_log("partition assigned")

        def produce() -> None:
            while not stop.wait(0.1):
                keys = names(len(sent), len(sent) + 20)
                group.produce(keys)
                sent.extend(keys)

        def look() -> None:
            with group._onlooker() as onlooker:
                while not stop.wait(0.1):
                    seen.append((time.monotonic(), committed(onlooker, group)))

        helpers = [threading.Thread(target=produce), threading.Thread(target=look)]
        for helper in helpers:
            helper.start()
        try:
            _storm(group, protocol, redis_server.url)
        finally:
            stop.set()
            for helper in helpers:
                helper.join(PATIENCE_S)
        group.wait_for(sent)
        group.wait_for_lag_0()
        stays.signal(signal.SIGTERM)
        code, counters = stays.end()

    assert code == 0
    assert group.runs() == once(sent)
    assert counters["in_doubt"] == 0
    for (_, earlier), (_, later) in pairwise(seen):
        assert all(before <= after for before, after in zip(earlier, later, strict=True)), "a commit went back"
    sums = [(at, sum(offsets)) for at, offsets in seen]
    longest, all_of_it = max(_waits(sums)), sums[-1][0] - sums[0][0]
    assert longest < all_of_it / 2, f"nothing was committed for {longest:.1f} s of {all_of_it:.1f} s"


def _storm(group: Scene, protocol: str, url: str) -> None:
    """Ten changes of membership, one a second; a member leaves when the one after it has come."""
    comers = []
    pause = threading.Event()
    for _ in range(5):
        comers.append(group.member(protocol, store=url, handler_s=0.005))
        pause.wait(1)  # the storm's own beat, not a wait for something
        if len(comers) > 1:
            _leave(comers[-2])
        pause.wait(1)
    _leave(comers[-1])
    for comer in comers:
        assert comer.end(PATIENCE_S)[0] == 0


def _leave(member: Program) -> None:
    member.wait_for_log("session opened")  # before that it would be the interpreter that the signal ends
    member.signal(signal.SIGTERM)


def committed(onlooker: PlainConsumer, group: Scene) -> list[int]:
    places = [TopicPartition(group.topic, number) for number in range(group.partitions)]
    return [max(place.offset, 0) for place in onlooker.committed(places, timeout=20)]


def _waits(sums: list[tuple[float, int]]) -> list[float]:
    """How long each value stood."""
    waits, since = [], sums[0][0]
    for (_, before), (at, after) in pairwise(sums):
        if after > before:
            waits.append(at - since)
            since = at
    return waits


@pytest.mark.parametrize("callback", ["on_assign", "on_revoke"])
def test_a_callback_that_raises_loses_nothing(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, callback: str
) -> None:
    """R4: in the client an exception of a callback throws away the batch in hand, and its position has passed it. Here
    the consumer stops with the reason, commits nothing that was not completed, and the next one gets the rest."""
    with scene(kafka, tmp_path) as group:
        keys = names(0, 200)
        conf = {"bootstrap.servers": kafka.bootstrap, "group.id": group.group, **PROTOCOLS["cooperative"]}
        settings = {"store": redis_server.url, "key": header("id"), "lease": "2s", "drain": "3s"}
        got: list[str] = []

        def wrong(*_: object) -> None:
            raise ValueError("a bug in the callback")

        first = Consumer(conf, **settings)
        first.subscribe([group.topic], **{callback: wrong})
        group.produce(keys)
        if callback == "on_revoke":
            _take(first, got)
        with Consumer(conf, **settings) as second:
            second.subscribe([group.topic])
            with pytest.raises((ValueError, AssertionError), match="a bug in the callback"):
                _take_all(first, got)
            with pytest.raises((ValueError, AssertionError), match="a bug in the callback"):
                first.close()
            while len(set(got)) < len(keys):
                _take(second, got)
            wait_until(lambda: group.lag() == 0, "lag 0")

    assert sorted(got) == sorted(keys)


def _take_all(consumer: Consumer, got: list[str]) -> None:
    while True:
        _take(consumer, got)


def _take(consumer: Consumer, got: list[str]) -> None:
    message = consumer.poll(PATIENCE_S)
    assert message is not None
    got.append(dict(message.headers())["id"].decode())
    consumer.commit(message=message)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_revocation_waits_for_what_runs_within_one_deadline_and_hands_back_the_rest(
    kafka: KafkaServer, redis_server: RedisServer, tmp_path: Path, protocol: str
) -> None:
    """Four lanes run for 2 s each when a second member joins: they end, are committed, and nothing runs again."""
    with scene(kafka, tmp_path) as group:
        slow = dict.fromkeys(names(0, 4), 2)
        first = group.member(protocol, store=redis_server.url, slow=slow)
        first.wait_for_log("partition assigned")
        group.produce(names(0, 40))
        wait_until(lambda: len(group.ledger("began")) >= 4, "all lanes run")
        second = group.member(protocol, store=redis_server.url)
        group.wait_for(names(0, 40))
        group.wait_for_lag_0()
        ends = []
        for member in (first, second):
            member.signal(signal.SIGTERM)
            ends.append(member.end())

    assert [code for code, _ in ends] == [0, 0]
    assert group.runs() == once(names(0, 40))
    assert all(counters["in_doubt"] == 0 for _, counters in ends)
