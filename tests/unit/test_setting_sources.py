"""Where settings come from: code beats environment beats file, errors name the place, nothing secret is shown."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kafka_once import App, ConfigurationError, Consumer, header
from kafka_once.cli import commands
from kafka_once.setting_sources import PREFIX, variable_of
from kafka_once.settings import Settings, default_shown

CANARY = "cAnArY7"
STORE = "redis://localhost:6379/0"
NEEDED = {"bootstrap_servers": "localhost:9092", "group": "billing", "store": STORE}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def write(tmp_path: Path, environment: pytest.MonkeyPatch) -> Any:
    """Writes the settings file and names it in the environment."""

    def write(text: str) -> Path:
        file = tmp_path / "once.toml"
        file.write_text(text)
        environment.setenv("KAFKA_ONCE_SETTINGS_FILE", str(file))
        return file

    return write


def refused(**given: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**{**NEEDED, **given})
    assert caught.value.__context__ is None
    return caught.value


# ---------------------------------------------------------------------------------------------------------- precedence


def test_code_beats_the_environment_which_beats_the_file(write: Any, environment: pytest.MonkeyPatch) -> None:
    write('attempts = 7\nlease = "7s"\nbackoff = "700ms"\ndrain = 7.5\n')
    environment.setenv("KAFKA_ONCE_ATTEMPTS", "8")
    environment.setenv("KAFKA_ONCE_LEASE", "8s")

    settings = Settings(**NEEDED, attempts=9)

    assert (settings.attempts, settings.lease_ms, settings.backoff_ms, settings.drain_ms) == (9, 8_000, 700, 7_500)
    assert settings.commit_every_ms == 500


def test_an_app_may_say_nothing_at_all(write: Any, environment: pytest.MonkeyPatch) -> None:
    write(f'group = "billing"\nstore = "{STORE}"\nreport_every = "never"\nallow_eviction = true\n')
    environment.setenv("KAFKA_ONCE_BOOTSTRAP_SERVERS", "kafka-1:9092,kafka-2:9092")

    settings = App().settings

    assert settings.librdkafka()["bootstrap.servers"] == "kafka-1:9092,kafka-2:9092"
    assert (settings.group, settings.store_shown) == ("billing", STORE)
    assert (settings.report_every, settings.allow_eviction) == (None, True)


def test_a_consumer_takes_them_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_ONCE_GROUP", "billing")
    environment.setenv("KAFKA_ONCE_KAFKA__SASL_PASSWORD", CANARY)
    consumer = Consumer({"bootstrap.servers": "localhost:9092"}, store=STORE, key=header("id"))

    assert consumer.settings.librdkafka()["sasl.password"] == CANARY
    assert consumer.settings.group == "billing"


def test_librdkafkas_settings_are_put_together_one_by_one(write: Any, environment: pytest.MonkeyPatch) -> None:
    write('[kafka]\nclient.id = "file"\nsasl.password = "file"\n"session.timeout.ms" = 20000\ncheck.crcs = true\n')
    environment.setenv("KAFKA_ONCE_KAFKA__CLIENT_ID", "environment")
    environment.setenv("KAFKA_ONCE_KAFKA__SASL_PASSWORD", "environment")
    given = {"client.id": "code"}

    settings = Settings(**NEEDED, kafka=given)

    assert settings.kafka == {
        "client.id": "code",
        "sasl.password": "environment",
        "session.timeout.ms": 20_000,
        "check.crcs": True,
    }
    assert settings.session_timeout_ms == 20_000
    assert settings.layers.kafka() == settings.kafka
    assert given == {"client.id": "code"}


def test_an_empty_variable_counts_as_not_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_ONCE_STORE", "")

    assert Settings(bootstrap_servers="localhost", group="g", semantics="at_least_once").store is None


def test_the_file_is_named_in_the_code_or_in_the_environment_and_the_code_counts(write: Any, tmp_path: Path) -> None:
    write("attempts = 7\n")
    other = tmp_path / "other.toml"
    other.write_text("attempts = 8\n")

    assert Settings(**NEEDED).attempts == 7
    assert Settings(**NEEDED, settings_file=other).attempts == 8
    assert Settings(**NEEDED, settings_file=str(other)).settings_file == str(other)


def test_no_file_is_read_that_nobody_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kafka-once.toml", "settings.toml", ".env", "pyproject.toml"):
        (tmp_path / name).write_text("attempts = 7\nKAFKA_ONCE_ATTEMPTS=7\n")
    monkeypatch.chdir(tmp_path)

    assert Settings(**NEEDED).attempts == 5


def another(default: object) -> str:
    """A value of the same kind."""
    if isinstance(default, StrEnum):
        return str(next(member.value for member in type(default) if member is not default))
    return str(not default).lower() if isinstance(default, bool) else "9s" if isinstance(default, timedelta) else "9"


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name not in ("kafka", "settings_file")])
def test_every_setting_is_read_from_both_places(name: str, write: Any, environment: pytest.MonkeyPatch) -> None:
    values = {
        "bootstrap_servers": "elsewhere:1",
        "group": "other",
        "store": "redis://elsewhere:1/0",
        "remember_for": "90m",
        "buffer_bytes": "2000000",
        "handler_deadline": "9s",
        **dict.fromkeys(("on_missing_key", "on_bad_payload", "on_failure", "on_doubt"), "dead_letter"),
    }
    value = values.get(name) or another(Settings.model_fields[name].default)
    needed = {key: given for key, given in NEEDED.items() if key != name}
    if value == "dead_letter":
        needed["dead_letter_topic"] = "dead"
    plain = getattr(Settings(**{**NEEDED, **needed}), name)

    environment.setenv(variable_of(name), value)
    by_environment = getattr(Settings(**needed), name)
    environment.delenv(variable_of(name))
    write(f"{name} = {json.dumps(value)}\n")
    by_file = getattr(Settings(**needed), name)

    assert by_environment == by_file
    assert by_environment != plain or value == "dead_letter"


# -------------------------------------------------------------------------------------------------------------- errors


def test_a_wrong_value_is_refused_with_its_place(write: Any, environment: pytest.MonkeyPatch) -> None:
    file = write("attempts = 0\n")

    assert str(refused()) == f"attempts=0 (the file {file}): write a whole number from 1 to 1,000"
    environment.setenv("KAFKA_ONCE_ATTEMPTS", "many")
    assert str(refused()).startswith("attempts='many' (KAFKA_ONCE_ATTEMPTS in the environment): write a whole number")
    assert refused(attempts=-1).place == ""


def test_a_relation_that_does_not_hold_is_refused_with_the_place_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_ONCE_KAFKA__SESSION_TIMEOUT_MS", "soon")
    assert refused().place == "KAFKA_ONCE_KAFKA__SESSION_TIMEOUT_MS in the environment"

    environment.setenv("KAFKA_ONCE_KAFKA__SESSION_TIMEOUT_MS", "60000")
    environment.setenv("KAFKA_ONCE_LEASE", "59s")
    assert refused().place == "KAFKA_ONCE_LEASE in the environment"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("ENABLE_AUTO_COMMIT", "true", "enable.auto.commit='true'"),
        ("FETCH_MIN_BYTES", "many", "fetch.min.bytes='many'"),
        ("SASL_PASWORD", CANARY, "sasl.pasword='***'"),  # misspelt, and still a password
    ],
)
def test_what_only_the_client_refuses_has_its_place(
    name: str, value: str, shown: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(f"KAFKA_ONCE_KAFKA__{name}", value)
    app = App(**{**NEEDED, "store": "memory://"})
    app.handler("payments", key=header("id"))(_handle)
    app.start()
    with pytest.raises(ConfigurationError) as caught:
        app.join(20)
    checked = CliRunner().invoke(commands, ["check", "--bootstrap-servers", "localhost:1", "--group", "g"])

    for said in (str(caught.value), checked.stderr):
        assert f"{shown} (KAFKA_ONCE_KAFKA__{name} in the environment): " in said
        assert CANARY not in said


def _handle(payload: bytes) -> None: ...


def test_a_required_setting_that_nobody_says_is_asked_for_with_all_its_names() -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_ONCE_GROUP"):
        App("localhost:9092", store=STORE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'leese = "{CANARY}"', "did you mean lease?"),
        (f'[lease]\nx = "{CANARY}"', "lease=<a dict> (the file"),
        (f'kafka = "{CANARY}"', "kafka=<a str> (the file"),
        (f'[kafka]\nsasl.password = ["{CANARY}"]', 'kafka["sasl.password"]'),
        (f"store = {CANARY}", "no TOML (at line 1, column"),
        (f'store = "{CANARY}', "no TOML (at"),
        (f'store = "redis://{CANARY}@h:p"', "store='redis://"),
        (f'settings_file = "{CANARY}"', "a file names no other"),
        ("group = 1979-05-27", "group="),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_of_it_shown(text: str, words: str, write: Any) -> None:
    file = write(text)
    needed = {name: value for name, value in NEEDED.items() if not text.startswith(f"{name} =")}
    with pytest.raises(ConfigurationError) as caught:
        Settings(**needed)

    shown = "".join(traceback.format_exception(caught.value))
    assert words in shown
    assert CANARY not in shown
    assert file.name in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone.toml"
    assert refused(settings_file=gone).setting == "settings_file"
    assert refused(settings_file=tmp_path).setting == "settings_file"
    assert refused(settings_file=5).setting == "settings_file"
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'group = "\xe9"')
    assert "UTF-8" in refused(settings_file=latin).remedy
    environment.setenv("KAFKA_ONCE_SETTINGS_FILE", str(gone))
    assert "KAFKA_ONCE_SETTINGS_FILE" in refused().place


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("KAFKA_ONCE_LEESE", "KAFKA_ONCE_LEASE"),
        ("KAFKA_ONCE_BOOTSTRAP_SERVER", "KAFKA_ONCE_BOOTSTRAP_SERVERS"),
        ("KAFKA_ONCE_KAFKA_SASL_PASSWORD", "KAFKA_ONCE_KAFKA__SASL_PASSWORD"),
    ],
)
def test_a_variable_that_is_misspelt_is_refused(variable: str, meant: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv(variable, CANARY)

    assert f"did you mean {meant}?" in str(refused())
    assert CANARY not in str(refused())


def test_variables_of_others_are_left_alone(environment: pytest.MonkeyPatch) -> None:
    for variable in (
        "KAFKA_ONCE_TRACEBACK",
        "KAFKA_ONCE_TEST_KAFKA",
        "KAFKA_ONCE_PORT",  # what Kubernetes sets for services called kafka-once and kafka-once-kafka
        "KAFKA_ONCE_PORT_9092_TCP_ADDR",
        "KAFKA_ONCE_KAFKA_SERVICE_HOST",
        "KAFKA_ONCE_KAFKA_PORT_9092_TCP",
        "KAFKA_ONCE_ANYTHING",
    ):
        environment.setenv(variable, "1")

    assert Settings(**NEEDED).layers.ignored == ["KAFKA_ONCE_ANYTHING"]


# ------------------------------------------------------------------------------------------------------------ the list


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The rows of `kafka-once settings billing:app`, by setting; the app says what is given."""

    def listed(*arguments: str, app: str = "") -> dict[str, dict[str, str]]:
        Path("billing.py").write_text(f"from kafka_once import App\napp = App({app})\n")
        result = CliRunner().invoke(commands, ["settings", *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return {row["setting"]: row for row in json.loads(result.stdout)}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield listed
    sys.modules.pop("billing", None)


def test_the_list_has_every_setting_with_value_default_and_source(
    listed: Any, write: Any, environment: pytest.MonkeyPatch
) -> None:
    file = write(f'group = "billing"\nstore = "{STORE}"\n[kafka]\ngroup.instance.id = "pod-0"\n')
    environment.setenv("KAFKA_ONCE_LEASE", "8s")
    rows = listed("billing:app", app='"localhost:9092", report_every=None, kafka={"client.id": "x"}')

    names = [name for name in Settings.model_fields if name != "kafka"]
    assert [name for name in rows if "[" not in name] == names
    assert all(rows[name]["default"] == default_shown(Settings.model_fields[name]) for name in names)
    assert all(rows[name]["variable"] == f"KAFKA_ONCE_{name.upper()}" for name in names)
    for name, value, source in (
        ("bootstrap_servers", "localhost:9092", "the code"),
        ("group", "billing", f"the file {file}"),
        ("lease", "8 s", "KAFKA_ONCE_LEASE in the environment"),
        ("report_every", "never", "the code"),
        ("attempts", "5", "default"),
        ("on_failure", "stop", "default"),
        ("instance_id", "pod-0", f"the file {file}"),
        ('kafka["client.id"]', "x", "the code"),
        ('kafka["group.instance.id"]', "pod-0", f"the file {file}"),
    ):
        assert (rows[name]["value"], rows[name]["source"]) == (value, source), name


def test_without_an_app_it_lists_what_is_said_to_any(listed: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_ONCE_LEASE", "8s")
    rows = listed()

    assert (rows["lease"]["value"], rows["group"]["value"], rows["store"]["value"]) == ("8 s", "required", "none")
    environment.setenv("KAFKA_ONCE_LEASE", "8")
    result = CliRunner().invoke(commands, ["settings"])
    assert result.exit_code == 1
    assert result.stderr.startswith("kafka-once: lease='8' (KAFKA_ONCE_LEASE in the environment): write a duration")


SECRETS = (
    *("sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem", "ssl.certificate.pem"),
    *("sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "sasl.oauthbearer.client.credentials.client.secret"),
)


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_listed_wherever_it_was_said(
    as_json: bool, write: Any, environment: pytest.MonkeyPatch, listed: Any
) -> None:
    write(f'store = "redis://u:{CANARY}@localhost:6379/0"\n[kafka]\nssl.key.password = "{CANARY}"\n')
    environment.setenv("KAFKA_ONCE_KAFKA__SASL_PASSWORD", CANARY)
    environment.setenv("KAFKA_ONCE_ODD", CANARY)
    kafka = dict.fromkeys(SECRETS, CANARY) | {"https.proxy": f"http://u:{CANARY}@proxy"}
    rows = listed("billing:app", app=f'"localhost:9092", group="g", kafka={kafka!r}')
    result = CliRunner().invoke(commands, ["settings", "billing:app", *(["--json"] if as_json else [])])

    assert result.exit_code == 0
    assert CANARY not in result.output
    assert all(rows[f'kafka["{name}"]']["value"] == "***" for name in kafka)
    assert rows["store"]["value"] == "redis://***@localhost:6379/0"
    assert "KAFKA_ONCE_ODD is no setting" in result.stderr
