"""`python -m tests.chaos.crash_points SPEC`: a consumer that ends itself, without a word, at a named point.

The points are named round the adapters, in this process only: the code under test knows nothing of them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from kafka_once import App, Message, header
from kafka_once.core.calls import Exchange
from kafka_once.core.rules import OpenSession, StoreCall
from kafka_once.member import Adapters, open_broker, open_store
from kafka_once.ports import Broker, Namespace, Store

__all__ = ["DIED", "POINTS", "WINDOW"]

DIED = 42
_CALLS = ("session", "ownership", "claim", "completion")
POINTS = (
    "polled",
    *(f"{stage}: {what}" for what in _CALLS for stage in ("before", "sent", "answered")),
    "before: handler",
    "after: handler",
    *(f"{stage}: {what}" for what in ("commit", "dead letter") for stage in ("before", "sent", "answered")),
)
WINDOW = ("after: handler", "before: completion", "sent: completion")  # the effect has happened, and nobody may know


class Point:
    """Ends the process when it is reached."""

    def __init__(self, dies_at: str) -> None:
        self._dies_at = dies_at

    def __call__(self, name: str) -> None:
        if name == self._dies_at:
            os._exit(DIED)


def said(call: StoreCall) -> list[str]:
    if isinstance(call, OpenSession):
        return ["session"]
    if isinstance(call, Exchange):
        return [*(["completion"] if call.completes else []), *(["claim"] if call.claims else [])]
    return ["ownership"]


def with_points(owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    inner = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        before()
        answer = inner(*arguments, **named)
        after()
        return answer

    setattr(owner, name, call)


class Pipe:
    """A `StorePipe` round another."""

    def __init__(self, inner: Any, point: Point) -> None:
        self._inner = inner
        self._point = point
        self._away: deque[list[str]] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, session: Any, call: StoreCall) -> None:
        self._reach("before", said(call))
        self._inner.send(session, call)
        self._away.append(said(call))
        self._reach("sent", said(call))

    def receive(self, session: Any, call: StoreCall) -> object:
        answer = self._inner.receive(session, call)
        self._reach("answered", self._away.popleft())
        return answer

    def drop(self) -> None:
        self._away.clear()
        self._inner.drop()

    def _reach(self, stage: str, calls: list[str]) -> None:
        for what in calls:
            self._point(f"{stage}: {what}")


def store_of(point: Point) -> Callable[[Any, Namespace], Store]:
    def made(settings: Any, namespace: Namespace) -> Store:
        store: Any = open_store(settings, namespace)
        inner = store.pipe
        store.pipe = lambda *arguments, **named: Pipe(inner(*arguments, **named), point)
        return store  # type: ignore[no-any-return]

    return made


def broker_of(point: Point) -> Callable[[Any], Broker]:
    def made(settings: Any) -> Broker:
        broker: Any = open_broker(settings)
        poll, commit, publish = broker.poll, broker.commit, broker.publish

        def poll_and_tell(*arguments: Any) -> Any:
            messages = poll(*arguments)
            if messages:
                point("polled")
            return messages

        def told(name: str, then: Callable[..., None]) -> Callable[..., None]:
            def on_result(result: Any) -> None:
                point(f"answered: {name}")
                then(result)

            return on_result

        broker.poll = poll_and_tell
        broker.commit = lambda marks, then: commit(marks, told("commit", then))
        broker.publish = lambda record, then: publish(record, told("dead letter", then))
        with_points(broker, "commit", lambda: point("before: commit"), lambda: point("sent: commit"))
        with_points(broker, "publish", lambda: point("before: dead letter"), lambda: point("sent: dead letter"))
        return broker  # type: ignore[no-any-return]

    return made


def main() -> None:
    spec = json.loads(sys.argv[1])
    logging.basicConfig(level="INFO", stream=sys.stderr)
    point = Point(spec["dies_at"])
    ledger = os.open(spec["ledger"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    adapters = Adapters(broker=broker_of(point), store=store_of(point))
    app = App(spec["bootstrap"], group=spec["group"], store=spec["store"], adapters=adapters, **spec["settings"])

    @app.handler(spec["topic"], key=header("id"))
    def handle(message: Message) -> None:
        point("before: handler")
        key = (message.idempotency_key or b"").decode()
        if key.startswith("poison"):
            raise ValueError("it never works")
        os.write(ledger, f"{key} {os.getpid()} {int(message.in_doubt)} {message.attempt}\n".encode())
        point("after: handler")

    app.run()


if __name__ == "__main__":
    main()
