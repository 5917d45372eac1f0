"""Whether all is well, and if not, why: judged from the runner's last picture and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kafka_once.core.standing import EngineStatus

__all__ = ["Bounds", "Health", "Problem", "Sighting", "judge"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        check: "loop", "partition", "store" or "start".
        text: a sentence for people, without payloads and keys.
        live: True if a restart would not help: then it turns /readyz red, and /healthz stays green.
        topic, partition, offset: where it stands, for a stalled partition.
    """

    check: str
    text: str
    live: bool = False
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong now; nothing if all is well."""

    problems: tuple[Problem, ...] = ()

    @property
    def live(self) -> bool:
        """False when a restart is called for: the loop is dead or hangs, or a partition has stalled."""
        return all(problem.live for problem in self.problems)

    @property
    def ready(self) -> bool:
        """Whether messages are being processed, or would be if there were any."""
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        """As /healthz and /readyz tell it."""
        problems = [
            {name: value for name in Problem.__slots__ if (value := getattr(each, name)) is not None and name != "live"}
            for each in self.problems
        ]
        return {"live": self.live, "ready": self.ready, "problems": problems}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long is too long.

    Attributes:
        loop_s: between two turns of the loop.
        partition_s: since the last sign of life of a partition's first unsettled message.
    """

    loop_s: float
    partition_s: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is seen of a member from another thread.

    Attributes:
        started: `start` was called.
        ended: its thread has ended.
        error: why it ended by itself.
        still_s: since the loop's last turn; None before the first.
        engine: the last picture; None before the first.
    """

    started: bool
    ended: bool
    error: BaseException | None
    still_s: float | None
    engine: EngineStatus | None


def judge(seen: Sighting, bounds: Bounds) -> Health:
    """What is wrong with it."""
    return Health(tuple(_problems(seen, bounds)))


def _problems(seen: Sighting, bounds: Bounds) -> Iterator[Problem]:
    if not seen.started:
        yield Problem("start", "it was not started", live=True)
    elif seen.ended:
        reason = "it was stopped" if seen.error is None else f"it has ended: {type(seen.error).__name__}"
        yield Problem("loop", reason)
    elif seen.still_s is None or seen.engine is None:
        yield Problem("start", "it looks at Kafka and the store, and has not joined its group yet", live=True)
    elif seen.still_s > bounds.loop_s:
        yield Problem("loop", f"the loop has not turned for {seen.still_s:.0f} s")
    else:
        yield from _problems_of(seen.engine, bounds)


def _problems_of(engine: EngineStatus, bounds: Bounds) -> Iterator[Problem]:
    if engine.stopping:
        yield Problem("loop", "it drains and ends", live=True)
    if engine.store_silent:
        yield Problem("store", "the store gives no answer: nothing is started and nothing committed", live=True)
    elif not engine.has_session:
        yield Problem("store", "there is no session with the store yet", live=True)
    for partition in engine.partitions:
        standing_s = partition.standing_ms / 1000
        if standing_s > bounds.partition_s:
            yield Problem(
                "partition",
                f"{partition.name}@{partition.frontier} is not settled and has stood still for {standing_s:.0f} s",
                topic=partition.name.topic,
                partition=partition.name.partition,
                offset=partition.frontier,
            )
