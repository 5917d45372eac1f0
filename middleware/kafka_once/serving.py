"""A tiny HTTP server for probes: /healthz, /readyz and, with the extra `metrics`, /metrics."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from kafka_once.errors import ConfigurationError

if TYPE_CHECKING:
    from kafka_once.health import Health

__all__ = ["Probes"]

log = logging.getLogger("kafka_once")

_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_LOOK_S = 0.1  # how soon it sees that it is closed
_PATIENCE_S = 10.0  # for a client that connects and says nothing

Answer = tuple[HTTPStatus, str, bytes]


class Probes:
    """Serves on a thread of its own until it is closed.

    Args:
        host, port: where to listen; port 0 takes any that is free.
        health: asked for each request.
        metrics: the text of /metrics; None if the extra is not installed.

    Raises:
        ConfigurationError: it cannot listen there.
    """

    def __init__(self, host: str, port: int, health: Callable[[], Health], metrics: Callable[[], bytes] | None) -> None:
        self._health = health
        self._metrics = metrics
        try:
            self._server = _Server((host, port), _handler_of(self._answer))
        except OSError as error:
            remedy = f"it cannot listen at {host}:{port} ({error.strerror or error}): choose another one"
            raise ConfigurationError("health_port", port, remedy) from None
        serve = partial(self._server.serve_forever, poll_interval=_LOOK_S)
        threading.Thread(target=serve, name="kafka-once-probes", daemon=True).start()
        log.info("health is told at http://%s:%s/healthz", *self.address)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def close(self) -> None:
        """Listen no more. May be called twice."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> Answer:
        if path == "/healthz":
            health = self._health()
            return _told(health, good=health.live)
        if path == "/readyz":
            health = self._health()
            return _told(health, good=health.ready)
        if path == "/metrics" and self._metrics is not None:
            return HTTPStatus.OK, _TEXT, self._metrics()
        if path == "/metrics":
            return HTTPStatus.NOT_FOUND, _TEXT, b"install it: pip install 'kafka-once[metrics]'\n"
        return HTTPStatus.NOT_FOUND, _TEXT, b"there are /healthz, /readyz and /metrics\n"


def _told(health: Health, *, good: bool) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, _JSON, json.dumps(health.as_dict()).encode() + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs must not hold up the end


def _handler_of(answer: Callable[[str], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_GET(self) -> None:
            status, kind, body = answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  (the standard library's name)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the standard library's name)
            log.debug("probe: %s", format % args)

    return Handler
