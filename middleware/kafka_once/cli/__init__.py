"""The command `kafka-once`: one module per command.

`target` says what a command looks at, `onlooker` looks at Kafka without joining the group, `endings` turns what went
wrong into one sentence. `docs/cli.md` shows the commands as people see them.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from kafka_once.cli import check as check
from kafka_once.cli import in_doubt, plan, run, settings, shadow, stats

__all__ = ["commands", "main"]

commands = typer.Typer(
    name="kafka-once",
    help="Effectively-once processing of Kafka messages: run an app, check what it needs, see what it did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables: payloads, keys, passwords
    rich_markup_mode=None,
    context_settings={"terminal_width": 100, "help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kafka-once {version('kafka-once')}, confluent-kafka {version('confluent-kafka')}")
        raise typer.Exit


@commands.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the versions, and exit.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """Only the options that stand before a command's name."""


commands.command("run")(run.run)
commands.command("shadow")(shadow.shadow)
commands.command("check")(check.check)
commands.command("settings")(settings.settings)
commands.command("plan")(plan.plan)
commands.command("stats")(stats.stats)
commands.command("in-doubt")(in_doubt.in_doubt)


def main() -> None:
    """The console script."""
    commands()
