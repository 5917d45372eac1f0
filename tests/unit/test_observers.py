"""Log lines never cost a message."""

import errno
import io
import logging

import pytest

from kafka_once.core.events import Kind, Note
from kafka_once.message import TopicPartition
from kafka_once.observers import log_note


class FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_on_a_full_disk_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A22: the logging library keeps it to itself and says so on standard error, which nobody need read."""
    log, handler = logging.getLogger("kafka_once"), logging.StreamHandler(FullDisk())
    log.addHandler(handler)
    try:
        log_note(Note(Kind.LOST, topic_partition=TopicPartition("t", 3), offset=7))
    finally:
        log.removeHandler(handler)
    assert "No space left on device" in capsys.readouterr().err
