"""TCP proxies. One holds back or drops what the server answers: requests are executed, the caller hears nothing. The
other keeps one Kafka client from the coordinator of its group, and lets its fetches go on."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """Between clients and one server, on a port of its own.

    Attributes:
        address, url: where it listens.
        server_url: where it leads to; may be set after it was made.
        dropped: is set when an answer has been dropped.
    """

    def __init__(self, server_url: str = "") -> None:
        self.server_url = server_url
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"redis://{self.address}/0"
        self.dropped = threading.Event()
        self._dropping = False
        self._torn: list[socket.socket] = []  # connections that bytes are missing in
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

    @contextmanager
    def dropping_answers(self) -> Iterator[None]:
        """Drop answers inside the block: they are never delivered, and their connections break when it ends."""
        self.dropped.clear()
        self._dropping = True
        try:
            yield
        finally:
            self._dropping = False
            for each in self._torn:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._answers_pass.set()
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            parts = urlsplit(self.server_url)
            try:
                server = socket.create_connection((parts.hostname, parts.port))
            except OSError:  # not there yet, or not any more
                client.close()
                continue
            self._sockets += [client, server]
            self._start(lambda client=client, server=server: self._ask(client, server))
            self._start(lambda client=client, server=server: self._pump(server, client, self._answers_pass))

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        self._pump(client, server, None)

    def _pump(self, source: socket.socket, target: socket.socket, gate: threading.Event | None) -> None:
        while data := source.recv(65536):
            if gate is not None:
                gate.wait()
                if self._dropping:
                    self._torn.append(target)
                    self.dropped.set()
                    continue
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)

    def _start(self, work) -> None:
        def until_closed() -> None:
            with suppress(OSError):
                work()

        threading.Thread(target=until_closed, daemon=True).start()


# By their api_key, https://kafka.apache.org/protocol: OffsetCommit, OffsetFetch, JoinGroup, Heartbeat, LeaveGroup,
# SyncGroup, ConsumerGroupHeartbeat.
_GROUP_REQUESTS = {8, 9, 11, 12, 13, 14, 68}


class CoordinatorProxy(Proxy):
    """In front of a Kafka. librdkafka has a connection of its own to its group's coordinator; that one can be cut.

    Attributes:
        held: how many requests were held back so far.
    """

    def __init__(self, server_url: str = "") -> None:
        self._cut_off: set[str] = set()
        self._healed = threading.Condition()
        self.held = 0
        super().__init__(server_url)

    @contextmanager
    def cutting_off(self, client_id: str) -> Iterator[None]:
        """Hold back inside the block what this client asks of its coordinator. It all arrives, late, when it ends."""
        self._cut_off.add(client_id)
        try:
            yield
        finally:
            with self._healed:
                self._cut_off.discard(client_id)
                self._healed.notify_all()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        to_coordinator = False
        stream = client.makefile("rb")
        while len(size := stream.read(4)) == 4:
            request = stream.read(int.from_bytes(size, "big"))
            to_coordinator = to_coordinator or int.from_bytes(request[:2], "big") in _GROUP_REQUESTS
            if to_coordinator:
                client_id = request[10 : 10 + int.from_bytes(request[8:10], "big")].decode()
                with self._healed:
                    self.held += client_id in self._cut_off
                    self._healed.wait_for(lambda client_id=client_id: client_id not in self._cut_off)
            server.sendall(size + request)
        server.shutdown(socket.SHUT_RDWR)
