"""Rates: beside other contenders, and as handlers, keys, partitions and topics grow. Rounds are interleaved, so that a
busy minute of the machine falls on all rows of a table."""

from __future__ import annotations

from bench.filling import Filling
from bench.sizes import Size
from bench.stage import Stage
from bench.tables import Measure, Row

__all__ = ["handler_times", "handlers", "partitions", "remembered", "throughput"]

_RATE = ("messages_per_s", "messages/s", 0)
_CPU = ("cpu_us", "client CPU µs/message", 1)
_REDIS = ("redis_us", "Redis CPU µs/message", 1)
_TRIPS = ("round_trips_per_1000", "round trips/1,000", 1)
_PEAK = ("peak_mib", "peak MiB", 0)

_BY_HAND = ("poll_loop", "batch_loop", "setnx_loop", "batch_check_after", "batch_check_after_gc")
# Slow contenders get a shorter topic: a rate is a rate.
_SHARE = {"setnx_loop": 0.05, "powertools": 0.02}
# As is recommended: everything is in the append-only file, which is brought to the disk every second.
ON_DISK = "effectively_once, appendonly yes"


def throughput(stage: Stage, size: Size, peers: str | None) -> Measure:
    """`peers` is the Python of the environment that has them, None to leave them out."""
    ours = ("at_least_once", "effectively_once", "effectively_once_gc", ON_DISK)
    names = [*_BY_HAND, *(["powertools"] if peers else []), *ours]
    shares = {name: _SHARE.get(name, 1.0) for name in names}
    topics = {share: stage.produce(int(size.messages * share)) for share in set(shares.values())}
    rows = {name: Row(name, []) for name in names}
    for _ in range(size.rounds):
        for name in names:
            python = {"python": peers} if name == "powertools" and peers else {}
            on_disk = name == ON_DISK
            contender = name if not on_disk else "effectively_once"
            rows[name].runs.append(stage.run(contender, topics[shares[name]], on_disk=on_disk, **python))
    note = (
        f"{size.messages:,} messages of 300 bytes in 4 partitions, a fifth of them repeats; fewer for slow contenders."
    )
    columns = (_RATE, _CPU, _REDIS, _TRIPS, _PEAK)
    return Measure("throughput", "A handler that does nothing", note, columns, list(rows.values()))


def handler_times(stage: Stage, size: Size) -> Measure:
    """A message after the other in each partition: what a handler's time and our cost come to."""
    rows, topics = [], {}
    for handler_ms in size.handlers_ms:
        count = min(size.messages, max(2_000, int(12_000 / handler_ms))) if handler_ms else size.messages
        for name in ("poll_loop", "effectively_once"):
            row = Row(f"{handler_ms:g} ms, {name}", [])
            topics[row.name] = (
                handler_ms,
                name,
                stage.produce(count // 4 if handler_ms and name == "poll_loop" else count),
            )
            rows.append(row)
    for _ in range(size.again):
        for row in rows:
            handler_ms, name, topic = topics[row.name]
            row.runs.append({**stage.run(name, topic, handler_s=handler_ms / 1000), "handler_ms": handler_ms})
    note = "4 partitions in order. The bare loop has one thread, ours has one for each partition."
    return Measure("handler-times", "Handlers that take time", note, (_RATE, _CPU, _REDIS, _TRIPS), rows)


def remembered(stage: Stage, size: Size) -> Measure:
    """Rates with so many done keys in the same namespace, which are put there before."""
    rows, topic = {keys: Row(f"{keys:,} keys", []) for keys in size.remembered}, stage.produce(100_000)
    settings = {"cluster": "bench"}
    for _ in range(min(size.again, 3)):  # ten million keys take minutes to put there
        group = stage.new_name()
        stage.redis.client().flushall()
        with Filling(stage.redis.url, settings["cluster"], group) as filling:
            for keys, row in rows.items():
                filling.reach(keys)
                run = stage.run("effectively_once", topic, keep=True, group=group, settings=settings)
                row.runs.append(run)
                topic = stage.produce(100_000)
                filling.count += topic.distinct
    note = (
        "So many are known when a run begins; it adds 80,000. Each round begins with an empty store. Redis' CPU is "
        "that of the server in this run, with all calls."
    )
    return Measure("remembered", "As more keys are remembered", note, (_RATE, _CPU, _REDIS), list(rows.values()))


def partitions(stage: Stage, size: Size) -> Measure:
    topics = {count: stage.produce(min(size.messages, 150_000), count) for count in size.partitions}
    rows = {count: Row(f"{count} partitions" if count > 1 else "1 partition", []) for count in topics}
    for _ in range(size.again):
        for count, topic in topics.items():
            rows[count].runs.append(stage.run("effectively_once", topic))
    note = "One topic, one process."
    return Measure("partitions", "As partitions grow", note, (_RATE, _CPU, _REDIS, _TRIPS), list(rows.values()))


def handlers(stage: Stage, size: Size) -> Measure:
    """As many partitions in all, so that only the handlers differ."""
    most = max(size.handlers)
    topics = {count: stage.produce(min(size.messages, 150_000), most // count, count) for count in size.handlers}
    rows = {count: Row(f"{count} handlers" if count > 1 else "1 handler", []) for count in topics}
    for _ in range(size.again):
        for count, topic in topics.items():
            rows[count].runs.append(stage.run("effectively_once", topic))
    note = f"Each handler has a topic of its own; {most} partitions in all."
    return Measure("handlers", "As handlers grow", note, (_RATE, _CPU, _REDIS, _TRIPS), list(rows.values()))
