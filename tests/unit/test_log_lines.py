"""Log lines as JSON: fields for programs, and never a payload or a key."""

import errno
import io
import json
import logging

import pytest

from kafka_once import App, JsonFormatter, Message, header
from kafka_once.cli.run import _FORMATS
from kafka_once.core.events import Kind, Note
from kafka_once.log_lines import log_counters, log_note
from kafka_once.message import TopicPartition
from kafka_once.testing import MemoryApp

SECRET_PAYLOAD, SECRET_KEY = b"4111-1111", "customer-77"


@pytest.fixture
def lines():
    """What the logger `kafka_once` writes as JSON, at DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("kafka_once")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_note_is_one_object_with_its_fields(lines):
    error = KeyError("amount")
    log_note(Note(Kind.RAISED, topic_partition=TopicPartition("payments", 3), offset=7, attempt=2, error=error))

    [line] = lines()
    assert line.pop("time").endswith("+00:00")
    assert "KeyError: 'amount'" in line.pop("exception")
    assert line == {
        "level": "WARNING",
        "logger": "kafka_once",
        "message": "handler raised; will be tried again: payments[3]@7: attempt 2",
        "event": "RAISED",
        "topic": "payments",
        "partition": 3,
        "offset": 7,
        "attempt": 2,
        "error_type": "builtins.KeyError",
    }


def test_counters_are_one_object(lines):
    log_counters({"deliveries": 3, "completed": 3, "busy": 0})

    [line] = lines()
    assert line["counters"] == {"deliveries": 3, "completed": 3}
    assert line["event"] == "COUNTERS"


def test_other_records_and_odd_values_are_written_too(lines):
    logging.getLogger("kafka_once").info("100 %% of %s\nand more", {"a"}, stack_info=True)

    [line] = lines()
    assert line["message"].startswith("100 % of {'a'}\nand more")
    assert "test_log_lines" in line["stack"]


def test_what_became_of_each_message_is_logged_at_debug_without_its_key_or_payload(lines):
    app = App("k:9092", group="g", store="redis://r", dead_letter_topic="dead", attempts=1)

    @app.handler("payments", key=header("id"))
    def charge(message: Message) -> None:
        if message.offset == 1:
            raise ValueError

    with MemoryApp(app) as memory:
        for number in range(2):
            memory.send("payments", SECRET_PAYLOAD, key=SECRET_KEY, headers={"id": f"{SECRET_KEY}-{number}"})
        memory.repeat()
        memory.settle()

    written = lines()
    outcomes = [(line["offset"], line["outcome"]) for line in written if line.get("event") == "OUTCOME"]
    assert outcomes == [(0, "completed"), (1, "dead_lettered"), (2, "repeat"), (3, "repeat")]
    assert len(written) > 8
    text = json.dumps(written)
    assert SECRET_KEY not in text
    assert SECRET_PAYLOAD.decode() not in text


def test_the_command_line_offers_both_formats():
    record = logging.LogRecord("kafka_once", logging.INFO, "", 0, "hello", (), None)

    assert _FORMATS["text"]().format(record).endswith("INFO hello")
    assert json.loads(_FORMATS["json"]().format(record))["message"] == "hello"


class FullDisk(io.StringIO):
    def write(self, _text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_on_a_full_disk_raises_nothing(capsys):
    """A22: the logging library keeps it to itself and says so on standard error, which nobody need read."""
    log, handler = logging.getLogger("kafka_once"), logging.StreamHandler(FullDisk())
    log.addHandler(handler)
    try:
        log_note(Note(Kind.LOST, topic_partition=TopicPartition("t", 3), offset=7))
    finally:
        log.removeHandler(handler)
    assert "No space left on device" in capsys.readouterr().err
