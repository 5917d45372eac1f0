"""What a kill -9 leaves, beside what a handler's time costs: real Kafka, real Redis, books from outside.

    python -m bench.kills --kills 20 --handler-ms 0 0.1 1 5 20

A worker consumes with static membership (`kill_worker.py`); its handler writes a record when it begins and one when it
ends, with one `write` each, so that what a killed process did is known. It is killed while it works, and the next one
started; that goes on until it has done all that was in doubt and more. A row is a handler's time:

- *in doubt*: messages that the next worker was told of (`message.in_doubt`), for each kill;
- *listed*: what the store lists as in doubt, looked at from outside: the same keys;
- *run again*: keys whose handler ended before the kill and ran again after it;
- *run again, not told*: of these, without the mark; ours must never have one.

One row has many handlers at once: what runs is in doubt then, and what was claimed ahead of it. The last row is the
fastest loop by hand (look, handle, mark after, 500 at a time), killed in the same way.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.kill_worker import RECORD, Life
from bench.sizes import Size
from bench.stage import Stage
from bench.tables import Measure, Row
from bench.workload import Workload
from kafka_once.ports import Namespace
from kafka_once.stores.redis import RedisStore
from kafka_once.testing.services import start_kafka, start_redis

__all__ = ["kills"]

BY_HAND = "0 ms, batch_check_after"
_CLUSTER = "bench"
_AT_WORK_S = 0.7  # how long a worker works before it is killed, at least, after all that was in doubt
_AT_ONCE, _AT_ONCE_MS = 100, 5.0  # of the row with order="none" and async handlers
_PATIENCE_S = 60
_LOOK_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="of each row (default 5)")
    parser.add_argument("--handler-ms", type=float, nargs="+", default=[0, 0.1, 1, 5])
    options = parser.parse_args()
    with start_kafka("apache") as kafka, start_redis("local", config={"appendonly": "no"}) as redis:
        size = Size(0, 0, kills=options.kills, handlers_ms=tuple(options.handler_ms))
        measure = kills(Stage(kafka, redis), size)
    print(measure.as_markdown())
    print(json.dumps(measure.as_json()))


def kills(stage: Stage, size: Size) -> Measure:
    rows, chance = [], random.Random(1)
    workload = stage.produce(150_000 * (size.kills + 1))  # more than the fastest gets through
    for handler_ms in size.handlers_ms:
        stage.redis.client().flushall()
        rows.append(Row(f"{handler_ms:g} ms", _Case(stage, workload, handler_ms, chance).run(size.kills)))
    stage.redis.client().flushall()
    case = _Case(stage, workload, _AT_ONCE_MS, chance, at_once=_AT_ONCE)
    rows.append(Row(f"{_AT_ONCE_MS:g} ms, {_AT_ONCE} at once", case.run(size.kills)))
    stage.redis.client().flushall()
    rows.append(Row(BY_HAND, _Case(stage, workload, 0.0, chance, by_hand=True).run(size.kills)))
    note = (
        f"{size.kills} × kill -9 of a worker that is at work, in each row; static membership, 4 partitions in order, "
        f'but {_AT_ONCE} async handlers with order="none" in one row. The median of the kills, the least and the most. '
        "Each handler writes two records of itself into a file, and the rate is that of the time at work before the "
        "kill: these are not the rates of the first table."
    )
    columns = (
        ("messages_per_s", "messages/s", 0),
        ("round_trips_per_1000", "round trips/1,000", 0),
        ("in_doubt", "in doubt per kill", 0),
        ("listed", "listed per kill", 0),
        ("run_again", "run again per kill", 0),
        ("untold", "run again, not told", 0),
    )
    return Measure("kills", "What a kill -9 leaves, by the handler's time", note, columns, rows)


@dataclass(slots=True)
class _Book:
    """What one worker wrote."""

    life: Life = field(default_factory=Life)
    position: int = 0

    def read(self, file: Path) -> None:
        if not file.exists():
            return
        with file.open("rb") as records:
            records.seek(self.position)
            block = records.read()
        whole = len(block) - len(block) % RECORD.size
        self.position += whole
        for record in RECORD.iter_unpack(block[:whole]):
            self.life.add(*record)


class _Case:
    """One handler's time."""

    def __init__(
        self,
        stage: Stage,
        workload: Workload,
        handler_ms: float,
        chance: random.Random,
        *,
        at_once: int = 0,
        by_hand: bool = False,
    ) -> None:
        self._stage = stage
        self._group = stage.new_name()
        self._chance = chance
        self._workload = workload
        self._spec = {
            "bootstrap": stage.kafka.bootstrap,
            "store": stage.redis.url,
            "group": self._group,
            "topics": workload.topics,
            "handler_ms": handler_ms,
            "cluster": _CLUSTER,
            "at_once": at_once,
            "by_hand": by_hand,
        }

    def run(self, count: int) -> list[dict[str, Any]]:
        """A run for each kill."""
        with tempfile.TemporaryDirectory() as folder:
            lives = [self._live(Path(folder) / str(number), last=number == count) for number in range(count + 1)]
        listed = self._listed()
        runs, ended = [], set[bytes]()
        for life, following in pairwise(lives):
            ended |= life.ended
            again = ended & following.begun
            runs.append(
                life.rates()
                | {
                    "in_doubt": len(following.in_doubt),
                    "listed": len(following.in_doubt & listed),
                    "run_again": len(again),
                    "untold": len(again - following.in_doubt),
                }
            )
        return runs

    def _live(self, file: Path, *, last: bool) -> Life:
        """From the start to the kill; the last one only shows what the kill before it left."""
        book = _Book()
        with self._worker(file) as process:
            deadline_s, wait_s = time.monotonic() + _PATIENCE_S, _AT_WORK_S + self._chance.uniform(0, 0.3)
            while not book.life.worked_for(wait_s) and not self._is_through(book.life):
                if process.poll() is not None or time.monotonic() > deadline_s:
                    told = file.with_suffix(".log").read_text()[-2000:]
                    raise RuntimeError(f"the worker ended, or did nothing for {_PATIENCE_S} s: {told}")
                time.sleep(_LOOK_S)
                book.read(file)
            process.send_signal(signal.SIGTERM if last else signal.SIGKILL)
            process.wait(_PATIENCE_S)
        book.read(file)
        return book.life

    def _is_through(self, life: Life) -> bool:
        if len(life.ended) < self._workload.distinct:
            return False
        raise RuntimeError("the topic was at its end before the last kill: make it longer")

    @contextmanager
    def _worker(self, file: Path) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "bench.kill_worker", json.dumps(self._spec | {"file": str(file)})]
        with file.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _listed(self) -> set[bytes]:
        store = RedisStore(self._stage.redis.url, Namespace(_CLUSTER, self._group))
        try:
            return {doubt.digest for doubt in store.doubts(100_000)}
        finally:
            store.close()


if __name__ == "__main__":
    main()
