"""Starts the group's processes, kills them, and starts them again at once, as a supervisor would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from kafka_once.testing.campaign.history import Exit, Kill
from kafka_once.testing.campaign.worker import WorkerSpec

__all__ = ["Program", "Slot", "Workers"]

_MOST_EXITS = 20
_STOP_S = 30


class Program(NamedTuple):
    """What runs as a worker.

    Attributes:
        arguments: its module, and that one's arguments before the `WorkerSpec`.
        folder: for the logs.
        spec_of: what a life is told, given the worker's name and the life's.
    """

    arguments: tuple[str, ...]
    folder: Path
    spec_of: Callable[[str, str], WorkerSpec]


class Slot:
    """One worker, over all its lives."""

    def __init__(self, name: str, program: Program) -> None:
        self.name = name
        self.lives = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program

    @property
    def life(self) -> str:
        return f"{self.name}.{self.lives - 1}"

    def start(self) -> None:
        """Begin its next life."""
        self.lives += 1
        program = self._program
        with (program.folder / f"{self.name}.log").open("ab") as log:
            log.write(f"--- {self.life}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program.arguments, program.spec_of(self.name, self.life).to_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the campaign, which kills them itself
            )

    def kill(self) -> int:
        """SIGKILL; returns the exit code, which is another one if it had ended by itself."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)  # not Popen's: that one looks first whether it has ended
        return self.process.wait()

    def end(self) -> None:
        """Kill what still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Workers:
    """The processes of a group. Leaving its `with` block kills what still runs.

    Args:
        count: how many.
        program: what runs as one.
    """

    def __init__(self, count: int, program: Program) -> None:
        self.kills: list[Kill] = []
        self.exits: list[Exit] = []
        self._folder = program.folder
        self._slots = [Slot(f"worker-{number}", program) for number in range(count)]

    def __enter__(self) -> Self:
        for slot in self._slots:
            slot.start()
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self._slots:
            slot.end()

    def lives(self) -> list[str]:
        """The life that each worker is in now."""
        return [slot.life for slot in self._slots]

    def kill(self, number: int) -> Kill | None:
        """SIGKILL to the process of this worker, which is started again at once. None if it had ended by itself."""
        slot = self._slots[number]
        kill = Kill(slot.life, time.monotonic_ns())
        code = slot.kill()
        slot.start()
        if code != -signal.SIGKILL:
            self.exits.append(Exit(kill.life, code, asked=False))
            return None
        self.kills.append(kill)
        return kill

    def supervise(self) -> None:
        """Start again what ended by itself, and keep it in mind. RuntimeError if that happens all the time."""
        for slot in self._slots:
            code = None if slot.process is None else slot.process.poll()
            if code is not None:
                self.exits.append(Exit(slot.life, code, asked=False))
                slot.start()
        if len(self.exits) > _MOST_EXITS:
            raise RuntimeError(f"workers end by themselves, {len(self.exits)} times so far; see {self._folder}")

    def stop(self) -> None:
        """SIGTERM to all; return when they have ended. One that does not in time is killed and has that code."""
        running = [slot for slot in self._slots if slot.process is not None and slot.process.poll() is None]
        for slot in running:
            assert slot.process is not None
            slot.process.terminate()
        deadline = time.monotonic() + _STOP_S
        for slot in running:
            assert slot.process is not None
            try:
                code = slot.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                slot.process.kill()
                code = slot.process.wait()
            self.exits.append(Exit(slot.life, code, asked=True))
            slot.process = None  # not to be supervised any more
