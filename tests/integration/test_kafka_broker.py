"""What only a real Kafka shows: a start that cannot be, exceptions inside the client, static members, lost answers."""

import socket
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Mapping

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from kafka_once.brokers.kafka import KafkaBroker
from kafka_once.errors import BrokerRefused, BrokerUnavailable
from kafka_once.message import TopicPartition
from kafka_once.ports import CommitMark, GroupTimes
from kafka_once.testing.broker_members import Member, drive
from kafka_once.testing.services import KafkaServer, start_kafka
from kafka_once.testing.services.kafka_apache import ApacheKafka
from tests.conftest import or_skip

pytestmark = pytest.mark.integration

CLASSIC = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
CONSUMER = {"group.protocol": "consumer"}


class Group:
    """A new topic and a new group, whose members are closed after the test."""

    def __init__(self, server: KafkaServer, partitions: int = 2):
        self.server = server
        self.name = f"group-{uuid.uuid4().hex[:12]}"
        self.topic = f"topic-{uuid.uuid4().hex[:12]}"
        self.warnings: list[str] = []
        self.members: list[Member] = []
        server.create_topic(self.topic, partitions)

    def member(self, settings: Mapping[str, object] = CLASSIC, **options: float) -> Member:
        connection = {"bootstrap.servers": self.server.bootstrap, "group.id": self.name}
        broker = KafkaBroker({**connection, **settings}, None, self.warnings.append, **options)
        self.members.append(Member(broker))
        return self.members[-1]

    def produce(self, count: int, partition: int = 0, first: int = 0) -> list[bytes]:
        producer = Producer({"bootstrap.servers": self.server.bootstrap, "linger.ms": 0})
        values = [str(number).encode() for number in range(first, first + count)]
        for value in values:
            producer.produce(self.topic, value, partition=partition)
        assert producer.flush(30) == 0
        return values


@pytest.fixture
def group(kafka):
    if kafka.kind == "mock":
        pytest.skip("needs a real Kafka")
    made = Group(kafka)
    yield made
    for member in made.members:
        member.broker.close(10.0)


# -------------------------------------------------------------------------------------------------- a start that fails


class Deaf:
    on_assigned = on_revoked = on_lost = staticmethod(print)


def test_a_kafka_that_does_not_answer_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses connections, and nobody else can listen there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        broker = KafkaBroker({"bootstrap.servers": address, "group.id": "g"}, on_warning=print, start_timeout_s=1.0)
        with pytest.raises(BrokerUnavailable, match=address):
            broker.start(["t"], Deaf())
        broker.close(5.0)


def test_a_topic_that_does_not_exist_is_named(group):
    with pytest.raises(BrokerRefused, match=r"topic 'paymnets' does not exist: create it"):
        group.member().start(group.topic, "paymnets")


def test_a_pattern_needs_no_topic(group):
    group.member().start("^nothing-like-this-.*")


def test_how_long_the_group_waits_is_asked_where_the_broker_decides_it(group):
    assert group.member(CONSUMER).broker.group_times() == GroupTimes(session_timeout_ms=6_000, heartbeat_ms=1_000)
    own = ConfigEntry("consumer.session.timeout.ms", "9000", incremental_operation=AlterConfigOpType.SET)
    asked = ConfigResource(ConfigResource.Type.GROUP, group.name, incremental_configs=[own])
    admin = group.server.admin()
    for answer in admin.incremental_alter_configs([asked]).values():
        answer.result(10)
    drive([], lambda: group.member(CONSUMER).broker.group_times() == GroupTimes(9_000, 1_000))
    assert group.member(CLASSIC).broker.group_times() is None


ACCOUNTS = 'user_admin="admin-secret" user_reader="reader-secret" user_nobody="nobody-secret"'
SECURED = {
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="admin" password="admin-secret" {ACCOUNTS};'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin;User:reader;User:ANONYMOUS",
}


def _as_user(user: str, password: str) -> dict[str, object]:
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": password,
    }


class SecuredKafka(ApacheKafka):
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, **_as_user("admin", "admin-secret")})


@pytest.fixture(scope="module")
def secured_kafka():
    with or_skip(lambda: SecuredKafka(SECURED)) as server:
        yield server


