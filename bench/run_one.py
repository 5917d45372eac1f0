"""One contender in a process of its own: reads its task as JSON from the command line, prints what it measured.

A rate counts from the first message to the settled last one; starting and joining the group are left out.
"""

from __future__ import annotations

import json
import sys

from bench.contenders import CONTENDERS, DEDUPLICATE, Task
from bench.process_books import peak_mib


def main() -> None:
    spec = json.loads(sys.argv[1])
    name = spec.pop("contender")
    task = Task(**spec)
    CONTENDERS[name](task)
    figures = {
        "contender": name,
        "deduplicates": name in DEDUPLICATE,
        "messages_per_s": task.count / (task.ended_s - task.began_s),
        "cpu_us": (task.ended_cpu_s - task.began_cpu_s) / task.count * 1e6,
        "threads_us": {
            name: (spent_s - task.began_threads_s.get(name, 0.0)) / task.count * 1e6
            for name, spent_s in task.ended_threads_s.items()
        },
        "deliveries": task.deliveries,
        "processings": task.processings,
        "peak_mib": peak_mib(),
    }
    print(json.dumps({**figures, **task.figures}))


if __name__ == "__main__":
    main()
