"""Where reading starts when the group's offset, the stored frontier and the log do not fit together.

The names R8 to R13 are those of docs/faults.md. Apps run in this process, on a real Kafka and a real Redis.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_once import ConsumerStopped, coordinates
from kafka_once.testing.services import KafkaServer, RedisServer, start_kafka
from tests.conftest import or_skip
from tests.groups.scene import PATIENCE_S, Scene, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.groups]


@pytest.fixture
def scene(kafka: KafkaServer, redis_server: RedisServer) -> Scene:
    if kafka.kind == "mock":
        pytest.skip("needs a real Kafka")
    return Scene(kafka, redis_server)


@pytest.fixture(scope="module")
def frail_kafka() -> Iterator[KafkaServer]:
    """A broker of our own, whose disk we can break, and whose log cleaner does not rest for 15 s."""
    with or_skip(lambda: start_kafka("apache", config={"log.cleaner.backoff.ms": "100"})) as server:
        yield server


# --------------------------------------------------------------------------------------------- R8: the frontier rescues


def test_r8_a_late_commit_redelivers_nothing_although_the_keys_are_forgotten(scene: Scene) -> None:
    """B25: `remember_for` is shorter than what is delivered again. The stored frontier has no expiry."""
    scene.produce("a", "b")
    scene.work_off()
    early = scene.committed()
    scene.produce("c", "d")
    scene.work_off()
    scene.commit(early)  # of a zombie: it carries our mark
    scene.forget_done_keys()

    scene.work_off()

    assert scene.runs == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert scene.stats["commits_lost"] == 1
    assert scene.stats["deliveries"] == 0


# -------------------------------------------------------------------------------------- R9: the group's offset expired


@pytest.mark.parametrize("reset", ["latest", "earliest"])
def test_r9_an_expired_offset_loses_nothing_and_runs_nothing_again(scene: Scene, reset: str) -> None:
    """D02: latest would pass over what came meanwhile, earliest would run everything again."""
    scene.produce("a", "b")
    scene.work_off()
    scene.expire_offsets()
    scene.forget_done_keys()
    scene.produce("c", "d")

    scene.work_off(kafka={"auto.offset.reset": reset})

    assert scene.runs == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert scene.stats["offsets_gone"] == 1


def test_r9_a_group_that_starts_at_the_latest_passes_over_nothing_from_then_on(scene: Scene) -> None:
    """D01: its start is committed at once, so that a crash before the first message loses nothing."""
    scene.produce("before")
    with scene.running(kafka={"auto.offset.reset": "latest"}):
        wait_until(lambda: scene.committed().offset == 1, "the start committed")
    scene.produce("while away")

    scene.work_off(kafka={"auto.offset.reset": "latest"})

    assert scene.runs == {"while away": 1}


# ------------------------------------------------------------------------------------------- R10: the topic made anew


def test_r10_a_topic_made_anew_is_read_from_its_start(scene: Scene) -> None:
    """C23: old offsets mean nothing in it, and the frontier that is stored for the old topic neither."""
    scene.produce("a", "b", "c")
    scene.work_off()
    late = scene.committed()
    scene.recreate()
    scene.produce("d", "e", "f", "g", "h")
    scene.commit(late)  # commits go by name: a late one lands in the new topic

    scene.work_off(kafka={"auto.offset.reset": "latest"})

    assert scene.runs == dict.fromkeys("abcdefgh", 1)
    assert scene.stats["topics_recreated"] == 1


def test_r10_also_without_a_store(scene: Scene) -> None:
    scene.produce("a", "b", "c")
    scene.work_off(semantics="at_least_once")
    late = scene.committed()
    scene.recreate()
    scene.produce("d", "e", "f", "g", "h")
    scene.commit(late)

    scene.work_off(semantics="at_least_once")

    assert scene.runs == dict.fromkeys("abcdefgh", 1)


def test_r10_also_under_a_running_member(scene: Scene) -> None:
    """librdkafka reads on at the old offset of the new topic, and passes over what stands below it."""
    scene.produce("a", "b", "c")
    with scene.running():
        wait_until(lambda: scene.lag() == 0, "lag 0")
        scene.recreate()
        scene.produce("d", "e", "f", "g", "h")
        wait_until(lambda: scene.runs == dict.fromkeys("abcdefgh", 1), f"everything: {scene.runs}")
        wait_until(lambda: scene.lag() == 0, "lag 0")
    assert scene.stats["topics_recreated"] == 1


# --------------------------------------------------------------------------------------- R11: truncated, offsets reused


def test_r11_a_truncated_log_is_never_read_on_as_if_nothing_were(
    frail_kafka: KafkaServer, redis_server: RedisServer
) -> None:
    """D04: the log's tail is lost and its offsets are used again, for other messages. The watermarks look as ever; the
    leader epoch that was committed tells it. Which messages are new, nobody knows: it stops, and says so."""
    scene = Scene(frail_kafka, redis_server)
    for key in "abcdef":
        scene.produce(key)  # a batch each
    scene.work_off()
    assert scene.committed().offset == 6

    frail_kafka.kill()
    _cut(_log_of(frail_kafka, scene.topic), batches=2)
    frail_kafka.restart()
    for key in "uvwxyz":
        scene.produce(key)
    assert scene.end() == 8

    app = scene.app()
    app.start()
    with pytest.raises(ConsumerStopped, match=r"truncated.*--reset-offsets"):
        app.join(PATIENCE_S)
    assert app.stats()["logs_truncated"] == 1
    assert scene.runs == dict.fromkeys("abcdef", 1)

    scene.reset(2)  # what the sentence says
    scene.work_off()
    assert scene.runs == dict.fromkeys("abcdefuvwxyz", 1)


def test_r11_by_policy_it_is_read_from_its_start(frail_kafka: KafkaServer, redis_server: RedisServer) -> None:
    scene = Scene(frail_kafka, redis_server)
    for key in "abcd":
        scene.produce(key)
    scene.work_off()
    frail_kafka.kill()
    _cut(_log_of(frail_kafka, scene.topic), batches=2)
    frail_kafka.restart()
    scene.produce("x")  # the log is shorter than the position

    scene.work_off(on_position_conflict="go_on")

    assert scene.runs == dict.fromkeys("abcdx", 1)
    assert scene.stats["logs_truncated"] == 1
    scene.work_off()  # and it is told once
    assert scene.stats["logs_truncated"] == 0


def test_coordinates_as_keys_know_what_is_delivered_again_and_not_what_took_its_place(
    frail_kafka: KafkaServer, redis_server: RedisServer
) -> None:
    """The same record has the same leader epoch and topic id, whoever leads when it is read; another one has not."""
    scene = Scene(frail_kafka, redis_server)
    for key in "abcd":
        scene.produce(key)
    scene.work_off(key=coordinates())
    frail_kafka.kill()
    _cut(_log_of(frail_kafka, scene.topic), batches=2)
    frail_kafka.restart()
    for key in "wxyz":
        scene.produce(key)
    scene.reset(0)

    scene.work_off(key=coordinates())
    assert scene.runs == dict.fromkeys("abcdwxyz", 1)
    assert scene.stats["redelivery"] == 2

    scene.recreate()
    for key in "efgh":
        scene.produce(key)
    scene.work_off(key=coordinates())
    assert scene.runs == dict.fromkeys("abcdwxyzefgh", 1)


def _log_of(kafka: KafkaServer, topic: str) -> Path:
    program = kafka._program
    assert program is not None
    return program.folder / "data" / f"{topic}-0"  # type: ignore[attr-defined]


def _cut(folder: Path, batches: int) -> None:
    """Keep so many batches of the log; the rest was on the disk of a broker that is no more."""
    (log,) = folder.glob("*.log")
    content, at = log.read_bytes(), 0
    for _ in range(batches):
        (length,) = struct.unpack_from(">i", content, at + 8)  # behind the base offset
        at += 12 + length
    assert at < len(content)
    log.write_bytes(content[:at])
    for derived in (*folder.glob("*.index"), *folder.glob("*.timeindex"), *folder.glob("*.snapshot")):
        derived.unlink()


# ------------------------------------------------------------------------------------------------- R12: markers


def test_r12_transaction_markers_at_head_middle_and_tail_hold_nothing_back(scene: Scene) -> None:
    """D07, D08: the committed offset comes to the log's very end, so that lag is 0."""
    scene.transaction("aborted 1", "aborted 2", commit=False)  # a whole batch, at the head
    scene.transaction("a", "b")
    scene.produce("c")
    scene.transaction("aborted 3", commit=False)
    scene.produce("d")
    scene.transaction("e")
    scene.transaction("aborted 4", commit=False)  # at the tail

    scene.work_off()

    assert scene.runs == dict.fromkeys("abcde", 1)
    assert scene.committed().offset == scene.end()
    scene.transaction("aborted 5", commit=False)  # nothing else comes
    scene.work_off()
    assert scene.stats["deliveries"] == 0


