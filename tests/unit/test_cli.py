"""The command line without servers: what is said, and with which exit code."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Message as ClientMessage
from typer.testing import CliRunner

from kafka_once import BrokerRefused, Message, TopicPartition, compose, header
from kafka_once.cli import commands, in_doubt, onlooker, stats
from kafka_once.cli.in_doubt import _as_text
from kafka_once.cli.target import target_of
from kafka_once.keys import digest
from kafka_once.ports import Committed, Doubt, Namespace, Survey

ROOT = Path(__file__).parents[2]
NAMES = ["", "run", "shadow", "check", "settings", "plan", "stats", "in-doubt"]
OPTIONS = ("--bootstrap-servers", "localhost:1", "--group", "billing")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(onlooker, "ANSWER_S", 0.2)
    monkeypatch.delenv("KAFKA_ONCE_STORE", raising=False)
    known = set(sys.modules)
    yield lambda *arguments: CliRunner().invoke(commands, arguments)
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write_app(name="billing", group="billing", before="", more=""):
    """A module whose app reads one message of the in-memory cluster, and then asks its own process to end."""
    Path(f"{name}.py").write_text(f"""
import os, signal
{before}
from kafka_once import App, Message, header
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.member import Adapters

cluster = MemoryCluster()
cluster.create_topic("payments", 1)
cluster.produce("payments", None, b"secret payload", [("id", b"key-1")], 0)
adapters = Adapters(broker=lambda settings: MemoryBroker(cluster, settings.group))
app = App("localhost:1", group={group!r}, store="memory://", adapters=adapters{more})

@app.handler("payments", key=header("id"))
def charge(message: Message) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
""")


def write_watched_app(group="billing"):
    """A module with an app that only a shadow may run, and a thread that ends the process when all is read."""
    Path("billing.py").write_text(f"""
import os, signal, threading
from kafka_once import App, Message, header
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.member import Adapters

cluster = MemoryCluster()
cluster.create_topic("payments", 1)
for key, payload in ((b"a", b"1"), (b"b", b"2"), (b"a", b"1"), (b"a", b"secret"), (None, b"4")):
    cluster.produce("payments", None, payload, [] if key is None else [("id", key)], 0)
adapters = Adapters(broker=lambda settings: MemoryBroker(cluster, settings.group))
app = App("localhost:1", group={group!r}, store="memory://", adapters=adapters, commit_every="20ms")

@app.handler("payments", key=header("id"))
def charge(message: Message) -> None:
    raise SystemExit("a shadow calls no handler")

def end_when_all_is_read():
    pause = threading.Event()
    while sum(known.offset for known in cluster.committed("{group}.shadow").values()) < 5:
        pause.wait(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end_when_all_is_read, daemon=True).start()
