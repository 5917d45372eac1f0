"""The command line on a real Kafka and a real Redis."""

import json
import os
import re
import subprocess
import sys
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType
from typer.testing import CliRunner

from kafka_once.cli import commands
from kafka_once.testing.services import start_kafka, start_redis
from tests.conftest import or_skip

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000


class Project:
    """A folder with an app, as a user has it; group and topic are its own."""

    def __init__(self, kafka, redis_server, folder):
        self.kafka, self.redis_server = kafka, redis_server
        self.name = f"app_{uuid4().hex[:8]}"
        self.topic = f"payments-{self.name}"
        self._folder = folder

    def write_app(self, body="", servers=None, store=None, **settings):
        servers, store = servers or self.kafka.bootstrap, store or self.redis_server.url
        more = "".join(f", {name}={value!r}" for name, value in settings.items())
        (self._folder / f"{self.name}.py").write_text(f"""
import os, signal
from kafka_once import App, InDoubt, Message, header
app = App({servers!r}, group={self.name!r}, store={store!r}{more})

@app.handler({self.topic!r}, key=header("id"))
def charge(message: Message) -> None:
    {body or "pass"}
""")
        return f"{self.name}:app"

    def create_topic(self, name=None, retention_ms=HOUR_MS):
        self.kafka.create_topic(name or self.topic, 2, {"retention.ms": str(retention_ms)})

    def produce(self, *ids):
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap})
        for number, key in enumerate(ids):
            producer.produce(self.topic, b"secret payload", headers={"id": key}, partition=number % 2)
        producer.flush()

    def run(self, app):
        """`kafka-once run` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "kafka_once.cli", "run", app],
            cwd=self._folder,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def call(self, *arguments):
        return CliRunner().invoke(commands, arguments)

    def options(self):
        return ("--bootstrap-servers", self.kafka.bootstrap, "--group", self.name, "--store", self.redis_server.url)


@pytest.fixture
def project(kafka, redis_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = Project(kafka, redis_server, tmp_path)
    yield made
    sys.modules.pop(made.name, None)


def the_sentence(result):
    """The one sentence that a process said last on standard error."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    sentences = [line for line in result.stderr.splitlines() if line.startswith("kafka-once: ")]
    assert len(sentences) == 1, result.stderr
    assert result.stderr.endswith(f"{sentences[0]}\n")
    return sentences[0]


def findings(result):
    """level → the lines of that level."""
    lines = [line.split(None, 1) for line in result.stdout.splitlines()]
    return {level: [text for each, text in lines if each == level] for level in ("ok", "warning", "problem")}


# --------------------------------------------------------------------------------------------------------------- check


def test_check_finds_everything_in_order(project):
    project.create_topic()
    project.create_topic(f"{project.topic}.dead")
    app = project.write_app(dead_letter_topic=f"{project.topic}.dead")
    result = project.call("check", app)
    assert result.exit_code == 0, result.output
    found = findings(result)
    assert found["problem"] == []
    assert [line for line in found["warning"] if not line.startswith("store")] == []
    assert f"topic {project.topic}: 2 partitions" in found["ok"]
    assert f"dead-letter topic {project.topic}.dead: 2 partitions" in found["ok"]
    assert f"group {project.name}: may be joined" in found["ok"]
    assert any(line.endswith("answers, and keeps what is written to it") for line in found["ok"])


def test_check_by_options(project):
    project.create_topic()
    result = project.call("check", *project.options(), "--topic", project.topic)
    assert result.exit_code == 0, result.output
    assert f"topic {project.topic}: 2 partitions" in findings(result)["ok"]


def test_check_joins_no_group_and_moves_no_offset(project):
    project.create_topic()
    project.produce("a")
    project.call("check", project.write_app())
    result = project.call("stats", *project.options(), "--json")
    assert json.loads(result.stdout)["sessions"] == 0
    admin = project.kafka.admin()  # it answers as long as somebody holds it
    (group,) = admin.describe_consumer_groups([project.name]).values()
    assert group.result(10).members == []


