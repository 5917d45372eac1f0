"""What `kafka-once check` looks at in Kafka: it answers, the topics are there, and this user may do what a run does."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from kafka_once.cli.finding import Finding
from kafka_once.cli.kafka_admin import Admin
from kafka_once.cli.onlooker import Onlooker
from kafka_once.durations import show_duration
from kafka_once.errors import KafkaOnceError
from kafka_once.settings import Settings

__all__ = ["kafka_findings"]


def kafka_findings(settings: Settings, topics: Sequence[str], kafka: Onlooker) -> Iterator[Finding]:
    """Look at a Kafka that answers."""
    yield Finding.ok("Kafka", f"{settings.bootstrap_servers} answers, cluster {kafka.cluster_id() or '(not told)'}")
    admin = Admin(settings)
    yield _group(settings.group, admin)
    for topic in topics:
        if topic.startswith("^"):
            yield _pattern(topic, kafka)
        else:
            yield _topic(f"topic {topic}", topic, "READ", kafka, admin)
    if settings.dead_letter_topic is not None:
        yield _topic(
            f"dead-letter topic {settings.dead_letter_topic}", settings.dead_letter_topic, "WRITE", kafka, admin
        )
    elif topics:
        yield Finding.warning(
            "dead-letter topic", "there is none: a message that cannot be processed stops the consumer"
        )
    if settings.store is not None:
        yield from _memory(settings, topics, kafka, admin)


def _group(group: str, admin: Admin) -> Finding:
    what = f"group {group}"
    allowed = admin.allowed_on_group(group)
    if allowed is None:
        return Finding.ok(what, "Kafka does not tell whether this user may join it")
    if "READ" not in allowed:
        return Finding.problem(what, "this user may not join it: allow Read on the group")
    return Finding.ok(what, "may be joined")


def _topic(what: str, topic: str, operation: str, kafka: Onlooker, admin: Admin) -> Finding:
    try:
        partitions = kafka.check_topic(topic)
    except KafkaOnceError as error:
        return Finding.problem(what, str(error))
    allowed = admin.allowed_on_topic(topic)
    if allowed is not None and operation not in allowed:
        return Finding.problem(
            what, f"this user may not {operation.lower()} it: allow {operation.title()} on the topic"
        )
    return Finding.ok(what, f"{partitions} partition{'s' if partitions != 1 else ''}")


def _pattern(pattern: str, kafka: Onlooker) -> Finding:
    topics = {partition.topic for partition in kafka.partitions([pattern])}
    if not topics:
        return Finding.warning(f"topics {pattern}", "none matches now")
    return Finding.ok(f"topics {pattern}", ", ".join(sorted(topics)))


def _memory(settings: Settings, topics: Sequence[str], kafka: Onlooker, admin: Admin) -> Iterator[Finding]:
    """Repeats, and redeliveries behind the committed offset, are known for as long as keys are remembered."""
    for topic in sorted({partition.topic for partition in kafka.partitions(topics)}):
        retention_ms = admin.retention_ms(topic)
        if retention_ms is None or 0 <= retention_ms <= settings.remember_for_ms:
            continue
        kept = "for ever" if retention_ms < 0 else f"for {show_duration(timedelta(milliseconds=retention_ms))}"
        yield Finding.warning(
            "remember_for",
            f"keys are remembered for {show_duration(settings.remember_for)}, topic {topic} keeps messages {kept}. "
            "What comes a second time later than remember_for is processed again: make that longer than your producer "
            "goes on repeating, and than you may read old offsets again",
        )
