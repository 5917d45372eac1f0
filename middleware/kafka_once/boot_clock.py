"""The clock by which a lease is trusted."""

import time

__all__ = ["boot_clock_s"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_clock_s() -> float:
    """Seconds on a clock that never goes back and that goes on while the machine sleeps, where there is one: a lease
    lapses meanwhile (G03)."""
    return time.clock_gettime(_CLOCK)