def test_check_compares_what_is_remembered_with_what_is_kept(project):
    project.create_topic(retention_ms=7 * 24 * HOUR_MS)
    (warning,) = [
        line for line in findings(project.call("check", project.write_app()))["warning"] if "remember" in line
    ]
    assert "remembered for 24 h" in warning
    assert "keeps messages for 7 d" in warning


def test_check_finds_missing_topics(project):
    result = project.call("check", project.write_app(dead_letter_topic="no-dead-letters"))
    assert result.exit_code == 1
    missing, dead_letters = findings(result)["problem"]
    assert f"topic '{project.topic}' does not exist: create it" in missing
    assert "dead-letter topic no-dead-letters: topic 'no-dead-letters' does not exist" in dead_letters


def test_check_finds_a_pattern_that_matches_nothing(project):
    result = project.call("check", *project.options(), "--topic", f"^{project.topic}.*")
    assert result.exit_code == 0
    assert f"topics ^{project.topic}.*: none matches now" in findings(result)["warning"]


@pytest.mark.parametrize(
    ("config", "password", "expected"),
    [
        ({}, "right", "the user name or the password is missing or wrong"),
        ({"maxmemory-policy": "allkeys-lru"}, None, "set maxmemory-policy to noeviction"),
    ],
)
def test_check_and_run_find_what_is_wrong_with_redis(project, config, password, expected):
    project.create_topic()
    with or_skip(lambda: start_redis("embedded", password=password, config=config)) as server:
        store = server.url.replace("right", "wrong")
        app = project.write_app(store=store)
        result = project.call("check", app)
        assert result.exit_code == 1
        (problem,) = findings(result)["problem"]
        assert expected in problem
        sentence = the_sentence(project.run(app))
        assert expected in sentence
        assert "wrong@" not in problem + sentence
        assert expected in project.call("stats", app).stderr if password else True


def test_check_and_run_find_that_redis_is_away(project):
    project.create_topic()
    app = project.write_app(store="redis://:secret@localhost:1/0")
    (problem,) = findings(project.call("check", app))["problem"]
    sentence = the_sentence(project.run(app))
    for text in (problem, sentence):
        assert "the connection failed" in text
        assert "secret" not in text


@pytest.fixture(scope="module")
def guarded_kafka():
    """A Kafka that asks for permissions: who is named nowhere may do everything, else only what is allowed."""
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with or_skip(lambda: start_kafka("apache", config=config)) as server:
        yield server


@pytest.fixture
def guarded(guarded_kafka, redis_server, project, tmp_path):  # noqa: ARG001  (project: we are in its folder)
    made = Project(guarded_kafka, redis_server, tmp_path)
    yield made
    sys.modules.pop(made.name, None)


def allow(server, kind, name, operation, user):
    acl = AclBinding(kind, name, ResourcePatternType.LITERAL, user, "*", operation, AclPermissionType.ALLOW)
    admin = server.admin()
    for created in admin.create_acls([acl]).values():
        created.result(10)


def test_check_finds_missing_permissions(guarded):
    dead_letters = f"{guarded.topic}.dead"
    app = guarded.write_app(dead_letter_topic=dead_letters)
    guarded.create_topic()
    guarded.create_topic(dead_letters)
    assert findings(guarded.call("check", app))["problem"] == []

    allow(guarded.kafka, ResourceType.TOPIC, guarded.topic, AclOperation.DESCRIBE, "User:ANONYMOUS")
    allow(guarded.kafka, ResourceType.TOPIC, dead_letters, AclOperation.READ, "User:ANONYMOUS")
    allow(guarded.kafka, ResourceType.GROUP, guarded.name, AclOperation.READ, "User:somebody")
    result = guarded.call("check", app)
    assert result.exit_code == 1
    assert findings(result)["problem"] == [
        f"group {guarded.name}: this user may not join it: allow Read on the group",
        f"topic {guarded.topic}: this user may not read it: allow Read on the topic",
        f"dead-letter topic {dead_letters}: this user may not write it: allow Write on the topic",
    ]
    assert "allow Read on the group" in the_sentence(guarded.run(app))