@pytest.fixture
def secured(secured_kafka):
    made = Group(secured_kafka)
    yield made
    for member in made.members:
        member.broker.close(10.0)


def test_a_user_who_may_not_know_how_long_the_group_waits_is_told_nothing(secured):
    assert secured.member(CONSUMER | _as_user("nobody", "nobody-secret")).broker.group_times() is None
    assert secured.member(CONSUMER | _as_user("reader", "reader-secret")).broker.group_times() == GroupTimes(
        6_000, 1_000
    )


def test_a_wrong_password_is_refused_and_not_shown(secured, caplog):
    member = secured.member(_as_user("reader", "wrong-canary"))
    with pytest.raises(BrokerRefused, match=r"sasl\.password") as refused:
        member.start(secured.topic)
    assert "wrong-canary" not in str(refused.value) + repr(member.broker) + caplog.text


def test_the_right_password_is_welcome_and_clear_text_is_warned_of(secured):
    member = secured.member({**CLASSIC, **_as_user("reader", "reader-secret")}).start(secured.topic)
    drive([member], lambda: len(member.owned) == 2)
    assert any("clear text" in warning for warning in secured.warnings)


def test_a_topic_that_may_not_be_read_is_named(secured):
    member = secured.member(_as_user("nobody", "nobody-secret"))
    with pytest.raises(BrokerRefused, match=f"topic '{secured.topic}' may not be read"):
        member.start(secured.topic)


# ----------------------------------------------------------------------------------------- exceptions inside the client


class Thrower:
    """The client's Consumer; once it throws, after it has dequeued what is there, as a signal or a callback does."""

    def __init__(self, consumer):
        self._consumer = consumer
        self.thrown_away: list[bytes] = []

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    def consume(self, count, timeout_s):
        records = self._consumer.consume(count, timeout_s)
        if records and not self.thrown_away:
            self.thrown_away = [record.value() for record in records]
            raise KeyboardInterrupt
        return records


@pytest.mark.parametrize("returned_before", [0, 5])
@pytest.mark.parametrize("committed_before", [0, 3])
def test_an_exception_inside_poll_loses_nothing(group, returned_before, committed_before):
    """Finding 5. Nothing returned yet: reading starts again at the commit, or at the beginning."""
    values = group.produce(returned_before)
    member = group.member().start(group.topic)
    partition = TopicPartition(group.topic, 0)
    drive([member], lambda: len(member.owned) == 2 and len(member.received) == returned_before)
    if committed_before:
        values += group.produce(committed_before, first=100)
        drive([member], lambda: len(member.received) == len(values))
        member.broker.commit_now([CommitMark(partition, len(values))], 10.0)
        member.broker.close(10.0)
        member = group.member().start(group.topic)
        drive([member], lambda: len(member.owned) == 2)
        values = []

    client = member.broker._client
    client.consumer = thrower = Thrower(client.consumer)
    values += group.produce(200, first=1000)

    def throws() -> bool:
        try:
            member.poll(timeout_s=0.5)
        except KeyboardInterrupt:
            return True
        return False

    while not throws():
        pass
    assert thrower.thrown_away
    drive([member], lambda: len(member.received) >= len(values))
    assert member.values() == values


def test_a_bug_in_a_callback_comes_out_of_poll_as_such_and_loses_nothing(group):
    member = group.member().start(group.topic)
    drive([member], lambda: len(member.owned) == 2)
    client = member.broker._client

    class Stumbler(Thrower):
        """Has a callback that fails, in the poll that dequeues messages."""

        def consume(self, count, timeout_s):
            try:
                return super().consume(count, timeout_s)
            except KeyboardInterrupt:
                client._guarded(lambda: 1 / 0)()
                return []

    client.consumer = stumbler = Stumbler(client.consumer)
    values = group.produce(50)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        drive([member], lambda: False)
    assert stumbler.thrown_away
    drive([member], lambda: len(member.received) >= 50)
    assert member.values() == values


# ------------------------------------------------------------------------------------------------------ static members


def test_a_classic_static_member_is_refused_when_another_takes_its_id(group):
    settings = {**CLASSIC, "group.instance.id": "one"}
    first = group.member(settings).start(group.topic)
    drive([first], lambda: len(first.owned) == 2)
    second = group.member(settings).start(group.topic)
    with pytest.raises(BrokerRefused, match=r"group\.instance\.id"):
        drive([second, first], lambda: False)
    drive([second], lambda: len(second.owned) == 2)


