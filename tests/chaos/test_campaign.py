"""Short campaigns: the library keeps its promises, and what people write by hand does not (so the campaign bites).

The same at full length: `make chaos`, and `make chaos ARGS="--variant naive-setnx"` (or mark-after).
"""

import uuid
from pathlib import Path

import pytest

from kafka_once import Semantics
from kafka_once.testing.campaign.campaign import WORKER, Campaign, Plan
from kafka_once.testing.campaign.promises import Verdict, judge
from kafka_once.testing.services import KafkaServer, RedisServer
from tests.chaos.variants import program_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


def verdict_on(
    program: tuple[str, ...], kafka: KafkaServer, redis_server: RedisServer, folder: Path, seed: int
) -> Verdict:
    if kafka.kind == "mock":
        pytest.skip("static membership needs a real Kafka")
    name = f"short-{uuid.uuid4().hex[:8]}"
    plan = Plan(
        bootstrap=kafka.bootstrap,
        topic=name,
        group=name,
        store=redis_server.url,
        distinct=2_500,
        repeats=500,
        kills=5,
        seed=seed,
        kafka={"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000},
        program=program,
    )
    kafka.create_topic(plan.topic, plan.partitions)
    return judge(Campaign(plan, folder).run(), Semantics.EFFECTIVELY_ONCE)


def test_nothing_is_lost_and_nothing_runs_again_unreported(kafka, redis_server, tmp_path):
    verdict = verdict_on(WORKER, kafka, redis_server, tmp_path, seed=1)
    assert verdict.broken == []
    assert verdict.kills_at_work == 5
    assert verdict.distinct == 2_500
    assert verdict.in_doubt > 0  # so the list was read


def test_marking_first_loses(kafka, redis_server, tmp_path):
    verdict = verdict_on(program_of("naive-setnx"), kafka, redis_server, tmp_path, seed=1)
    assert verdict.lost > 0
    assert f"{verdict.lost} lost" in verdict.broken


def test_marking_after_a_batch_doubles(kafka, redis_server, tmp_path):
    verdict = verdict_on(program_of("mark-after"), kafka, redis_server, tmp_path, seed=1)
    assert verdict.lost == 0
    assert verdict.doubled_unreported > 0