def test_r12_a_log_of_nothing_but_aborted_messages_comes_to_its_end(scene: Scene) -> None:
    scene.transaction("aborted", commit=False)
    scene.work_off()
    assert scene.runs == {}
    assert scene.committed().offset == scene.end() == 2


# ----------------------------------------------------------------------------------------- R13: compaction in between


def test_r13_compaction_between_two_deliveries_leaves_a_gap_that_is_passed(
    frail_kafka: KafkaServer, redis_server: RedisServer
) -> None:
    """D22: what was delivered and not settled is compacted away before it is delivered again."""
    compacted = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "100",
    }
    scene = Scene(frail_kafka, redis_server, compacted)
    scene.produce("a", "gone", "also gone", "b")
    scene.work_off()
    scene.reset(1)
    _tombstone(scene, "gone", "also gone")
    wait_until(lambda: _first_from(scene, 1) >= 3, "the log compacted")

    scene.work_off()

    assert scene.runs["a"] == scene.runs["b"] == scene.runs["gone"] == 1
    assert scene.committed().offset == scene.end()
    assert scene.stats["messages_deleted"] == 0


def _tombstone(scene: Scene, *keys: str) -> None:
    """A newer record of the same key makes the older one go; and one more segment makes this one be cleaned."""
    scene.produce(*keys)
    wait_until(lambda: _rolled(scene), "a new segment")


