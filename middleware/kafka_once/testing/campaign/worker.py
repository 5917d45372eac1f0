"""One process of the group: an app whose handler takes a moment and then writes to the ledger.

    python -m kafka_once.testing.campaign.worker '<WorkerSpec as JSON>'

It ends by SIGTERM, or by SIGKILL.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast
from zlib import crc32

from kafka_once import App, Message, Outcome, header
from kafka_once.member import Adapters, open_broker
from kafka_once.ports import Broker
from kafka_once.settings import Settings
from kafka_once.testing.campaign.ledger import Ledger
from kafka_once.testing.campaign.payments import KEY_HEADER
from kafka_once.testing.campaign.watched import WatchedBroker, WatchedNotes

__all__ = ["WorkerSpec", "run"]

_TELL_EVERY_S = 0.2
_STALLED_MS = 400


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker is told.

    Attributes:
        life: its name in the books.
        folder: where the ledger is.
        settings: of the App, by their names.
        handler_ms: how long the handler takes before its effect.
        slow_ms, slow_every: how long it takes for one key in so many; 0: there are none.
        hang_ms: for how long SIGUSR1 makes the consumer's thread stand still.
    """

    life: str
    folder: str
    topic: str
    handler_ms: float
    settings: dict[str, Any] = field(default_factory=dict)
    slow_ms: float = 0.0
    slow_every: int = 0
    hang_ms: float = 0.0

    def handler_s(self, key: str) -> float:
        """How long the handler takes for this key, in every process."""
        slow = self.slow_every and crc32(key.encode()) % self.slow_every == 0
        return (self.slow_ms if slow else self.handler_ms) / 1000

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerSpec:
        return cls(**json.loads(text))


def make_app(spec: WorkerSpec, ledger: Ledger) -> App:
    """The app, as a user would write it, with a watched broker."""
    hang = threading.Event()
    signal.signal(signal.SIGUSR1, lambda _number, _frame: hang.set())

    def watched_broker(settings: Settings) -> Broker:
        return cast("Broker", WatchedBroker(open_broker(settings), ledger, hang, spec.hang_ms))

    adapters = Adapters(broker=watched_broker)
    app = App(adapters=adapters, observers=[WatchedNotes(ledger)], **spec.settings)

    @app.handler(spec.topic, key=header(KEY_HEADER))
    def charge(message: Message) -> None:
        key = (message.header(KEY_HEADER) or b"").decode()
        what = (key, message.partition, message.offset, message.attempt)
        ledger.write_start(*what, in_doubt=message.in_doubt)
        time.sleep(spec.handler_s(key))
        ledger.write_run(*what, in_doubt=message.in_doubt)

    return app


def _tell(app: App, ledger: Ledger) -> None:
    """Now and then: the totals of this life that moved, and whether this thread could not run for long."""
    told: dict[str, int] = {}
    looked_ns = time.monotonic_ns()
    while True:
        time.sleep(_TELL_EVERY_S)
        now_ns = time.monotonic_ns()
        late_ms = (now_ns - looked_ns) // 1_000_000
        if late_ms > _STALLED_MS:
            ledger.write_events("stalled", [late_ms])
        looked_ns = now_ns
        for kind, total in _totals(app.stats()).items():
            if told.get(kind, 0) != total:
                ledger.write_events(kind, [total])
                told[kind] = total


def _totals(stats: dict[str, int]) -> dict[str, int]:
    return {"skipped": stats[Outcome.REPEAT] + stats[Outcome.REDELIVERY], "busy": stats["busy"]}


def main() -> None:
    """The process."""
    run(WorkerSpec.from_json(sys.argv[1]))


def run(spec: WorkerSpec) -> None:
    """One life, until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%H:%M:%S")
    ledger = Ledger(Path(spec.folder), spec.life)
    app = make_app(spec, ledger)
    threading.Thread(target=_tell, args=(app, ledger), daemon=True).start()
    app.run()
    stats = app.stats()
    for kind, total in _totals(stats).items():
        ledger.write_events(kind, [total])
    ledger.write_events("unaccounted", [stats["deliveries"] - sum(stats[outcome] for outcome in Outcome)])


if __name__ == "__main__":
    main()
