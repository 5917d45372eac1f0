"""Payments with repeats through three consumer processes that are killed again and again, once per semantics.

    python -m examples.demo [--kafka apache|docker|mock] [--seed 7]

Each run has a topic and a group of its own. At the end every effect is looked up in a ledger that only the handlers
write to. Exit code 1 if a promise was broken; the folder with the ledgers is then kept.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from rich.console import Console

from examples.demo.screen import Screen, show_result
from kafka_once import Semantics
from kafka_once.testing.campaign.campaign import Campaign, Plan
from kafka_once.testing.campaign.promises import Verdict, judge
from kafka_once.testing.services import KafkaServer, RedisServer, ServiceUnavailable, start_kafka, start_redis

KILLS = {Semantics.AT_MOST_ONCE: 3, Semantics.AT_LEAST_ONCE: 3, Semantics.EFFECTIVELY_ONCE: 10}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--kafka", choices=("apache", "docker", "mock"), default=os.environ.get("KAFKA") or None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=10_000, help="distinct payments")
    parser.add_argument("--repeats", type=int, default=2_000)
    return parser.parse_args(arguments)


def kafka_for(kind: str | None, console: Console) -> KafkaServer:
    """The real broker if it is to be had: as a process, in a container; else librdkafka's mock."""
    if kind is not None:
        return start_kafka(kind)
    for real in ("apache", "docker"):
        try:
            return start_kafka(real)
        except ServiceUnavailable as reason:
            console.print(f"no real Kafka by {real}: {str(reason).splitlines()[0]}", highlight=False)
    return start_kafka("mock")


def redis_for(console: Console) -> RedisServer:
    try:
        return start_redis("embedded")
    except ServiceUnavailable as reason:
        console.print(f"no embedded Redis: {reason}", highlight=False)
        return start_redis()


def settings_for(kafka: KafkaServer) -> dict[str, Any]:
    """librdkafka's settings: dead members are missed after 6 s."""
    if kafka.kind == "mock":  # its classic groups take 10 s for each rebalance
        return {"group.protocol": "consumer", "fetch.wait.max.ms": 10}
    return {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}


def is_static(kafka: KafkaServer) -> bool:
    """Restarted processes have their partitions back at once; the mock leaves a dead static member's alone for long."""
    return kafka.kind != "mock"


def run_one(
    semantics: Semantics,
    options: argparse.Namespace,
    kafka: KafkaServer,
    store: RedisServer,
    folder: Path,
    screen: Screen,
) -> Verdict:
    """One campaign, on a topic and a group of its own."""
    name = f"{semantics.value.replace('_', '-')}-{uuid.uuid4().hex[:6]}"
    plan = Plan(
        bootstrap=kafka.bootstrap,
        topic=f"payments-{name}",
        group=f"demo-{name}",
        store=store.url if semantics is Semantics.EFFECTIVELY_ONCE else None,
        semantics=semantics,
        distinct=options.messages,
        repeats=options.repeats,
        kills=KILLS[semantics],
        seed=options.seed,
        static=is_static(kafka),
        kafka=settings_for(kafka),
    )
    kafka.create_topic(plan.topic, plan.partitions)
    folder.mkdir()
    campaign = Campaign(plan, folder, lambda progress: screen.tell(semantics, progress))
    try:
        history = campaign.run()
    finally:
        campaign.history.save(folder / "history.json")
    return judge(history, semantics)


def run(options: argparse.Namespace, console: Console, folder: Path) -> dict[Semantics, Verdict]:
    with kafka_for(options.kafka, console) as kafka, redis_for(console) as store:
        title = (
            f"{kafka.version}, {store.version}, 3 processes, {options.messages:,} payments, {options.repeats:,} repeats"
        )
        with Screen(console, title, KILLS) as screen:
            return {
                semantics: run_one(semantics, options, kafka, store, folder / semantics.value, screen)
                for semantics in KILLS
            }


def main() -> None:
    options = parse()
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="kafka-once-demo-"))
    began_s = time.monotonic()
    try:
        verdicts = run(options, console, folder)
    except (ServiceUnavailable, RuntimeError) as error:
        console.print(f"{error}\nledgers and logs are kept in {folder}", style="red", highlight=False)
        sys.exit(1)
    show_result(console, verdicts)
    console.print(f"{time.monotonic() - began_s:.0f} seconds.", highlight=False)
    if any(verdict.broken for verdict in verdicts.values()):
        console.print(f"ledgers and logs are kept in {folder}", highlight=False)
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
