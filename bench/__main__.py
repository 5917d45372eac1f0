"""`make bench-quick`, `make bench`, `make bench-full`: prints tables, and writes them with all figures to build/.

The machine, the versions and the date stand above the tables. Rows that we lose stay in.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import confluent_kafka
import redis

from bench.measures import SIZES, Measure, measures
from bench.stage import Stage
from kafka_once.testing.services import start_kafka, start_redis

_BUILD = Path("build")
_PEERS = ("aws-lambda-powertools==3.37.0", "boto3==1.43.31", "redis==7.1.0", "confluent-kafka==2.13.0")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="usual")
    parser.add_argument("--no-peers", action="store_true", help="leave out what has to be installed from PyPI")
    arguments = parser.parse_args()
    peers = None if arguments.no_peers or arguments.size == "quick" else _peers()
    done: list[Measure] = []
    with start_kafka("apache") as kafka, start_redis("local", config={"appendonly": "no"}) as store:
        print(_machine(kafka.version, store.version), flush=True)
        for measure in measures(Stage(kafka, store), SIZES[arguments.size], peers):
            print(f"\n{_as_markdown(measure)}", flush=True)
            done.append(measure)
    print(f"\n{_ratios(done[0])}")
    _BUILD.mkdir(exist_ok=True)
    target = _BUILD / f"bench-{arguments.size}.json"
    target.write_text(json.dumps([asdict(measure) for measure in done], indent=1))
    print(f"all runs: {target}")
    return 0


def _peers() -> str:
    """The Python of an environment with pinned peers, made when it is first asked for."""
    folder = _BUILD / "bench-peers"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_PEERS], check=True)
        (folder / ".installed").touch()
    return str(python.absolute())


def _machine(kafka: str, store: str) -> str:
    today = dt.datetime.now(tz=dt.UTC).date()
    return (
        f"{today} · {os.cpu_count()} cores, {platform.machine()} · Python {platform.python_version()}, confluent-kafka "
        f"{confluent_kafka.__version__}, redis-py {redis.__version__} · Kafka {kafka}, Redis {store}, all on loopback"
    )


def _as_markdown(measure: Measure) -> str:
    heading = ["", *(name for _, name, _ in measure.columns)]
    lines = [[row.name, *(row.shown(figure, digits) for figure, _, digits in measure.columns)] for row in measure.rows]
    return f"### {measure.title}\n\n{_table(heading, lines)}"


def _table(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(line)} |" for line in (heading, *lines)]
    return "\n".join([rows[0], f"|{'---|' * len(heading)}", *rows[1:]])


def _ratios(throughput: Measure) -> str:
    """Ours against each, in this run: what the targets are about."""
    ours = throughput.row("effectively_once").median("messages_per_s")
    engine = throughput.row("at_least_once").median("messages_per_s")
    lines = [
        [f"effectively_once ÷ {row.name}", f"{ours / row.median('messages_per_s'):.2f}"]
        for row in throughput.rows
        if row.name != "effectively_once"
    ]
    poll = throughput.row("poll_loop").median("messages_per_s")
    lines.append(["at_least_once ÷ poll_loop", f"{engine / poll:.2f}"])
    return _table(["ratio", "this run"], lines)


if __name__ == "__main__":
    sys.exit(main())
