"""A small HTTP service that charges cards, and that does it once for each idempotency key.

It stands for any API that takes such a key. Its books are in memory: `charges` by key, and every request it was sent.
"""

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

__all__ = ["Request", "Service"]


class Request(NamedTuple):
    key: str
    in_doubt: bool
    known: bool  # the key had been charged before: nothing happened


class Service:
    """Serves at `url` until it is closed.

    Args:
        on_charged: called after a card was charged, before the answer leaves, with the number of charges so far.
    """

    def __init__(self, on_charged: Callable[[int], None] = lambda _count: None) -> None:
        self.charges: dict[str, str] = {}  # key → charge id
        self.requests: list[Request] = []
        self._on_charged = on_charged
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def charge(self, key: str, charge_id: str, *, in_doubt: bool) -> None:
        """The effect, once for each key."""
        with self._lock:
            known = key in self.charges
            self.requests.append(Request(key, in_doubt, known))
            if known:
                return
            self.charges[key] = charge_id
            count = len(self.charges)
        self._on_charged(count)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # whoever asked died while it wrote
                    return
                in_doubt = self.headers["In-Doubt"] == "true"
                service.charge(self.headers["Idempotency-Key"], json.loads(body)["id"], in_doubt=in_doubt)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error here; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
