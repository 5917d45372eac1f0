"""The documents say what the code does: examples run, tables are complete, links lead somewhere, names exist."""

import importlib
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException

import kafka_once
from kafka_once import errors
from kafka_once.brokers import kafka_settings
from kafka_once.brokers.memory import MemoryBroker, MemoryCluster
from kafka_once.cli import commands
from kafka_once.core.events import Counters, Kind, Outcome
from kafka_once.dead_letters import HEADER_PREFIX, dead_letter_of
from kafka_once.log_lines import LEVELS
from kafka_once.member import Adapters
from kafka_once.producing import Producer
from kafka_once.settings import Settings, default_shown, settings_table
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.testing.services import start_kafka
from tests.tidy.documents import ROOT, anchors, broken_links, code_block, documents, first_column, section
from tests.tidy.sources import sources

README = (ROOT / "README.md").read_text()
DESIGN = (ROOT / "DESIGN.md").read_text()
SETTINGS = (ROOT / "docs/settings.md").read_text()
API = (ROOT / "docs/api.md").read_text()
COUNTERS = (ROOT / "docs/counters.md").read_text()
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()
PATIENCE_S = 20

# ------------------------------------------------------------------------------------------------------ examples run


class Memory:
    """A Kafka and a store in this process."""

    def __init__(self, ids: list[str]) -> None:
        self.cluster = MemoryCluster()
        self.cluster.create_topic("payments", 1)
        for name in ids:
            payload = json.dumps({"id": name, "amount": "12.50"}).encode()
            self.cluster.produce("payments", b"account", payload, [("idempotency-key", name.encode())])
        state = MemoryState()
        self.adapters = Adapters(
            broker=lambda settings: MemoryBroker(self.cluster, settings.group, settings.instance_id),
            store=lambda settings, namespace: MemoryStore(namespace, settings.lease_ms, state=state),
        )


def run_example(name: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code_block(README, name), "README.md", "exec", dont_inherit=True), names)
    return names


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if condition():
            return
        pause.wait(0.01)  # what the other threads did can only be looked at
    raise AssertionError(f"not within {PATIENCE_S} s")


def test_the_example_charges_once_for_each_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = Memory(["p-1", "p-2", "p-1", "p-2", "p-1"])
    monkeypatch.setattr(kafka_once, "App", partial(kafka_once.App, adapters=memory.adapters))

    app = run_example("decorator", {"__name__": "billing"})["app"]
    app.start()
    wait_until(lambda: app.stats()["completed"] + app.stats()["repeat"] == 5)
    app.stop()
    assert app.join(PATIENCE_S)

    assert capsys.readouterr().out.splitlines() == ["charging 12.50 for p-1", "charging 12.50 for p-2"]
    assert app.stats()["completed"] == 2


def test_the_example_is_as_short_as_its_heading_says() -> None:
    lines = [line for line in code_block(README, "decorator").splitlines() if line.strip()]

    assert 10 <= len(lines) <= 15
    assert "## Fifteen lines" in README


def test_the_loop_with_two_changed_lines_is_given_each_id_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(["p-1", "p-2", "p-1", "end"])
    monkeypatch.setattr(kafka_once, "Consumer", partial(kafka_once.Consumer, adapters=memory.adapters))
    charged: list[str] = []

    def charge(payment: dict[str, str]) -> None:
        charged.append(payment["id"])
        if payment["id"] == "end":
            raise EOFError

    conf = {"bootstrap.servers": "localhost:9092", "group.id": "billing", "enable.auto.commit": False}
    names = {"conf": conf, "charge": charge, "json": json, "KafkaException": KafkaException}
    with pytest.raises(EOFError):
        run_example("loop", names)
    names["consumer"].close()

    assert charged == ["p-1", "p-2", "end"]
    stats = names["consumer"].stats()
    assert (stats["completed"], stats["repeat"], stats["handed_back"]) == (2, 1, 1)


def test_the_with_form_gives_a_failed_message_again() -> None:
    memory = Memory(["p-1", "p-2"])
    conf = {"bootstrap.servers": "localhost:9092", "group.id": "billing"}
    charged: Counter[str] = Counter()

    def charge(payment: dict[str, str]) -> None:
        charged[payment["id"]] += 1
        if charged["p-1"] == 1 and payment["id"] == "p-1":
            raise ConnectionError

    key = kafka_once.header("idempotency-key")
    with kafka_once.Consumer(conf, store="memory://", key=key, adapters=memory.adapters, backoff="10ms") as consumer:
        consumer.subscribe(["payments"])
        run_example("with", {"consumer": itertools.islice(consumer, 3), "charge": charge, "json": json})

    assert charged == {"p-1": 2, "p-2": 1}


