"""One server program on this machine: started, stopped, killed, frozen, and never left behind."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import IO

from kafka_once.testing.services.choosing import ServiceUnavailable

HOST = "127.0.0.1"

# Below the range that systems hand out to outgoing connections. From inside it, a client that keeps trying to reach a
# dead server may be given the server's own port, connect to itself, and keep the server from ever coming back.
_PORTS = range(20_000, 32_000)
_PORT_OF = SystemRandom()  # tests seed the shared generator, and would try the same ports


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens now."""
    for _ in range(200):
        port = _PORT_OF.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServiceUnavailable(f"no free port between {_PORTS.start} and {_PORTS.stop}: end some servers")


class ServerProcess:
    """A program with a folder and a log of its own. It ends when this process ends, also by kill -9."""

    def __init__(self, name: str, *, pipes: bool = False) -> None:
        """`pipes`: talk to the program over stdin and stdout; the log then holds stderr only."""
        self.name = name
        self.argv: list[str] = []  # the program and its arguments; set before `start`
        self.folder = Path(tempfile.mkdtemp(prefix=f"kafka-once-{name}-"))
        self.log_path = self.folder / f"{name}.log"
        self._pipes = pipes
        self._popen: subprocess.Popen[str] | None = None
        _guard.add_folder(self)

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._popen.pid if self._popen and self._popen.poll() is None else None

    @property
    def stdin(self) -> IO[str]:
        """The pipe to the program."""
        assert self._popen is not None
        assert self._popen.stdin is not None, "made without pipes, or not started"
        return self._popen.stdin

    @property
    def stdout(self) -> IO[str]:
        """The pipe from the program."""
        assert self._popen is not None
        assert self._popen.stdout is not None, "made without pipes, or not started"
        return self._popen.stdout

    def start(self) -> None:
        """Run the program; its output is appended to the log."""
        with self.log_path.open("a") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE if self._pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._pipes else log,
                stderr=log,
                text=True,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C in a terminal is for the caller, who may want to drain first
            )
        _guard.tell(f"pid+ {self._popen.pid}")

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return when `ready()` is true. ServiceUnavailable with the log's last lines if it ends or time runs out."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self._popen is None or self._popen.poll() is not None:
                raise ServiceUnavailable(f"{self.name} ended at once{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"{self.name} was not ready after {timeout_s:.0f} s{self.log_tail()}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 20) -> None:
        """SIGTERM, and SIGKILL if that does not end it in time."""
        self.resume()
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self._end(signal.SIGKILL, 10)

    def pause(self) -> None:
        """SIGSTOP: alive, its connections open, and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it if it still runs, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        _guard.remove_folder(self)

    def log_tail(self, lines: int = 15) -> str:
        """The log's last lines, as the end of an error message."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        tail = text.splitlines()[-lines:]
        return "; its log ends with:\n" + "\n".join(f"    {line}" for line in tail) if tail else "; its log is empty"

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        if self._popen is None:
            return
        self._signal(number)
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        _guard.tell(f"pid- {self._popen.pid}")
        self._popen = None


class _Guard:
    """Ends every server of this process: by atexit when it ends by itself, by the reaper when it is killed."""

    def __init__(self) -> None:
        self._servers: set[ServerProcess] = set()
        self._reaper: subprocess.Popen[str] | None = None
        self._owner_pid = 0
        self._lock = threading.Lock()

    def add_folder(self, server: ServerProcess) -> None:
        with self._lock:
            if self._owner_pid != os.getpid():  # the first server, or the first in a forked child
                self._begin()
        self._servers.add(server)
        self.tell(f"dir+ {server.folder}")

    def remove_folder(self, server: ServerProcess) -> None:
        self._servers.discard(server)
        self.tell(f"dir- {server.folder}")

    def tell(self, line: str) -> None:
        with self._lock, suppress(BrokenPipeError, ValueError):  # ValueError: closed below, at the very end
            assert self._reaper is not None
            assert self._reaper.stdin is not None
            self._reaper.stdin.write(line + "\n")
            self._reaper.stdin.flush()

    def _begin(self) -> None:
        self._owner_pid = os.getpid()
        self._servers = set()
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        atexit.register(self._close_all, os.getpid())

    def _close_all(self, owner_pid: int) -> None:
        if owner_pid != os.getpid():  # a forked child ends; the servers are its parent's
            return
        for server in list(self._servers):
            server.close()
        if self._reaper is not None:
            self._reaper.communicate()


_guard = _Guard()
