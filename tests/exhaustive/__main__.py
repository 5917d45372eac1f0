"""`python -m tests.exhaustive`: every quick world to its end. `--long`: the larger ones. `--list`: their names.

`--scope NAME` searches one; with `--way` what is found is played again, step by step.
"""

from __future__ import annotations

import argparse
import sys

from tests.exhaustive.scopes import LONG, QUICK, Scope
from tests.exhaustive.search import Searched, search, step

__all__ = ["line"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exhaustive", description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--scope", help="only the world of this name")
    parser.add_argument("--way", action="store_true", help="play again what is found")
    arguments = parser.parse_args()
    scopes = [scope for scope in (*QUICK, *LONG) if scope.name == arguments.scope]
    if arguments.scope is None:
        scopes = list(LONG if arguments.long else QUICK)
    if not scopes:
        parser.error(f"there is no such world: {arguments.scope}; --list tells which there are")
    failed = 0
    for scope in scopes:
        if arguments.list:
            print(scope.name)
            continue
        searched = search(scope.world(), scope.most_states)
        print(line(scope, searched), flush=True)
        failed += not searched.holds
        if arguments.way and searched.found is not None:
            _play(scope, searched)
    return 1 if failed else 0


def line(scope: Scope, searched: Searched) -> str:
    """One line; of a failure with what was violated and the command that shows it."""
    size = f"{searched.states:7d} states {searched.schedules:8d} schedules {searched.steps:8d} steps"
    text = f"{scope.name:42s} {size} {searched.seconds:6.1f} s"
    if searched.capped:
        return f"{text} · did not end within {scope.most_states} states: nothing was shown"
    if searched.found is None:
        return text
    replay = f"python -m tests.exhaustive --scope '{scope.name}' --way"
    return f"{text} · {searched.found.violation} · {len(searched.found.way)} choices: {searched.found.way} · {replay}"


def _play(scope: Scope, searched: Searched) -> None:
    assert searched.found is not None
    world = scope.world()
    world._trace = print
    for action in searched.found.way:
        print(">", action)
        step(world, action)


if __name__ == "__main__":
    sys.exit(main())
