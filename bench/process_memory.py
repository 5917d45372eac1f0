"""Memory of the process while a handler is slower than the topic: does a backlog make it grow?"""

from __future__ import annotations

from typing import Any

from bench.sizes import Size
from bench.stage import Stage
from bench.tables import Measure, Row

__all__ = ["NARROW", "name_of", "process_memory"]

_HANDLER_S = 0.001
_TAKEN = 8_000  # so much of it is worked off: by then everything that is ever fetched ahead has been
NARROW: dict[str, Any] = {"kafka": {"queued.max.messages.kbytes": 4_096}}


def name_of(backlog: int) -> str:
    return f"backlog of {backlog:,}"


def process_memory(stage: Stage, size: Size) -> Measure:
    topics = {backlog: stage.produce(backlog) for backlog in size.backlogs}
    plans: dict[str, tuple[int, dict[str, Any]]] = {name_of(backlog): (backlog, {}) for backlog in topics}
    most = max(topics)
    plans[f"{name_of(most)}, queued.max.messages.kbytes 4,096"] = (most, NARROW)
    rows = {name: Row(name, []) for name in plans}
    for _ in range(size.again):
        for name, (backlog, settings) in plans.items():
            task = {"handler_s": _HANDLER_S, "stop_after": _TAKEN, "settings": settings}
            rows[name].runs.append(stage.run("effectively_once", topics[backlog], **task))
    note = (
        f"A handler of 1 ms, messages of 300 bytes; peak RSS after {_TAKEN:,} of them. What may be held: `buffer` "
        "messages for a partition and `buffer_bytes` in all, and what librdkafka fetches ahead "
        "(`queued.max.messages.kbytes`, 32 MiB by default)."
    )
    return Measure("process-memory", "Memory of the process", note, (("peak_mib", "peak MiB", 0),), list(rows.values()))
