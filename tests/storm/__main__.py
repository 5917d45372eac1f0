"""Storms on a real Kafka and a real Redis: `make storm`, or `python -m tests.storm --help`.

The last line of output is JSON: what happened in all storms together. Exit code 1 if a promise was broken, or if
something never happened that must have.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kafka_once.testing.campaign.campaign import WORKER
from kafka_once.testing.services import KafkaServer, RedisServer, ServiceUnavailable, start_kafka
from tests.chaos.__main__ import redis_for
from tests.storm.books import Books
from tests.storm.checkers import Finding, check
from tests.storm.happenings import ALWAYS, SOONER_OR_LATER, count_happenings, missing
from tests.storm.history import StormHistory
from tests.storm.plan import BROKER_CONFIG, PROTOCOLS, StormPlan, is_static, new_name, order_of, protocol_of
from tests.storm.storm import Storm
from tests.storm.variants import CAUGHT_BY, VARIANTS, program_of

_SHOWN = 5  # violations per promise
_LONG_S = 150.0  # of storm in all: from then on everything must have happened


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--seeds", "--seed", default="1", help="one (7) or from-to (1-10)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of storm; calm comes on top")
    parser.add_argument("--protocol", choices=[*PROTOCOLS, "mix"], default="mix", help="mix: in turn, by the seed")
    parser.add_argument("--membership", choices=("static", "dynamic", "mix"), default="mix")
    parser.add_argument("--order", choices=("partition", "key", "none", "mix"), default="mix")
    parser.add_argument("--members", type=int, default=5, help="at most so many processes")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--rate", type=int, default=150, help="messages a second")
    parser.add_argument("--repeats", type=float, default=0.2, help="the share of repeats among them")
    parser.add_argument("--slow-ms", type=float, default=700.0, help="how long the handler takes for one key in 40")
    parser.add_argument(
        "--must",
        help=f"what must happen, with commas between, or none. Default: {','.join(ALWAYS)}; from {_LONG_S:.0f} s of "
        f"storm in all on also {','.join(SOONER_OR_LATER)}",
    )
    parser.add_argument("--kafka", help="apache (default), docker, or env: the address in KAFKA_ONCE_TEST_KAFKA")
    parser.add_argument("--store", help="local or embedded (default: the first that is there), docker, env")
    parser.add_argument("--variant", choices=VARIANTS, help="workers with one protection off")
    parser.add_argument("--controls", action="store_true", help="all of these: each must be caught by its checker")
    parser.add_argument("--keep", action="store_true", help="keep the folders with ledgers, logs and histories")
    parser.add_argument("--judge", type=Path, help="judge the history in this folder again instead")
    return parser.parse_args(arguments)


def seeds_of(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def plan_for(options: argparse.Namespace, seed: int, kafka: KafkaServer, store: RedisServer) -> StormPlan:
    return StormPlan(
        bootstrap=kafka.bootstrap,
        store=store.url,
        protocol=protocol_of(options.protocol, seed),
        static=is_static(options.membership, seed),
        order=order_of(options.order, seed),
        seed=seed,
        seconds=options.seconds,
        members=options.members,
        partitions=options.partitions,
        rate=options.rate,
        repeats=options.repeats,
        slow_ms=options.slow_ms,
        program=program_of(options.variant) if options.variant else WORKER,
        name=new_name(seed),
    )


def must_of(options: argparse.Namespace, storms: int) -> tuple[str, ...]:
    """What must have happened in all storms together."""
    if options.must is not None:
        return () if options.must == "none" else tuple(options.must.split(","))
    return ALWAYS + SOONER_OR_LATER if options.seconds * storms >= _LONG_S else ALWAYS


def show(findings: list[Finding], counts: dict[str, int]) -> None:
    print("  " + " ".join(f"{name}={count}" for name, count in counts.items()))
    for finding in findings:
        windows = f", {finding.windows} in a named window" if finding.windows else ""
        print(f"  {finding.promise}: looked {finding.looked} times{windows}, {len(finding.violations)} violations")
        for sentence in finding.violations[:_SHOWN]:
            print(f"    BROKEN: {sentence}")


def judge(history: StormHistory, deeds: dict[str, int]) -> tuple[list[Finding], dict[str, int]]:
    books = Books(history)
    findings = check(books)
    counts = count_happenings(books, deeds)
    counts["windows"] = sum(finding.windows for finding in findings)
    return findings, counts


def run_one(plan: StormPlan, kafka: KafkaServer, *, keep: bool) -> tuple[list[Finding], dict[str, int]]:
    """What was found, and what happened."""
    folder = Path(tempfile.mkdtemp(prefix=f"kafka-once-storm-{plan.seed}-"))
    membership = "static" if plan.static else "dynamic"
    print(f"seed {plan.seed}: {plan.protocol}, {membership} members, order {plan.order}, {folder}", flush=True)
    kafka.create_topic(plan.topic, plan.partitions)
    storm = Storm(plan, folder)
    try:
        history = storm.run()
    finally:
        storm.history.save(folder / "history.json")
    findings, counts = judge(history, storm.members.deeds)
    show(findings, counts)
    violations = count_violations(findings)
    settled = "not settled in time" if history.settle_s is None else f"settled after {history.settle_s:.1f} s"
    print(f"  {violations} violations, {settled}", flush=True)
    if keep or (violations and plan.program == WORKER):
        print(f"  ledger, logs and history are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return findings, counts


def count_violations(findings: list[Finding]) -> int:
    """A promise that nobody looked at counts as one."""
    return sum(len(finding.violations) + (not finding.looked) for finding in findings)


def run_controls(options: argparse.Namespace, kafka: KafkaServer, store: RedisServer) -> bool:
    """Whether each variant was caught by the checker that stands for the protection it lacks."""
    escaped = []
    if options.membership == "mix":  # a static member shows more: Kafka keeps its place for it
        options.membership = "static"
    for variant, promises in CAUGHT_BY.items():
        options.variant = variant
        print(f"control {variant}", flush=True)
        findings, _ = run_one(plan_for(options, seeds_of(options.seeds)[0], kafka, store), kafka, keep=options.keep)
        if not any(finding.violations for finding in findings if finding.promise in promises):
            escaped.append(variant)
            print(f"BROKEN: {variant} escaped: none of {', '.join(promises)} was violated")
    print(json.dumps({"controls": len(CAUGHT_BY), "caught": len(CAUGHT_BY) - len(escaped), "escaped": escaped}))
    return not escaped


def run(options: argparse.Namespace, kafka: KafkaServer, store: RedisServer) -> bool:
    """Whether everything was kept, and enough happened."""
    seeds = seeds_of(options.seeds)
    began_s = time.monotonic()
    totals: Counter[str] = Counter()
    violations = 0
    for seed in seeds:
        findings, counts = run_one(plan_for(options, seed, kafka, store), kafka, keep=options.keep)
        violations += count_violations(findings)
        totals.update(counts)
    vacuous = missing(totals, must_of(options, len(seeds)))
    for sentence in vacuous:
        print(f"BROKEN: {sentence}")
    line = {
        "seeds": options.seeds,
        "protocol": options.protocol,
        "membership": options.membership,
        "order": options.order,
        **totals,
    }
    print(json.dumps({**line, "violations": violations, "seconds": round(time.monotonic() - began_s, 1)}))
    return not violations and not vacuous


def main() -> None:
    options = parse()
    if options.judge is not None:
        findings, counts = judge(StormHistory.load(options.judge / "history.json"), {})
        show(findings, counts)
        sys.exit(any(finding.violations for finding in findings))
    try:
        with start_kafka(options.kafka or "apache", config=BROKER_CONFIG) as kafka, redis_for(options.store) as store:
            print(f"{kafka.version} ({kafka.kind}), {store.version} ({store.kind})", flush=True)
            kept = (run_controls if options.controls else run)(options, kafka, store)
    except (ServiceUnavailable, RuntimeError) as error:
        print(f"BROKEN: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
