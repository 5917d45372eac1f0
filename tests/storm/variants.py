"""Workers with one protection off, to show that the storm's checkers see it. Never a part of the library.

    python -m tests.storm.variants commit_what_was_delivered '<WorkerSpec as JSON>'

Most are variants of the simulation, where all of them are caught; here they meet a real Kafka and a real Redis.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from kafka_once.message import TopicPartition
from kafka_once.runner import Runner
from kafka_once.testing.campaign.worker import WorkerSpec, run
from tests.simulation import variants as simulated

__all__ = ["CAUGHT_BY", "VARIANTS", "program_of"]


def commit_in_lost() -> Any:
    """What is lost is committed once more, because "it was ours until now"."""
    lost = Runner.on_lost

    def wrong(self: Runner, partitions: Sequence[TopicPartition]) -> None:
        self._commit_last()
        lost(self, partitions)

    return patch.object(Runner, "on_lost", wrong)


@contextmanager
def no_clock_is_looked_at() -> Iterator[None]:
    """Neither a lapsed lease nor a stall of the process stops anything: each of the two looks covers the other."""
    with simulated.trust_is_ignored(), simulated.no_self_fence():
        yield


VARIANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    variant.__name__: variant
    for variant in (
        simulated.settle_on_busy,
        simulated.settle_on_fenced,
        simulated.commit_what_was_delivered,
        no_clock_is_looked_at,
        simulated.lost_partitions_drop_completions,
        commit_in_lost,
    )
}


# The promise whose checker stands for the protection. The others are covered by more than one, and escape it here, if
# not in the simulation: FENCED hardly ever meets a partition that is still ours; a completion that is dropped makes a
# run more, in doubt and told; Kafka refuses the commit of a member that it has put out, and a frontier of definite
# answers is safe whoever commits it. A static member that hung, and commits what it lost, is fenced by its own newer
# membership, and stops.
CAUGHT_BY = {
    "settle_on_busy": ("only what is settled is committed", "order per partition"),
    "commit_what_was_delivered": ("only what is settled is committed",),
    "no_clock_is_looked_at": ("nobody trespasses", "second runs are told", "it comes to rest"),
}


def program_of(variant: str) -> tuple[str, ...]:
    """What runs it as a worker."""
    return ("tests.storm.variants", variant)


def main() -> None:
    with VARIANTS[sys.argv[1]]():
        run(WorkerSpec.from_json(sys.argv[2]))


if __name__ == "__main__":
    main()
