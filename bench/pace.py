"""What a message costs when messages come at a pace, not from a backlog: fewer of them share a round trip then.

The consumer is a process of its own (`run_one.py`); this one produces.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from confluent_kafka import Producer

from bench.sizes import Size
from bench.stage import Stage
from bench.tables import Measure, Row
from bench.workload import HEADER, Workload, payload_of

__all__ = ["pace"]

_PARTITIONS = 4
_TICK_S = 0.002
_STARTING_S = 3.0  # until the consumer has its partitions: what came earlier would be a backlog


class _Paced(Workload):
    """A topic that is filled while it is consumed."""

    def __init__(self, stage: Stage, per_s: int, seconds: float) -> None:
        super().__init__([stage.new_name()], int(per_s * seconds), _PARTITIONS)
        self.distinct = self.count
        self._per_s = per_s
        stage.kafka.create_topic(self.topics[0], _PARTITIONS)
        self._producer = Producer({"bootstrap.servers": stage.kafka.bootstrap, "linger.ms": 0})
        self._thread = threading.Thread(target=self._send)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _send(self) -> None:
        time.sleep(_STARTING_S)
        began_s, sent = time.monotonic(), 0
        while sent < self.count:
            due = min(self.count, int((time.monotonic() - began_s) * self._per_s) + 1)
            for number in range(sent, due):
                headers: Any = [(HEADER, f"{number:032x}".encode())]
                value, partition = payload_of(number), number % _PARTITIONS
                self._producer.produce(self.topics[0], value, partition=partition, headers=headers)
            sent = due
            self._producer.poll(0)
            time.sleep(_TICK_S)
        self._producer.flush(60)


def pace(stage: Stage, size: Size) -> Measure:
    rows = {per_s: Row(f"{per_s:,} messages/s", []) for per_s in size.paces}
    for _ in range(size.again):
        for per_s, row in rows.items():
            paced = _Paced(stage, per_s, size.pace_s)
            paced.start()
            row.runs.append(stage.run("effectively_once", paced) | {"per_s": per_s})
            paced.join()
    note = "A handler that does nothing, 4 partitions, one process; produced at that pace while it is consumed."
    columns = (
        ("round_trips_per_1000", "round trips/1,000", 0),
        ("cpu_us", "client CPU µs/message", 0),
        ("redis_us", "Redis CPU µs/message", 0),
    )
    return Measure("pace", "At a steady pace", note, columns, list(rows.values()))
