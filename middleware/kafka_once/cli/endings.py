"""How a command ends when something is wrong: one sentence on standard error and exit code 1."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from kafka_once.errors import KafkaOnceError

__all__ = ["one_sentence", "say_and_exit", "traceback_wanted"]

_TRACEBACK = "KAFKA_ONCE_TRACEBACK"


def traceback_wanted() -> bool:
    """Whether the environment asks for tracebacks."""
    return bool(os.environ.get(_TRACEBACK))


@contextmanager
def one_sentence(*, traceback: bool = False) -> Iterator[None]:
    """A `KafkaOnceError` inside ends the process with its sentence; anything else is a bug and keeps its traceback."""
    # With no handler at all Python prints warnings by itself, among them librdkafka's about every failed connection.
    logging.getLogger("kafka_once").addHandler(logging.NullHandler())
    try:
        yield
    except KafkaOnceError as error:
        if traceback or traceback_wanted():
            raise
        say_and_exit(str(error))


def say_and_exit(sentence: str) -> None:
    """Exit code 1."""
    typer.echo(f"kafka-once: {sentence}", err=True)
    raise typer.Exit(1) from None
