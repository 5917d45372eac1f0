"""A small consumer program of its own process, for tests that signal it, kill it or restart it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = textwrap.dedent(
    """
    import json, logging, os, sys, time
    from kafka_once import App, Message, header

    logging.basicConfig(level="INFO", stream=sys.stderr)
    spec = json.loads(sys.argv[1])
    ledger = os.open(spec["ledger"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    app = App(spec["bootstrap"], group=spec["group"], store=spec["store"], **spec["settings"])

    @app.handler(spec["topic"], key=header("id"))
    def handle(payload: bytes, message: Message) -> None:
        time.sleep(spec["handler_s"])
        line = f"{message.idempotency_key.decode()} {os.getpid()} {int(message.in_doubt)} {message.attempt}\\n"
        os.write(ledger, line.encode())

    app.run()
    print(json.dumps(app.stats()), flush=True)
    """
)


class Program:
    """A consumer in a process of its own. Its ledger is the file that all programs of a test share."""

    def __init__(self, spec: dict[str, Any], source: str = PROGRAM) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", source, json.dumps(spec)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_log(self, text: str, timeout_s: float = 30) -> None:
        """Wait until a line of its log holds this text."""
        with self._changed:
            found = self._changed.wait_for(lambda: any(text in line for line in self.log), timeout_s)
        assert found, f"{text!r} not in the log:\n{''.join(self.log)}"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self, timeout_s: float = 30) -> tuple[int, dict[str, int]]:
        """Its exit code, and its counters if it ended cleanly."""
        code = self._process.wait(timeout_s)
        self._reader.join(5)
        assert self._process.stdout is not None
        printed = self._process.stdout.read()
        return code, json.loads(printed) if printed else {}

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        self._reader.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def programs() -> Iterator[list[Program]]:
    """Append what is started; whatever is left is killed at the end."""
    started: list[Program] = []
    try:
        yield started
    finally:
        for program in started:
            program.kill()


def ledger_lines(path: Path) -> list[tuple[str, int, bool, int]]:
    """Key, pid, in doubt, attempt of each run."""
    if not path.exists():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(key, int(pid), doubt == "1", int(attempt)) for key, pid, doubt, attempt in lines]
