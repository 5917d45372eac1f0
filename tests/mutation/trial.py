"""One mutant in a process of its own: the change is made there, and the rungs are climbed until one of them fails."""

from __future__ import annotations

import gc
import importlib.machinery
import inspect
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tests.mutation.mutants import CORE, Mutant

__all__ = ["NOT_RUN", "NotPatched", "Trial", "climb", "imports", "patch", "run_all"]

NOT_RUN = "not run"
_MEMORY = 4 << 30
_HUNG_S = 300


class NotPatched(Exception):
    """The change cannot be made in a function that exists already: it takes a new import."""


# -------------------------------------------------------------------------------------------------- making the change


def imports(mutant: Mutant) -> None:
    """From now on the module is imported with the change in it."""
    path = str(CORE / mutant.file)
    code_of = importlib.machinery.SourceFileLoader.get_code

    def changed(self: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        if self.path != path:
            return code_of(self, fullname)
        return compile(mutant.source, path, "exec", dont_inherit=True)

    importlib.machinery.SourceFileLoader.get_code = changed  # type: ignore[method-assign, assignment]


def patch(mutant: Mutant) -> None:
    """Give the function its new code; whoever imported it has it."""
    module = sys.modules[f"kafka_once.core.{mutant.file.removesuffix('.py')}"]
    key = (mutant.where, mutant.function_line)
    functions = [each for each in _functions(module) if (each.__qualname__, each.__code__.co_firstlineno) == key]
    codes = [
        code
        for code in _codes(compile(mutant.source, str(CORE / mutant.file), "exec", dont_inherit=True))
        if (code.co_qualname, code.co_firstlineno) == key
    ]
    if len(functions) != 1 or len(codes) != 1 or functions[0].__code__.co_freevars != codes[0].co_freevars:
        raise NotPatched(mutant.name)
    functions[0].__code__ = codes[0]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _functions(module: ModuleType) -> set[FunctionType]:
    found: set[FunctionType] = set()
    holders: list[Any] = [module]
    while holders:
        for item in vars(holders.pop()).values():
            if inspect.isclass(item) and item.__module__ == module.__name__:
                holders.append(item)
            for each in (getattr(item, "fget", None), getattr(item, "__func__", None), inspect.unwrap(item), item):
                if isinstance(each, FunctionType) and each.__module__ == module.__name__:
                    found.add(each)
    return found


# ------------------------------------------------------------------------------------------------- climbing the rungs


def climb(rungs: Iterable[tuple[str, Callable[[], str], float]], tell: Callable[[str, str], None]) -> None:
    """`tell` the first that fails and how, or nothing. Each has ten times as long as it takes, and five seconds."""
    at = ""

    def too_long(*_: object) -> None:
        tell(at, "too long")
        os._exit(0)

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGPROF, too_long)
    signal.signal(signal.SIGALRM, too_long)
    for name, failed, usual_s in rungs:
        at = name
        signal.setitimer(signal.ITIMER_PROF, 5 + 10 * usual_s)
        signal.setitimer(signal.ITIMER_REAL, _HUNG_S)
        try:
            wrong = failed()
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is noticed)
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            tell(name, wrong)
            os._exit(0)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


class Trial:
    """A forked process that does something and tells one thing, or nothing."""

    def __init__(self, do: Callable[[Callable[[str, str], None]], None]) -> None:
        self._reads, writes = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(writes)
            return
        os.close(self._reads)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)

        def tell(rung: str, what: str) -> None:
            os.write(writes, json.dumps([rung, what[-1_000:]]).encode())

        code = 1
        try:
            do(tell)
            code = 0
        finally:
            os._exit(code)

    def result(self, status: int) -> tuple[str, str]:
        """What it told, once it has ended."""
        with os.fdopen(self._reads, "rb") as pipe:
            told = pipe.read()
        if told:
            rung, what = json.loads(told)
            return rung, what
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGTERM, signal.SIGINT):
            return NOT_RUN, ""  # somebody stopped it: that says nothing
        return ("", "") if status == 0 else ("process", f"it ended with status {status}")


def run_all(
    mutants: Iterable[Mutant],
    start: Callable[[Mutant], Trial],
    ended: Callable[[Mutant, str, str], None],
    jobs: int,
) -> None:
    """So many at a time."""
    gc.collect()
    gc.freeze()
    running: dict[int, tuple[Mutant, Trial]] = {}

    def wait() -> None:
        pid, status = os.waitpid(next(iter(running)), 0)  # the oldest: other children are none of ours
        mutant, trial = running.pop(pid)
        ended(mutant, *trial.result(status))

    for mutant in mutants:
        trial = start(mutant)
        running[trial.pid] = mutant, trial
        while len(running) >= jobs:
            wait()
    while running:
        wait()