def test_the_example_of_the_senders_half_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_kafka("mock") as kafka:
        monkeypatch.setattr(kafka_once, "Producer", lambda _servers: Producer(kafka.bootstrap))
        run_example("producer", {"payload": b"{}"})

    assert capsys.readouterr().out == "0\n"


def test_the_example_of_a_test_passes(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_example("decorator", {"__name__": "billing"})

    run_example("memory", names)
    assert capsys.readouterr().out == "charging 12.50 for p-1\n"


# -------------------------------------------------------------------------------------------------- tables are complete


def test_what_is_refused_of_librdkafkas_settings_is_told() -> None:
    refused = section(SETTINGS, "librdkafka's settings").split("<!-- kafka-defaults")[0]

    assert sorted(first_column(refused)) == sorted([*kafka_settings._REFUSED, *kafka_settings._BROKER_SIDE])


def test_librdkafkas_settings_that_have_other_defaults_are_told() -> None:
    [table] = re.findall(r"<!-- kafka-defaults: begin -->\n(.*?)<!-- kafka-defaults: end -->", SETTINGS, re.DOTALL)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    shown = {
        name: value.strip("`")
        for names, values, _ in rows
        for name, value in zip(re.findall(r"`(.+?)`", names), values.split(", "), strict=True)
    }
    made = kafka_settings.consumer_settings({"bootstrap.servers": "localhost", "group.id": "g"})

    assert shown == {name: str(made[name]).lower() for name in shown}
    assert set(made) - set(shown) == {"bootstrap.servers", "group.id", *kafka_settings._FORCED}


def test_the_settings_table_is_the_one_that_the_code_makes() -> None:
    found = re.search(r"<!-- settings: begin .*?-->\n(.*?)<!-- settings: end -->", SETTINGS, re.DOTALL)

    assert found
    assert found[1] == settings_table()
    assert len(first_column(found[1])) == len(Settings.model_fields) > 20


def test_the_defaults_in_the_readme_are_those_of_the_code() -> None:
    told = re.findall(r"`(\w+)` \| ([^|]+?) \|", section(README, "Settings"))

    assert len(told) >= 10
    assert dict(told) == {name: default_shown(Settings.model_fields[name]) for name, _ in told}


def test_every_counter_is_documented_and_no_other() -> None:
    headings = ("Deliveries and their outcomes", "Handlers", "Claims and the store", "Commits and the group")
    sections = (*headings, "Start positions")
    documented = [name for heading in sections for name in first_column(section(COUNTERS, heading))]

    assert sorted(documented) == sorted(Counters.NAMES)


def test_every_outcome_is_called_one_where_it_is_documented() -> None:
    rows = section(COUNTERS, "Deliveries and their outcomes").splitlines()

    called = {name for row in rows if "| outcome:" in row for name in first_column(row)}
    assert called == {outcome.value for outcome in Outcome}
    assert all(f"`{outcome.value}`" in section(README, "What it counts") for outcome in Outcome)


def test_every_log_line_is_documented_with_its_level_and_its_words() -> None:
    rows = [line.split("|") for line in section(COUNTERS, "Log lines").splitlines() if line.startswith("| `")]
    levels = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR"}

    documented = {row[1].strip(" `"): (row[2].strip(), row[3].strip()) for row in rows}
    for kind in Kind:
        level, words = documented.pop(kind.name)
        assert level == levels[LEVELS[kind]], kind.name
        assert kind.value.startswith(words), kind.name
    assert documented == {}


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    documented = first_column(API)

    assert sorted(documented) == sorted(kafka_once.__all__)
    assert all(getattr(kafka_once, name) is not None for name in documented)


def test_every_public_error_is_documented_as_one() -> None:
    public = [name for name in kafka_once.__all__ if name in errors.__all__]

    assert len(public) > 10
    assert sorted(first_column(section(API, "Errors"))) == sorted(public)
    assert all(f"`{name}`" in API for name in errors.__all__)


def test_every_command_is_documented() -> None:
    names = [command.name for command in commands.registered_commands]

    assert len(names) >= 4
    for name in names:
        assert f"| `kafka-once {name} " in section(README, "The command line")
        assert f"\n## {name}\n" in (ROOT / "docs/cli.md").read_text()


def test_every_header_of_a_dead_letter_is_documented() -> None:
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.order import Order
    from kafka_once.core.pacing import Pace
    from kafka_once.core.partition import Partition
    from kafka_once.message import Message, TopicPartition

    partition = Partition(TopicPartition("t", 0), Pace(2.0, 500), Order.PARTITION)
    delivery = Delivery(Message("t", 0, 0), partition.lane_of(Message("t", 0, 0)), None)
    made = {name for name, _ in dead_letter_of(delivery, "dead", "g").headers}
    text = section((ROOT / "docs/operations.md").read_text(), "Dead letters")

    assert {name for name in first_column(text) if name.startswith(HEADER_PREFIX)} == made


def test_every_module_is_in_the_file_map() -> None:
    package = ROOT / "middleware/kafka_once"
    files = {file for pattern in first_column(section(DESIGN, "File map")) for file in package.glob(pattern)}
    modules = {
        file for file in sources("middleware/kafka_once") if file.read_text().strip() and file.name != "__init__.py"
    }

    assert len(modules) > 50
    assert {str(file.relative_to(package)) for file in modules - files} == set()


# ------------------------------------------------------------------------------------------- what is named is there


def test_documents_are_found() -> None:
    names = {str(document.relative_to(ROOT)) for document in documents()}

    assert {"README.md", "DESIGN.md", "docs/guarantees.md", "docs/glossary.md", "docs/adr/README.md"} <= names


@pytest.mark.parametrize("document", documents(), ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One, *two*\n[a](#one-two) [b](#three) [c](gone.md) [d](page.md#one-two) [e](https://x.invalid)\n"
    )

    assert broken_links(page) == ["#three", "gone.md"]
    assert anchors("# Why a claim is a start\n") == {"why-a-claim-is-a-start"}


def test_every_test_that_a_document_names_is_there() -> None:
    defined = {
        name for file in sources("tests", "middleware") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    named = {name for text in (README, DESIGN, GUARANTEES) for name in re.findall(r"`(test_\w+)`", text)}

    assert len(named) > 30
    assert named - defined == set()


def test_every_file_that_a_document_names_is_there() -> None:
    folders = [ROOT, ROOT / "middleware/kafka_once", ROOT / "middleware/kafka_once/stores"]
    named = {
        name
        for document in documents()
        for name in re.findall(r"`([\w./*-]+\.(?:py|lua|md))`", document.read_text())
        if "/" in name
    }

    assert len(named) > 20
    assert {name for name in named if not any(any(folder.glob(name)) for folder in folders)} == set()


def test_every_make_target_that_a_document_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for document in documents() for name in re.findall(r"`make ([a-z-]+)", document.read_text())}

    assert {"demo", "test", "check", "chaos"} <= named
    assert named - targets == set()


# ---------------------------------------------------------------------------------------------------------------- words

QUALIFIED = re.compile(r'"exactly once"|exactly-once delivery|No "exactly once"', re.IGNORECASE)
BOAST = re.compile(r"exactly[- ]once", re.IGNORECASE)


def unqualified(text: str) -> list[str]:
    return BOAST.findall(QUALIFIED.sub("", text))


@pytest.mark.parametrize("document", documents(), ids=lambda document: str(document.relative_to(ROOT)))
def test_the_words_exactly_once_never_stand_alone(document: Path) -> None:
    """Only delivery, which is impossible, and the words themselves in quotation marks."""
    assert unqualified(document.read_text()) == []


def test_a_boast_is_found() -> None:
    assert unqualified("We process exactly once, and Exactly-once.") == ["exactly once", "Exactly-once"]
    assert any(BOAST.search(document.read_text()) for document in documents())


def test_the_glossary_has_the_words_of_the_protocol() -> None:
    words = (ROOT / "docs/glossary.md").read_text()
    for word in ("claim", "session", "ownership", "complete", "commit", "settled", "frontier", "in doubt"):
        assert f"| {word} |" in words, word
    assert "| redelivery / repeat |" in words


def test_no_document_names_a_place_on_somebodys_machine() -> None:
    places = re.compile(r"/(?:work|tmp|home|root)/")

    assert places.search("see /tmp/x")
    assert {str(d.relative_to(ROOT)) for d in documents() if places.search(d.read_text())} == set()


def test_the_package_shows_the_readme() -> None:
    tomllib = importlib.import_module("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["readme"] == "README.md"
