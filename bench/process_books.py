"""What this process has used, as the kernel counts it: CPU by thread, memory at its peak."""

from __future__ import annotations

import re
import threading
from collections import Counter
from pathlib import Path

__all__ = ["cpu_of_threads_s", "peak_mib"]


def peak_mib() -> float | None:
    """The most memory that it ever held. Not ru_maxrss, which begins with what the parent held; None without /proc."""
    try:
        [kib] = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return int(kib) / 1024


def cpu_of_threads_s() -> dict[str, float]:
    """By the thread's name in Python or, for those of C, in the kernel; of a name's threads the sum. Empty where the
    kernel has no /proc."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent_s: Counter[str] = Counter()
    for task in Path("/proc/self/task").glob("*"):
        try:
            name = names.get(int(task.name)) or (task / "comm").read_text().strip()
            spent_s[name] += int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:  # it has ended meanwhile
            continue
    return dict(spent_s)
