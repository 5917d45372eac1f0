"""The wall clock of other processes, moved from here while they run; their other clocks are right (wall_clock.c)."""

import shutil
import struct
import subprocess
from pathlib import Path

from kafka_once.testing.services import ServiceUnavailable

__all__ = ["WallClock"]


class WallClock:
    """For every process that is started with `environment`.

    Args:
        folder: for what is compiled.

    Raises:
        ServiceUnavailable: there is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise ServiceUnavailable("no C compiler `cc`: the clock of a process cannot be moved")
        library, self._file = folder / "wall_clock.so", folder / "wall_clock"
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_FILE": str(self._file)}
        self.ahead_s = 0
        self._file.write_bytes(struct.pack("=q", 0))

    def step_to(self, ahead_s: int) -> None:
        """So many seconds ahead of the right time. Written in place: the processes have the file mapped."""
        self.ahead_s = ahead_s
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", ahead_s))
