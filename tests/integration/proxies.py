"""A TCP proxy that can hold back what the server answers: requests are executed, and the caller hears nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """Between clients and one server, on a port of its own."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._answers_pass = threading.Event()
        self._answers_pass.set()
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    @contextmanager
    def holding_answers(self) -> Iterator[None]:
        """Hold answers back inside the block; they are delivered, late, when it ends."""
        self._answers_pass.clear()
        try:
            yield
        finally:
            self._answers_pass.set()

    def close(self) -> None:
        self._answers_pass.set()
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            self._start(lambda client=client, server=server: self._pump(client, server, None))
            self._start(lambda client=client, server=server: self._pump(server, client, self._answers_pass))

    def _pump(self, source: socket.socket, target: socket.socket, gate: threading.Event | None) -> None:
        while data := source.recv(65536):
            if gate is not None:
                gate.wait()
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)

    def _start(self, work) -> None:
        def until_closed() -> None:
            with suppress(OSError):
                work()

        threading.Thread(target=until_closed, daemon=True).start()
