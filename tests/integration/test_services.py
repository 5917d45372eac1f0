"""The servers that the other tests stand on: each kind serves, survives what it should, and leaves nothing behind."""

import os
import select
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer

from kafka_once.testing.services import KafkaServer, ServiceUnavailable, start_kafka, start_redis
from kafka_once.testing.services.redis import without_password
from tests.conftest import or_skip

pytestmark = pytest.mark.integration

CONTAINER = pytest.param("docker", marks=pytest.mark.docker)


@pytest.fixture(scope="module", params=["apache", "mock", CONTAINER])
def any_kafka(request):
    with or_skip(lambda: start_kafka(request.param)) as server:
        yield server


@pytest.fixture(scope="module", params=["embedded", "local", CONTAINER])
def any_redis(request):
    with or_skip(lambda: start_redis(request.param, password='a "b" \\c')) as server:
        yield server


def send(kafka: KafkaServer, topic: str, values: list[bytes], partition: int = -1) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(30) == 0


def receive(kafka: KafkaServer, topic: str, group: str, count: int, **options) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "log_level": 0,
            **options,
        }
    )
    with closing(consumer):
        consumer.subscribe([topic])
        messages = consumer.consume(count, timeout=30)
        assert [message.error() for message in messages] == [None] * count
        consumer.commit(asynchronous=False)
    return [message.value() for message in messages]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_what_is_produced_is_consumed(any_kafka, protocol):
    topic = f"served-{protocol}"
    any_kafka.create_topic(topic, partitions=3)

    send(any_kafka, topic, [b"a", b"b", b"c"])

    assert sorted(receive(any_kafka, topic, topic, 3, **{"group.protocol": protocol})) == [b"a", b"b", b"c"]


def test_a_topic_has_the_partitions_asked_for(any_kafka):
    any_kafka.create_topic("seven", partitions=7)

    assert len(any_kafka.admin().list_topics("seven", timeout=10).topics["seven"].partitions) == 7


def test_a_topic_that_cannot_be_made_is_an_error(any_kafka):
    any_kafka.create_topic("twice")
    with pytest.raises(ServiceUnavailable, match="'twice' could not be made"):
        any_kafka.create_topic("twice")


@pytest.mark.parametrize("kind", ["apache", CONTAINER])
def test_a_real_broker_keeps_records_and_commits_over_kill_and_restart(kind):
    with or_skip(lambda: start_kafka(kind, config={"message.max.bytes": "2000000"})) as kafka:
        kafka.create_topic("kept", partitions=1, config={"retention.ms": "60000"})
        send(kafka, "kept", [b"before"])
        assert receive(kafka, "kept", "group", 1) == [b"before"]

        kafka.kill()
        assert kafka.pid is None
        kafka.restart()

        send(kafka, "kept", [b"after"])
        assert receive(kafka, "kept", "group", 1) == [b"after"]


def test_the_mock_cluster_says_that_it_forgets():
    with start_kafka("mock") as kafka, pytest.raises(ServiceUnavailable, match="forgets everything"):
        kafka.restart()


def test_a_broker_that_cannot_start_shows_the_end_of_its_log():
    or_skip(lambda: start_kafka("apache")).close()
    with pytest.raises(
        ServiceUnavailable, match=r"kafka ended at once; its log ends with:\n(.|\n)*no\.such\.Authorizer"
    ):
        start_kafka("apache", config={"authorizer.class.name": "no.such.Authorizer"})


def test_redis_serves_and_is_set_to_keep_what_it_acknowledges(any_redis):
    with closing(any_redis.client(decode_responses=True)) as client:
        client.set("key", "value")

        assert client.get("key") == "value"
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert any_redis.version != "unknown"


def test_redis_keeps_an_fsynced_key_over_kill_and_restart(any_redis):
    with closing(any_redis.client(decode_responses=True)) as client:
        client.config_set("appendfsync", "always")
        client.set("kept", "yes")

    any_redis.kill()
    any_redis.restart()

    with closing(any_redis.client(decode_responses=True)) as client:
        assert client.get("kept") == "yes"


def test_a_paused_redis_holds_connections_and_answers_nothing(any_redis):
    with closing(any_redis.client(socket_timeout=0.2, retry=None)) as client:
        client.ping()
        any_redis.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        any_redis.resume()

        assert client.ping()


def test_redis_refuses_a_wrong_password(any_redis):
    address = without_password(any_redis.url)
    with closing(redis.Redis.from_url(address, password="wrong")) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_password_is_never_shown(any_redis):
    assert "b" in any_redis.url.partition("@")[0]
    assert "@" not in repr(any_redis)


def test_an_address_from_the_environment_is_used_and_left_alone(monkeypatch):
    with or_skip(lambda: start_redis("embedded")) as ours:
        monkeypatch.setenv("KAFKA_ONCE_TEST_REDIS", ours.url)
        with start_redis() as theirs:
            assert (theirs.kind, theirs.url, theirs.version) == ("env", ours.url, ours.version)
            with pytest.raises(ServiceUnavailable, match="cannot be killed"):
                theirs.kill()
        assert ours.pid is not None


def test_a_kind_from_the_environment_is_used(monkeypatch):
    monkeypatch.setenv("KAFKA_ONCE_TEST_KAFKA", "mock")
    with start_kafka() as kafka:
        assert kafka.kind == "mock"


@pytest.mark.parametrize("start", [start_kafka, start_redis])
def test_a_dead_address_from_the_environment_is_an_error_and_no_other_is_taken(monkeypatch, start):
    monkeypatch.setenv("KAFKA_ONCE_TEST_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("KAFKA_ONCE_TEST_REDIS", "redis://:secret@127.0.0.1:1")
    with pytest.raises(ServiceUnavailable, match=r"KAFKA_ONCE_TEST_\w+=(redis://)?127.0.0.1:1 does not answer"):
        start()


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ServiceUnavailable, match="docker, local, embedded"):
        start_redis("memory")


STARTS_TWO_AND_WAITS = """
import sys
from kafka_once.testing.services import process, start_kafka, start_redis
redis, kafka = start_redis("embedded"), start_kafka("mock")
print(process._guard._reaper.pid, redis.pid, kafka.pid, redis._program.folder, kafka._program.folder, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_started_dies_with_it():
    or_skip(lambda: start_redis("embedded")).close()
    command = [sys.executable, "-c", STARTS_TWO_AND_WAITS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        *pids, redis_folder, kafka_folder = parent.stdout.readline().split()
        watched = [os.pidfd_open(int(pid)) for pid in pids]
        assert Path(redis_folder).is_dir()

        parent.kill()

        for pidfd in watched:
            wait_for_end(pidfd)
    assert not Path(redis_folder).exists()
    assert not Path(kafka_folder).exists()


def wait_for_end(pidfd: int) -> None:
    """Return when the process has ended: a pidfd becomes readable then."""
    readable, _, _ = select.select([pidfd], [], [], 30)
    os.close(pidfd)
    assert readable, "a server outlived the process that started it"
