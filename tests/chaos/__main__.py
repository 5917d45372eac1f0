"""kill -9 on a real Kafka and a real Redis: `make chaos`, or `python -m tests.chaos --help`.

The last line of output is JSON. Exit code 1 if a promise is broken or not all kills hit a process at work.
"""

import argparse
import json
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from kafka_once import Semantics
from kafka_once.testing.campaign.campaign import WORKER, Campaign, Plan
from kafka_once.testing.campaign.checker import LATELY_MS
from kafka_once.testing.campaign.promises import TAKEOVER_P95_S, Verdict, broken_bounds, judge
from kafka_once.testing.services import KafkaServer, RedisServer, ServiceUnavailable, start_kafka, start_redis
from tests.chaos.variants import VARIANTS, program_of

PROTOCOLS: dict[str, dict[str, Any]] = {
    "classic": {},
    "classic-eager": {"partition.assignment.strategy": "range"},
    "classic-cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
SESSION_MS = 6000


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="classic", help="classic: the library's own default")
    parser.add_argument("--membership", choices=("static", "dynamic"), default="static")
    parser.add_argument("--messages", type=int, default=10_000, help="distinct payments")
    parser.add_argument("--repeats", type=int, default=2_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--handler-ms", type=float, default=1.0)
    parser.add_argument(
        "--lately-ms", type=float, default=LATELY_MS, help="how long a completion may be on its way when a kill comes"
    )
    parser.add_argument(
        "--takeover-p95-s", type=float, default=TAKEOVER_P95_S, help="from on_assign to the first handler"
    )
    parser.add_argument("--kafka", help="apache (default), docker, or env: the address in KAFKA_ONCE_TEST_KAFKA")
    parser.add_argument("--store", help="local or embedded (default: the first that is there), docker, env")
    parser.add_argument("--variant", choices=VARIANTS, help="a hand-written worker instead")
    parser.add_argument("--keep", action="store_true", help="keep the folder with ledger, logs and history")
    return parser.parse_args(arguments)


def redis_for(kind: str | None) -> RedisServer:
    if kind is not None:
        return start_redis(kind)
    try:
        return start_redis("local")
    except ServiceUnavailable:
        return start_redis("embedded")


def kafka_settings(protocol: str) -> dict[str, Any]:
    settings = dict(PROTOCOLS[protocol])
    if protocol != "consumer":  # there the broker decides, see main
        settings |= {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 1000}
    return settings


def plan_for(options: argparse.Namespace, kafka: KafkaServer, store: RedisServer) -> Plan:
    name = f"chaos-{uuid.uuid4().hex[:8]}"
    return Plan(
        bootstrap=kafka.bootstrap,
        topic=f"payments-{name}",
        group=name,
        store=store.url,
        distinct=options.messages,
        repeats=options.repeats,
        partitions=options.partitions,
        processes=options.processes,
        kills=options.kills,
        handler_ms=options.handler_ms,
        seed=options.seed,
        static=options.membership == "static",
        kafka=kafka_settings(options.protocol),
        program=program_of(options.variant) if options.variant else WORKER,
    )


def show_kills(verdict: Verdict) -> None:
    print("                      ms since its           ended in       ran    in doubt, of these")
    print("kill  victim          last run     running   lately       again    begun + ended + only claimed")
    for number, report in enumerate(verdict.kills, 1):
        idle = "never ran" if report.idle_ms is None else f"{report.idle_ms:.1f}"
        mark = "" if report.at_work else "   (not at work: does not count)"
        doubts = f"{report.in_doubt} = {report.doubt_running} + {report.doubt_ended} + {report.doubt_claimed}"
        print(
            f"{number:4}  {report.kill.life:14}  {idle:>8}  {report.running:10}  {report.lately:10}  "
            f"{report.again:7}    {doubts}{mark}"
        )


def show(verdict: Verdict) -> None:
    show_kills(verdict)
    uncounted = len(verdict.kills) - verdict.kills_at_work
    print(f"kills: {verdict.kills_at_work} at work, {uncounted} did not count")
    times = [verdict.takeover_s(share) for share in (0.5, 0.95, 1.0)]
    shown = ", ".join("-" if time_s is None else f"{time_s:.3f} s" for time_s in times)
    print(f"from on_assign to the first handler's start, {len(verdict.takeovers_s)} times: p50, p95, max {shown}")
    print("deliveries are what the client handed over, counted at the broker by the harness; processings are lines")
    print("of the ledger; in_doubt is what the library lists; the rest comes from the ledger and committed offsets")


def broken_promises(verdict: Verdict, kills: int, takeover_p95_s: float) -> list[str]:
    broken = [*verdict.broken, *broken_bounds(verdict)]
    if verdict.kills_at_work < kills:
        broken.append(f"only {verdict.kills_at_work} of {kills} kills hit a process at work")
    takeover_s = verdict.takeover_s(0.95)
    if takeover_s is not None and takeover_s > takeover_p95_s:
        broken.append(f"takeover p95 is {takeover_s:.3f} s, more than {takeover_p95_s} s")
    return broken


def last_line(verdict: Verdict, seconds: float, seed: int) -> str:
    takeover_s = verdict.takeover_s(0.95)
    return json.dumps(
        {
            "distinct": verdict.distinct,
            "deliveries": verdict.deliveries,
            "processings": verdict.processings,
            "lost": verdict.lost,
            "stuck": verdict.stuck,
            "doubled": verdict.doubled,
            "doubled_unreported": verdict.doubled_unreported,
            "in_doubt": verdict.in_doubt,
            "kills": len(verdict.kills),
            "kills_at_work": verdict.kills_at_work,
            "takeover_p95_s": None if takeover_s is None else round(takeover_s, 3),
            "seconds": round(seconds, 1),
            "seed": seed,
        }
    )


def run(options: argparse.Namespace, folder: Path) -> bool:
    """Whether everything was kept."""
    properties = {"group.consumer.session.timeout.ms": str(SESSION_MS)}
    with start_kafka(options.kafka or "apache", config=properties) as kafka, redis_for(options.store) as store:
        plan = plan_for(options, kafka, store)
        print(f"{kafka.version} ({kafka.kind}), {store.version} ({store.kind}), seed {plan.seed}", flush=True)
        print(f"protocol {options.protocol}, {options.membership} membership, folder {folder}", flush=True)
        kafka.create_topic(plan.topic, plan.partitions)
        campaign = Campaign(plan, folder)
        try:
            history = campaign.run()
        finally:
            campaign.history.save(folder / "history.json")
    verdict = judge(history, Semantics.EFFECTIVELY_ONCE, options.lately_ms)
    show(verdict)
    broken = broken_promises(verdict, options.kills, options.takeover_p95_s)
    for sentence in broken:
        print(f"BROKEN: {sentence}")
    if broken or options.keep:
        print(f"ledger, logs and history are kept in {folder}")
    else:
        shutil.rmtree(folder)
    print(last_line(verdict, history.seconds, options.seed))
    return not broken


def main() -> None:
    options = parse()
    folder = Path(tempfile.mkdtemp(prefix="kafka-once-chaos-"))
    try:
        kept = run(options, folder)
    except (ServiceUnavailable, RuntimeError) as error:
        print(f"BROKEN: {error}\nledger and logs are kept in {folder}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
