"""All that a run of the benchmark measured, with where and when, as JSON in build/."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import confluent_kafka
import redis

from bench.tables import Measure

__all__ = ["BUILD", "Results", "machine"]

BUILD = Path("build")


@dataclass(slots=True)
class Results:
    """`command`: which made them. `measures`: by their names."""

    command: str
    machine: str
    measures: dict[str, Measure] = field(default_factory=dict)

    def median(self, measure: str, row: str, figure: str) -> float | None:
        """None if it was not measured."""
        found = self.measures.get(measure)
        return None if found is None else found.median(row, figure)

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        measures = [measure.as_json() for measure in self.measures.values()]
        file.write_text(json.dumps({"command": self.command, "machine": self.machine, "measures": measures}, indent=1))

    @classmethod
    def read(cls, file: Path) -> Results:
        told = json.loads(file.read_text())
        measures = [Measure.from_json(measure) for measure in told["measures"]]
        return cls(told["command"], told["machine"], {measure.name: measure for measure in measures})


def machine(kafka: str, store: str) -> str:
    """Date, machine and versions in one line."""
    today = dt.datetime.now(tz=dt.UTC).date()
    return (
        f"{today} · {os.cpu_count()} cores, {platform.machine()} · Python {platform.python_version()}, confluent-kafka "
        f"{confluent_kafka.__version__}, redis-py {redis.__version__} · Kafka {kafka}, Redis {store}, all on loopback"
    )