def _rolled(scene: Scene) -> bool:
    scene.produce("filler")
    return len(list(_log_of(scene.kafka, scene.topic).glob("*.log"))) > 2


def _first_from(scene: Scene, offset: int) -> int:
    return next(iter(scene.offsets_from(offset)))


# -------------------------------------------------------------------------------------- what else may not fit together


def test_an_operators_reset_back_is_respected(scene: Scene) -> None:
    """D05: what is remembered is not run again, what is forgotten is; and the frontier goes back with it."""
    scene.produce("a", "b", "c", "d")
    scene.work_off()
    scene.forget_done_keys()
    scene.reset(2)

    scene.work_off()

    assert scene.runs == {"a": 1, "b": 1, "c": 2, "d": 2}
    assert scene.stats["resets_back"] == 1


def test_an_operators_reset_ahead_is_respected_and_reported(scene: Scene) -> None:
    """D06"""
    scene.produce("a")
    scene.work_off()
    scene.produce("skipped", "b")
    scene.reset(2)

    scene.work_off()

    assert scene.runs == {"a": 1, "b": 1}
    assert scene.stats["resets_ahead"] == 1
    scene.work_off()
    assert scene.stats["resets_ahead"] == 0  # told once


def test_by_policy_a_reset_ahead_stops_until_a_person_confirms_it(scene: Scene) -> None:
    scene.produce("a")
    scene.work_off()
    scene.produce("skipped", "b")
    scene.reset(2)
    app = scene.app(on_position_conflict="stop")
    app.start()
    with pytest.raises(ConsumerStopped, match=r"committed 2, the stored frontier is 1.*go_on"):
        app.join(PATIENCE_S)
    assert scene.runs == {"a": 1}

    scene.work_off(on_position_conflict="go_on")
    scene.work_off(on_position_conflict="stop")
    assert scene.runs == {"a": 1, "b": 1}


def test_what_retention_deleted_unread_is_counted(scene: Scene) -> None:
    """D03"""
    scene.produce("a", "b")
    scene.work_off()
    scene.produce("deleted", "deleted too", "c")
    scene.delete_records(4)

    scene.work_off()

    assert scene.runs == dict.fromkeys("abc", 1)
    assert scene.stats["messages_deleted"] == 2


def test_a_store_that_lost_its_memory_is_reported_and_by_policy_stops(scene: Scene) -> None:
    scene.produce("a", "b")
    scene.work_off()
    scene.forget_everything()
    app = scene.app(on_position_conflict="stop")
    app.start()
    with pytest.raises(ConsumerStopped, match=r"carries our epoch 1, and the store gave us 1"):
        app.join(PATIENCE_S)

    scene.forget_everything()
    scene.produce("c")
    scene.work_off()
    assert scene.runs == dict.fromkeys("abc", 1)
    assert scene.stats["memory_lost"] == 1