def test_check_finds_a_topic_that_may_not_be_seen(guarded):
    guarded.create_topic()
    allow(guarded.kafka, ResourceType.TOPIC, guarded.topic, AclOperation.ALL, "User:somebody")
    app = guarded.write_app()
    (problem,) = findings(guarded.call("check", app))["problem"]
    assert "may not be read by this user: allow Read and Describe" in problem
    assert "may not be read by this user: allow Read and Describe" in the_sentence(guarded.run(app))


# ----------------------------------------------------------------------------------------------------------------- run


def test_run_says_that_a_topic_is_missing(project):
    assert f"topic '{project.topic}' does not exist" in the_sentence(project.run(project.write_app()))


def test_run_says_that_kafka_does_not_answer(project):
    result = project.run(project.write_app(servers="localhost:1"))
    assert "Kafka at localhost:1 does not answer" in the_sentence(result)
    assert len(result.stderr.splitlines()) < 10, "librdkafka's lines about each try are left out"


def test_run_says_why_it_stopped(project):
    project.create_topic()
    project.produce("a")
    result = project.run(project.write_app("raise ValueError('not today')", attempts=1))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("kafka-once: ")
    assert "secret payload" not in result.stderr


# -------------------------------------------------------------------------------------------------- stats and in-doubt


ENDS_AFTER_THREE = """if not message.in_doubt: raise InDoubt("was it charged?")
    os.kill(os.getpid(), signal.SIGTERM) if app.stats()["completed"] >= 2 else None"""


def test_stats_and_in_doubt_after_a_run(project):
    project.create_topic()
    project.produce("order-0", "order-1", "order-2")
    app = project.write_app(ENDS_AFTER_THREE, concurrency=1)
    ran = project.run(app)
    assert ran.returncode == 0, ran.stderr
    assert "order-" not in ran.stderr

    for named in ((app,), project.options()):
        shown = json.loads(project.call("stats", *named, "--json").stdout)
        assert (shown["sessions"], shown["claims"], shown["done"], shown["in_doubt"]) == (0, 0, 3, 3)
        assert shown["counters"]["deliveries"] == shown["counters"]["completed"] == 3
        assert [(each["committed"], each["end"], each["lag"]) for each in shown["partitions"]] == [(2, 2, 0), (1, 1, 0)]
    assert re.search(r"^ *3 +completed", project.call("stats", app).stdout, re.MULTILINE)

    listed = json.loads(project.call("in-doubt", app, "--json").stdout)
    assert sorted((each["partition"], each["offset"], each["reason"]) for each in listed) == [
        (0, 0, "raised"),
        (0, 1, "raised"),
        (1, 0, "raised"),
    ]
    assert "order-" not in project.call("in-doubt", app).output
    with_options = ("in-doubt", *project.options(), "--show-keys", "--key-header", "id")
    for arguments in (("in-doubt", app, "--show-keys"), with_options):
        keys = {each["key"] for each in json.loads(project.call(*arguments, "--json").stdout)}
        assert keys == {"order-0", "order-1", "order-2"}


def test_a_topic_that_is_gone_has_no_keys_to_show(project):
    project.create_topic()
    project.produce("order-0", "order-1", "order-2")
    app = project.write_app(ENDS_AFTER_THREE, concurrency=1)
    assert project.run(app).returncode == 0
    admin = project.kafka.admin()
    admin.delete_topics([project.topic])[project.topic].result(30)
    listed = json.loads(project.call("in-doubt", app, "--show-keys", "--json").stdout)
    assert [each["key"] for each in listed] == [None, None, None]
    assert all(each["note"] for each in listed)


def test_check_finds_that_the_store_lost_its_memory(project):
    project.create_topic()
    project.produce("order-0", "order-1", "order-2")
    with or_skip(lambda: start_redis("embedded")) as server:
        app = project.write_app(ENDS_AFTER_THREE, store=server.url, concurrency=1)
        assert project.run(app).returncode == 0
        assert findings(project.call("check", app))["problem"] == []
        with server.client() as client:
            client.flushall()
        (problem,) = findings(project.call("check", app))["problem"]
        assert "it is empty, and Kafka's offsets say that the group worked with it before" in problem
