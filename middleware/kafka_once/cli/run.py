"""`kafka-once run`: consume until SIGTERM or Ctrl-C."""

import logging
import os
from typing import Annotated

import typer

from kafka_once.cli.endings import one_sentence
from kafka_once.cli.loading import load_app
from kafka_once.log_lines import JsonFormatter

__all__ = ["LogLevel", "run", "set_up_logs"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS = {
    "text": lambda: logging.Formatter("%(asctime)s %(levelname)s %(message)s"),
    "json": JsonFormatter,
}

LogLevel = Annotated[str, typer.Option("--log-level", metavar="|".join(_LEVELS), help="What is logged.")]
LogFormat = Annotated[
    str, typer.Option("--log-format", metavar="|".join(_FORMATS), help="Lines of text, or a JSON object per line.")
]


def run(
    app: Annotated[str, typer.Argument(metavar="MODULE:APP", help="The app, for example billing:app.")],
    *,
    log_level: LogLevel = "INFO",
    log_format: LogFormat = "text",
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
) -> None:
    """Run an app until SIGTERM or Ctrl-C; then drain, commit and leave the group.

    Logs go to standard error. The exit code is 0 after a clean end and 1 after an error, which is told in one sentence.
    """
    set_up_logs(log_level, log_format)
    if traceback:
        os.environ["KAFKA_ONCE_TRACEBACK"] = "1"  # App.run looks at it too
    with one_sentence():
        load_app(app).run()


def set_up_logs(level: str, form: str = "text") -> None:
    """Log to standard error, in a process of our own."""
    if level.upper() not in _LEVELS:
        raise typer.BadParameter(f"write one of {', '.join(_LEVELS)}", param_hint="--log-level")
    if form.lower() not in _FORMATS:
        raise typer.BadParameter(f"write one of {', '.join(_FORMATS)}", param_hint="--log-format")
    handler = logging.StreamHandler()
    handler.setFormatter(_FORMATS[form.lower()]())
    logging.basicConfig(level=level.upper(), handlers=[handler])
