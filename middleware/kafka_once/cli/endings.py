"""How a command ends when something is wrong: one sentence on standard error and exit code 1."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from kafka_once.cli.loading import ImportFailed
from kafka_once.errors import KafkaOnceError

__all__ = ["one_sentence"]


@contextmanager
def one_sentence() -> Iterator[None]:
    """A `KafkaOnceError` inside ends the process with its sentence; anything else is a bug and keeps its traceback.

    With KAFKA_ONCE_TRACEBACK in the environment the error keeps it too.
    """
    # Without any handler Python prints warnings by itself, among them librdkafka's about each failed connection.
    logging.getLogger("kafka_once").addHandler(logging.NullHandler())
    try:
        yield
    except ImportFailed as failed:
        typer.echo(str(failed), err=True, nl=False)
        raise typer.Exit(1) from None
    except KafkaOnceError as error:
        if os.environ.get("KAFKA_ONCE_TRACEBACK"):
            raise
        typer.echo(f"kafka-once: {error}", err=True)
        raise typer.Exit(1) from None
