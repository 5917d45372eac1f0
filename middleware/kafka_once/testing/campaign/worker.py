"""One process of the group: an app whose handler takes a moment and then writes to the ledger.

    python -m kafka_once.testing.campaign.worker '<WorkerSpec as JSON>'

It ends by SIGTERM, or by SIGKILL.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kafka_once import App, Message, Outcome, header
from kafka_once.brokers.kafka import KafkaBroker
from kafka_once.member import Adapters
from kafka_once.message import TopicPartition
from kafka_once.ports import Broker, Rebalances
from kafka_once.settings import Settings
from kafka_once.testing.campaign.ledger import Ledger
from kafka_once.testing.campaign.payments import KEY_HEADER

__all__ = ["WorkerSpec"]

_TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker is told.

    Attributes:
        life: its name in the books.
        folder: where the ledger is.
        settings: of the App, by their names.
        handler_ms: how long the handler takes before its effect.
    """

    life: str
    folder: str
    topic: str
    handler_ms: float
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerSpec:
        return cls(**json.loads(text))


class _WatchedBroker(KafkaBroker):
    """Tells the ledger's events what passes between Kafka and the library."""

    ledger: Ledger

    def start(self, topics: Sequence[str], rebalances: Rebalances) -> None:
        super().start(topics, _WatchedRebalances(rebalances, self.ledger))

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        messages = super().poll(max_messages, timeout_s)
        if messages:
            self.ledger.write_events("polled", [len(messages)])
        return messages


class _WatchedRebalances:
    def __init__(self, rebalances: Rebalances, ledger: Ledger) -> None:
        self._rebalances = rebalances
        self._ledger = ledger
        self.on_revoked = rebalances.on_revoked
        self.on_lost = rebalances.on_lost

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._ledger.write_events("assigned", [partition.partition for partition in partitions])
        self._rebalances.on_assigned(partitions)


def make_app(spec: WorkerSpec, ledger: Ledger) -> App:
    """The app, as a user would write it, with a watched broker."""

    def watched_broker(settings: Settings) -> Broker:
        broker = _WatchedBroker(settings.librdkafka(), on_warning=logging.getLogger("kafka_once").warning)
        broker.ledger = ledger
        return broker

    app = App(adapters=Adapters(broker=watched_broker), **spec.settings)
    handler_s = spec.handler_ms / 1000

    @app.handler(spec.topic, key=header(KEY_HEADER))
    def charge(message: Message) -> None:
        key = (message.header(KEY_HEADER) or b"").decode()
        what = (key, message.partition, message.offset, message.attempt)
        ledger.write_start(*what, in_doubt=message.in_doubt)
        time.sleep(handler_s)
        ledger.write_run(*what, in_doubt=message.in_doubt)

    return app


def _tell_skipped(app: App, ledger: Ledger) -> None:
    """For people who watch, only: how many duplicates this life has skipped so far."""
    told = 0
    while True:
        time.sleep(_TELL_EVERY_S)
        skipped = _skipped(app.stats())
        if skipped != told:
            ledger.write_events("skipped", [skipped])
            told = skipped


def _skipped(stats: dict[str, int]) -> int:
    return stats[Outcome.REPEAT] + stats[Outcome.REDELIVERY]


def main() -> None:
    """The process."""
    spec = WorkerSpec.from_json(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%H:%M:%S")
    ledger = Ledger(Path(spec.folder), spec.life)
    app = make_app(spec, ledger)
    threading.Thread(target=_tell_skipped, args=(app, ledger), daemon=True).start()
    app.run()
    stats = app.stats()
    ledger.write_events("skipped", [_skipped(stats)])
    ledger.write_events("unaccounted", [stats["deliveries"] - sum(stats[outcome] for outcome in Outcome)])


if __name__ == "__main__":
    main()
