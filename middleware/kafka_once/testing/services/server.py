"""What every server here can do, whether it is a process, a container, or somebody else's."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from kafka_once.testing.services.choosing import ServiceUnavailable


class Program(Protocol):
    """What runs a server: a process (`process.ServerProcess`) or a container (`docker.Container`)."""

    @property
    def pid(self) -> int | None:
        """The process's id while it runs, where it is known."""

    def start(self) -> None:
        """Run it, the first time or again."""

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return when `ready()` is true. ServiceUnavailable with the log's last lines if it ends or time runs out."""

    def stop(self) -> None:
        """End it in good order. Its data stays."""

    def kill(self) -> None:
        """SIGKILL, if it runs. Its data stays."""

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""

    def resume(self) -> None:
        """Let a frozen one go on."""

    def close(self) -> None:
        """End it and remove its data. May be called twice."""


class Server:
    """A running server. Leaving its `with` block ends it and removes its data, if it is ours."""

    kind: str
    version = "unknown"
    _program: Program | None = None  # none: somebody else runs it

    @property
    def pid(self) -> int | None:
        """The server's process id, when it is a process of ours and runs."""
        return self._program.pid if self._program else None

    def stop(self) -> None:
        """End it in good order; its data stays for `restart`."""
        self._ours("stopped").stop()

    def kill(self) -> None:
        """End it by SIGKILL; its data stays for `restart`."""
        self._ours("killed").kill()

    def restart(self) -> None:
        """Run it again (killing it first if it runs) at the same address with the same data. Returns when it serves."""
        program = self._ours("restarted")
        program.kill()
        self._start(program)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""
        self._ours("paused").pause()

    def resume(self) -> None:
        """Let a paused one go on."""
        self._ours("resumed").resume()

    def close(self) -> None:
        """End it and remove its data, if it is ours. May be called twice."""
        if self._program:
            self._program.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, program: Program) -> None:
        """Make the program ours and start it; if it does not get ready nothing of it is left."""
        self._program = program
        try:
            self._start(program)
        except BaseException:
            program.close()
            raise

    def _start(self, program: Program) -> None:
        program.start()
        program.wait_until(self._answers, timeout_s=60)

    def _answers(self) -> bool:
        """Whether it serves now."""
        raise NotImplementedError

    def _ours(self, what: str) -> Program:
        if self._program is None:
            raise ServiceUnavailable(f"a server of kind {self.kind!r} cannot be {what}: it is not ours")
        return self._program