def test_with_the_consumer_protocol_it_waits_for_the_id_and_gets_in(group):
    settings = {**CONSUMER, "group.instance.id": "one"}
    first = group.member(settings).start(group.topic)
    drive([first], lambda: len(first.owned) == 2)
    second = group.member(settings).start(group.topic)
    drive([second, first], lambda: bool(group.warnings))
    assert not second.owned
    first.broker.close(10.0)
    drive([second], lambda: len(second.owned) == 2)
    assert len([warning for warning in group.warnings if "group.instance.id" in warning]) == 1


def test_with_the_consumer_protocol_it_gives_up_after_a_while(group):
    settings = {**CONSUMER, "group.instance.id": "one"}
    first = group.member(settings).start(group.topic)
    drive([first], lambda: len(first.owned) == 2)
    second = group.member(settings, rejoin_timeout_s=1.0).start(group.topic)
    with pytest.raises(BrokerRefused, match=r"group\.instance\.id"):
        drive([second, first], lambda: False)
    assert len(first.owned) == 2


# ------------------------------------------------------------------------------------------------------- lost answers


@pytest.fixture(scope="module")
def frail_kafka():
    with or_skip(lambda: start_kafka("apache")) as server:
        yield server


def test_what_kafka_does_not_answer_is_told_in_time_and_close_does_not_hang(frail_kafka):
    group = Group(frail_kafka)
    member = group.member(answer_timeout_s=0.5).start(group.topic)
    drive([member], lambda: len(member.owned) == 2)
    partition = TopicPartition(group.topic, 0)
    answers: list[str] = []
    frail_kafka.pause()
    try:
        with pytest.raises(BrokerUnavailable):
            member.broker.committed([partition])
        (result,) = member.broker.commit_now([CommitMark(partition, 0)], 0.5)
        assert result.verdict == "retry"
        member.broker.commit([CommitMark(partition, 0)], lambda got: answers.extend(r.verdict for r in got))
        closing = threading.Thread(target=member.broker.close, args=(2.0,))
        closing.start()
        closing.join(4.0)
        assert not closing.is_alive()
        assert answers == ["retry"]
        assert not member.owned
    finally:
        frail_kafka.resume()


def test_a_callback_that_raises_at_the_end_does_not_keep_the_client_from_ending(group):
    """Left to the garbage collector, it would hold up for ever whichever thread that runs in."""
    member = group.member().start(group.topic)
    drive([member], lambda: len(member.owned) == 2)
    consumer = member.broker._client.consumer

    def wrong(_partitions):
        raise ValueError("a bug in the callback")

    member.at_revoke = wrong
    with pytest.raises(ValueError, match="a bug in the callback"):
        member.broker.close(10.0)
    with pytest.raises(RuntimeError, match="closed"):
        consumer.assignment()


# In a process of its own: what would hang is the whole process, with the GIL held, so that no time-out inside it fires.
LEAVING_WHILE_JOINING = textwrap.dedent(
    """
    import sys
    from kafka_once.brokers.kafka import KafkaBroker
    from kafka_once.testing.broker_members import Member, drive
    from kafka_once.testing.services import start_kafka

    with start_kafka("mock") as server:
        server.create_topic("first", 2)
        server.create_topic("second", 1)
        for number in range(60):
            def member(topic):
                group = {"group.id": f"{topic}-{number}", "group.protocol": "consumer", **static}
                return Member(KafkaBroker({"bootstrap.servers": server.bootstrap, **group})).start(topic)

            static = {"group.instance.id": "one"} if sys.argv[1] == "static" else {}
            first = member("first")
            drive([first], lambda: len(first.owned) == 2)
            second = member("second")  # its assignment is on its way
            first.broker.close(10.0)
            second.broker.close(10.0)
    print("left")
    """
)


@pytest.mark.parametrize("membership", ["dynamic", "static"])
def test_a_member_that_leaves_while_it_joins_does_not_stop_its_process(membership):
    program = [sys.executable, "-c", LEAVING_WHILE_JOINING, membership]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)
    assert ended.stdout == "left\n", ended.stderr
