"""`make bench-quick`, `make bench`, `make bench-full`: prints tables, and writes them with all figures to build/.

The machine, the versions and the date stand above the tables. Rows that we lose stay in. `python -m bench.report` makes
docs/performance.md of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from bench import measures
from bench.kills import kills
from bench.latency import latency
from bench.orders import orders
from bench.pace import pace
from bench.process_memory import process_memory
from bench.redis_memory import Turnover, done_keys, redis_calls
from bench.results import BUILD, Results, machine
from bench.sizes import COMMANDS, SIZES, Size
from bench.stage import Stage
from bench.tables import Measure
from bench.targets import targets_table
from kafka_once.testing.services import start_kafka, start_redis

PEERS = (
    "aws-lambda-powertools==3.37.0",
    "boto3==1.43.31",
    "redis==7.1.0",
    "confluent-kafka==2.13.0",
    "pyrallel-consumer==1.0.0",  # says that it needs Python 3.12, and runs with 3.11
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="usual")
    parser.add_argument("--only", default="*", help="a pattern for the tables' names")
    parser.add_argument("--no-peers", action="store_true", help="leave out what has to be installed from PyPI")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    peers = _peers() if size.peers and not arguments.no_peers else None
    part = "" if arguments.only == "*" else "-part"  # a report is made of a whole run
    target, began_s = BUILD / f"bench-{arguments.size}{part}.json", time.monotonic()
    with start_kafka("apache") as kafka, start_redis("local", config={"appendonly": "no"}) as store:
        results = Results(COMMANDS[arguments.size], machine(kafka.version, store.version))
        print(results.machine, flush=True)
        for measure in _measured(Stage(kafka, store), size, peers, arguments.only):
            results.measures[measure.name] = measure
            results.write(target)  # after each: what comes later may fail
            print(f"\n### {measure.title}\n\n{measure.note}\n\n{measure.as_markdown()}", flush=True)
    print(f"\n### Targets\n\n{targets_table(results)}")
    print(f"\nall runs: {target}; it took {time.monotonic() - began_s:.0f} s")
    return 0


Step = tuple[str, object, Callable[[], Measure]]
"""A table's name, how much of it is wanted (nothing: leave it out), and what makes it."""


def plan(stage: Stage, size: Size, peers: str | None) -> list[Step]:
    """All tables, in their order. What takes no notice of a turnover beside it comes last."""
    return [
        ("throughput", size.messages, lambda: measures.throughput(stage, size, peers)),
        ("handler-times", size.handlers_ms, lambda: measures.handler_times(stage, size)),
        ("latency", size.latency_messages, lambda: latency(stage, size)),
        ("pace", size.paces, lambda: pace(stage, size)),
        ("orders", size.order_messages, lambda: orders(stage, size, peers)),
        ("remembered", size.remembered, lambda: measures.remembered(stage, size)),
        ("partitions", size.partitions, lambda: measures.partitions(stage, size)),
        ("handlers", size.handlers, lambda: measures.handlers(stage, size)),
        ("redis-memory", size.done_keys, lambda: done_keys(stage.redis, size.done_keys)),
        ("redis-calls", size.done_keys, lambda: redis_calls(stage.redis)),
        ("turnover", size.turnover_s, lambda: Turnover(size.turnover_s).wait()),
        ("process-memory", size.backlogs, lambda: process_memory(stage, size)),
        ("kills", size.kills, lambda: kills(stage, size)),
    ]


_BESIDE = "turnover"  # it waits most of the time: it runs while those behind it are measured


def _measured(stage: Stage, size: Size, peers: str | None, only: str) -> Iterator[Measure]:
    """What this size has, one after another."""
    beside = None
    for name, wanted, measure in plan(stage, size, peers):
        if not wanted or not fnmatch(name, only):
            continue
        if name == _BESIDE:
            beside = Turnover(size.turnover_s)
        else:
            yield measure()
    if beside is not None:
        yield beside.wait()


def _peers() -> str:
    """The Python of an environment with pinned peers, made when it is first asked for."""
    folder = BUILD / "bench-peers"
    python, installed = folder / "bin" / "python", folder / ".installed"
    if not installed.exists() or installed.read_text() != repr(PEERS):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--ignore-requires-python", *PEERS], check=True)
        installed.write_text(repr(PEERS))
    return str(Path(python).absolute())


if __name__ == "__main__":
    sys.exit(main())
