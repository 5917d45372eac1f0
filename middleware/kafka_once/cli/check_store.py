"""What `kafka-once check` looks at in the store: it answers, is set as it must be, and has not lost its memory."""

from collections.abc import Iterator, Sequence

from kafka_once.cli.finding import Finding
from kafka_once.cli.onlooker import Onlooker
from kafka_once.cli.target import Target
from kafka_once.core.marks import read_mark
from kafka_once.errors import KafkaOnceError
from kafka_once.member import mark_of

__all__ = ["store_findings"]


def store_findings(target: Target, topics: Sequence[str], kafka: Onlooker, cluster_id: str | None) -> Iterator[Finding]:
    """Look at the store. Without a cluster id Kafka did not answer, and only the store itself can be looked at."""
    what = f"store {target.settings.store_shown}"
    try:
        store = target.open_store(cluster_id or "")
        try:
            warnings = store.check()
            lost = cluster_id is not None and store.is_new() and _was_used(target, topics, kafka, cluster_id)
        finally:
            store.close()
    except KafkaOnceError as error:
        yield Finding.problem(what, str(error))
        return
    yield from (Finding.warning(what, warning) for warning in warnings)
    if lost:
        remedy = "is it the right one? Restore it, or accept that repeats of what it knew are processed again"
        yield Finding.problem(
            what, f"it is empty, and Kafka's offsets say that the group worked with it before: {remedy}"
        )
    else:
        yield Finding.ok(what, "answers, and keeps what is written to it")


def _was_used(target: Target, topics: Sequence[str], kafka: Onlooker, cluster_id: str) -> bool:
    """Our commits carry a mark, and the epoch that the store gave out."""
    mark = mark_of(target.namespace(cluster_id))
    committed = kafka.committed(kafka.partitions(topics)).values()
    return any(each is not None and _stood_behind(mark, each.metadata) for each in committed)


def _stood_behind(mark: str, metadata: str) -> bool:
    known = read_mark(mark, metadata)
    return known is not None and known.epoch > 0