""")


def the_sentence(result):
    """Standard error when it is one sentence, and the exit code is 1."""
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("kafka-once: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


# ----------------------------------------------------------------------------------------------------------------- run


def test_run_ends_with_0_when_it_was_asked_to_end(call):
    write_app()
    before = signal.getsignal(signal.SIGTERM)
    result = call("run", "billing:app", "--log-level", "ERROR")
    assert result.exit_code == 0, result.output
    assert sys.modules["billing"].app.stats()["completed"] == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_logs_json_lines_without_payloads_and_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_app()
    command = [sys.executable, "-m", "kafka_once.cli", "run", "billing:app"]
    options = ["--log-level", "DEBUG", "--log-format", "json"]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=True)

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert {line["level"] for line in lines} >= {"INFO", "DEBUG"}
    [outcome] = [line for line in lines if line.get("event") == "OUTCOME"]
    assert (outcome["topic"], outcome["offset"], outcome["outcome"]) == ("payments", 0, "completed")
    assert "secret payload" not in ended.stderr
    assert "key-1" not in ended.stderr


def test_run_knows_two_formats_of_logs(call):
    write_app()
    result = call("run", "billing:app", "--log-format", "yaml")
    assert result.exit_code == 2
    assert "text, json" in result.output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing:app", "there is no module 'nothing' here"),
        ("billing.nothing:app", "there is no module 'billing.nothing' here"),
        ("billing:nothing", "module 'billing' has no 'nothing'; it has the App 'app'"),
        ("billing:os", "'os' is a module, not an App"),
        ("billing", "write module:app"),
        ("billing:", "write module:app"),
        (":app", "write module:app"),
        ("billing.py:app", "name the module, not its file: billing:app"),
    ],
)
def test_run_says_what_is_wrong_with_the_name(call, name, expected):
    write_app()
    assert expected in the_sentence(call("run", name))


def test_a_module_without_an_app_is_told_so(call):
    Path("empty.py").write_text("")
    assert "it has no App at all" in the_sentence(call("run", "empty:app"))


def test_a_wrong_setting_in_the_module_is_one_sentence(call):
    write_app(more=", lease='50s'")
    assert "lease='50 s'" in the_sentence(call("run", "billing:app"))


def test_an_error_of_the_users_module_keeps_its_own_traceback(call):
    write_app(before="{}['amount']")
    result = call("run", "billing:app")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith("KeyError: 'amount'\n")
    assert "billing.py" in result.stderr
    assert "kafka_once" not in result.stderr


def test_a_module_that_the_users_module_misses_is_the_users_error(call):
    write_app(before="import nothing_like_this")
    result = call("run", "billing:app")
    assert result.stderr.startswith("Traceback")
    assert "No module named 'nothing_like_this'" in result.stderr


def test_an_app_without_handlers_is_one_sentence(call):
    Path("idle.py").write_text("from kafka_once import App\napp = App('localhost:1', group='g', store='memory://')\n")
    assert "no handler is registered" in the_sentence(call("run", "idle:app"))


@pytest.mark.parametrize(("value", "options"), [("1", ()), ("", ("--traceback",))])
def test_the_traceback_is_shown_when_it_is_wanted(call, monkeypatch, value, options):
    monkeypatch.setenv("KAFKA_ONCE_TRACEBACK", value)
    Path("idle.py").write_text("from kafka_once import App\napp = App('localhost:1', group='g', store='memory://')\n")
    result = call("run", "idle:app", *options)
    assert result.exit_code == 1
    assert "no handler is registered" in str(result.exception)  # raised out of main: Python prints it


def test_an_unknown_log_level_is_refused(call):
    assert call("run", "billing:app", "--log-level", "LOUD").exit_code == 2


# -------------------------------------------------------------------------------------------------------------- target


@pytest.mark.parametrize("command", ["check", "stats", "in-doubt"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--bootstrap-servers=None: name an app"),
        (("--bootstrap-servers", "localhost:1"), "--group=None: name an app"),
        (("billing:app", "--group", "other"), "--group='other': the app billing:app says it already"),
        (("billing:app", "--store", "redis://:secret@elsewhere/0"), "--store='redis://***@elsewhere/0': the app"),
        (("billing:app", "--kafka-config", "broken.properties"), "--kafka-config='broken.properties': the app"),
        (("nothing:app",), "there is no module 'nothing' here"),
        ((*OPTIONS, "--store", "http://:secret@host"), "store='***'"),
        ((*OPTIONS, "--kafka-config", "nothing.properties"), "it cannot be read (FileNotFoundError)"),
        ((*OPTIONS, "--kafka-config", "broken.properties"), "line 2 is not of the form name=value"),
        ((*OPTIONS, "--store", "memory://", "--kafka-config", "unknown.properties"), "no.such.setting"),
    ],
)
def test_a_target_that_is_none_is_one_sentence(call, command, arguments, expected):
    write_app()
    Path("broken.properties").write_text("# security\nsasl.password secret\n")
    Path("unknown.properties").write_text("no.such.setting=1\nsasl.password=secret\n")
    sentence = the_sentence(call(command, *arguments))
    assert expected in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize("command", ["stats", "in-doubt"])
def test_an_unreachable_kafka_is_one_sentence(call, command):
    assert "Kafka at localhost:1 does not answer" in the_sentence(call(command, *OPTIONS, "--store", "memory://"))


def test_check_prints_an_unreachable_kafka_as_a_problem_and_goes_on(call):
    result = call("check", *OPTIONS, "--store", "redis://:secret@localhost:1/0")
    assert result.exit_code == 1
    assert "problem  Kafka: Kafka at localhost:1 does not answer" in result.stdout
    assert "problem  store redis://***@localhost:1/0: " in result.stdout
    assert "secret" not in result.output


# --------------------------------------------------------------------------------------------------- stats and in-doubt


class FakeKafka:
    """Two partitions, one message."""

    message = Message("payments", 1, 7, headers=[("id", b"key-1")])

    def cluster_id(self):
        return "c1"

    def partitions(self, topics):
        return [TopicPartition(topic, number) for topic in topics for number in (0, 1)]

    def committed(self, partitions):
        return {each: Committed(8, None, "") if each.partition else None for each in partitions}

    def ends(self, _partition):
        return (5, 10)

    def message_at(self, partition, offset):
        if partition.topic != "payments":
            raise BrokerRefused("Kafka: it is gone")
        return self.message if (partition.partition, offset) == (1, 7) else None


class FakeStore:
    doubts_held: tuple[Doubt, ...] = ()

    def survey(self):
        frontiers = {TopicPartition("payments", 0): 6, TopicPartition("payments", 1): 9}
        return Survey(2, 3, 4000, 1, frontiers, {"deliveries": 12, "processings": 0, "completed": 9})

    def doubts(self, limit):
        return list(self.doubts_held)[:limit]

    def close(self):
        pass


@pytest.fixture
def fakes(monkeypatch):
    @contextmanager
    def looking_at(_settings):
        yield FakeKafka()

    store = FakeStore()
    for command in (stats, in_doubt):
        monkeypatch.setattr(command, "looking_at", looking_at)
    monkeypatch.setattr("kafka_once.cli.target.Target.open_store", lambda _self, _cluster_id: store)
    return store


def doubt(key=b"key-1", topic="payments", partition=1, offset=7):
    return Doubt(digest("payments", key), topic, partition, offset, 0, 11, 12, 1_700_000_000_000, "takeover")


@pytest.mark.usefixtures("fakes")
def test_stats_as_json(call):
    result = call("stats", *OPTIONS, "--store", "memory://", "--json")
    shown = json.loads(result.stdout)
    assert shown["group"] == "billing"
    assert shown["cluster"] == "c1"
    assert (shown["sessions"], shown["claims"], shown["done"], shown["in_doubt"]) == (2, 3, 4000, 1)
    assert shown["counters"] == {"deliveries": 12, "processings": 0, "completed": 9}
    assert shown["partitions"] == [
        {"topic": "payments", "partition": 0, "frontier": 6, "committed": None, "end": 10, "lag": 5},
        {"topic": "payments", "partition": 1, "frontier": 9, "committed": 8, "end": 10, "lag": 2},
    ]


@pytest.mark.usefixtures("fakes")
def test_stats_for_people(call):
    shown = call("stats", *OPTIONS, "--store", "memory://").stdout
    assert re.search(r"^ *4,000 +done keys", shown, re.MULTILINE)
    assert re.search(r"^ *9 +completed", shown, re.MULTILINE)
    assert "processings" not in shown, "what is zero is left out"
    assert re.search(r"^ *payments\[1\] +9 +8 +10 +2", shown, re.MULTILINE)


@pytest.mark.usefixtures("fakes")
def test_nothing_in_doubt(call):
    assert call("in-doubt", *OPTIONS, "--store", "memory://").stdout == "nothing is in doubt\n"


def test_in_doubt_lists_digests_and_no_key(call, fakes):
    fakes.doubts_held = (doubt(),)
    shown = call("in-doubt", *OPTIONS, "--store", "memory://").stdout
    assert "payments[1]@7" in shown
    assert digest("payments", b"key-1").hex() in shown
    assert "2023-11-14T22:13:20.000+00:00" in shown
    assert "11 → 12" in shown
    assert "takeover" in shown
    assert "key-1" not in shown


def test_in_doubt_shows_keys_that_fit_their_digest(call, fakes):
    fakes.doubts_held = (doubt(), doubt(key=b"key-2"), doubt(offset=3), doubt(topic="gone"))
    arguments = ("in-doubt", *OPTIONS, "--store", "memory://", "--show-keys", "--json")
    fits, another, expired, gone = json.loads(call(*arguments, "--key-header", "id").stdout)
    assert (fits["key"], fits["note"]) == ("key-1", None)
    assert (another["key"], "another digest" in another["note"]) == (None, True)
    assert (expired["key"], expired["note"]) == (None, "the message is not in Kafka any more")
    assert (gone["key"], gone["note"]) == (None, "Kafka: it is gone")
    missing = json.loads(call(*arguments, "--key-header", "nothing").stdout)[0]
    assert (missing["key"], missing["note"]) == (None, "header('nothing'): the key is missing")


def test_in_doubt_shows_keys_in_the_scope_that_is_named(call, fakes):
    fakes.doubts_held = (doubt()._replace(digest=digest("orders", b"key-1")),)
    arguments = ("in-doubt", *OPTIONS, "--store", "memory://", "--show-keys", "--key-header", "id", "--json")
    assert json.loads(call(*arguments, "--scope", "orders").stdout)[0]["key"] == "key-1"
    assert json.loads(call(*arguments).stdout)[0]["key"] is None


def test_in_doubt_finds_the_key_by_the_apps_definition(call, fakes):
    write_app()
    fakes.doubts_held = (doubt(), doubt(topic="unknown"))
    shown = call("in-doubt", "billing:app", "--show-keys").stdout.splitlines()
    assert shown[1].rstrip().endswith("key-1")
    assert "(Kafka: it is gone)" in shown[2]


@pytest.mark.usefixtures("fakes")
def test_show_keys_needs_to_know_where_they_stand(call):
    sentence = the_sentence(call("in-doubt", *OPTIONS, "--store", "memory://", "--show-keys"))
    assert "--key-header NAME" in sentence


def test_limit(call, fakes):
    fakes.doubts_held = tuple(doubt(offset=offset) for offset in range(5))
    assert len(json.loads(call("in-doubt", *OPTIONS, "--store", "memory://", "--limit", "2", "--json").stdout)) == 2
    assert call("in-doubt", *OPTIONS, "--store", "memory://", "--limit", "0").exit_code == 2


def test_a_group_without_a_store_has_no_claims_to_look_at(call, monkeypatch):
    @contextmanager
    def looking_at(_settings):
        yield FakeKafka()

    monkeypatch.setattr(stats, "looking_at", looking_at)
    assert "there are no claims to look at" in the_sentence(call("stats", *OPTIONS))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"order-7", "order-7"),
        ("größe".encode(), "größe"),
        (b"\x1b[31m", "b'\\x1b[31m'"),
        (b"\xff", "\\xff"),
        (b"P", "P"),
    ],
)
def test_a_key_is_never_a_terminals_command(key, text):
    assert _as_text(key) == text


def test_a_composed_key_is_shown_by_its_parts():
    message = Message("payments", 0, 7, headers=(("tenant", b"a"), ("id", b"order-7")))
    key = compose(header("tenant"), compose(header("id"), header("tenant")))

    assert _as_text(key.extract(message)) == "(a, (order-7, a))"


@pytest.mark.usefixtures("call")
def test_the_store_of_a_target_belongs_to_its_cluster_and_group():
    write_app(more=", cluster='named'")
    target = target_of("billing:app", servers=None, group=None, store=None)
    assert target.namespace("told") == Namespace("named", "billing")
    assert target.topics() == ["payments"]
    by_options = target_of(None, servers="localhost:1", group="g", store=None)
    assert by_options.namespace("told") == Namespace("told", "g")


# ---------------------------------------------------------------------------------------------------------------- help


def test_shadow_says_what_it_saw(call):
    write_watched_app()
    result = call("shadow", "billing:app")

    assert result.exit_code == 0, result.output
    assert "secret" not in result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "group billing.shadow, beside group billing",
        "5 messages read",
        "2 would be processed",
        "2 would be skipped: repeats",
        "1 of these have another payload than the first of their key: is the key too coarse?",
        "1 have no usable key: on_missing_key would decide",
        *(line for line in lines if "remember_for" in line),
        "for example message first of its key or payload",
        *(line for line in lines if "payments[0]@" in line),
    ]
    assert sorted(line for line in lines if "payments[0]@" in line) == [
        "missing_keys payments[0]@4",
        "other_payload payments[0]@3 payments[0]@0",
    ]


def test_shadow_as_json(call):
    write_watched_app("other")
    shown = json.loads(call("shadow", "billing:app", "--json", "--group", "other.shadow").stdout)

    assert (shown["group"], shown["deliveries"], shown["would_skip"]) == ("other.shadow", 5, 2)
    assert {"what": "missing_keys", "message": "payments[0]@4", "first": ""} in shown["examples"]


def test_shadow_does_not_take_the_apps_own_group(call):
    write_watched_app()

    assert "group='billing': that is the app's own group" in the_sentence(
        call("shadow", "billing:app", "--group", "billing")
    )


def test_the_documented_help_is_the_real_one():
    page = (ROOT / "docs" / "cli.md").read_text()
    blocks = re.findall(r"```\n\$ kafka-once( [a-z-]+)? --help\n(.*?)```", page, re.DOTALL)
    assert [name.strip() for name, _ in blocks] == NAMES
    for name, text in blocks:
        shown = CliRunner().invoke(commands, [*name.split(), "--help"], prog_name="kafka-once").stdout
        assert text.strip() == shown.strip(), f"docs/cli.md: the help of kafka-once{name} has changed"


def test_the_versions_are_shown(call):
    shown = call("--version")

    assert shown.exit_code == 0
    assert re.fullmatch(r"kafka-once \d+\.\d+\S*, confluent-kafka \d+\.\d+\S*\n", shown.stdout)


def test_a_record_without_headers_is_shown_like_any_other():
    """The client says None for no headers; its key stands in the payload, say."""
    record = ClientMessage("payments", 0, 7, value=b'{"id": "order-7"}', timestamp=(0, 0), headers=None)

    shown = onlooker._message(TopicPartition("payments", 0), record)

    assert (shown.value, shown.headers) == (b'{"id": "order-7"}', ())
