"""Everything that is known of a storm when it is over. Times are CLOCK_MONOTONIC, which all processes share."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kafka_once.testing.campaign.history import Entry, Event, Exit, History, Kill, Reported, Sent

__all__ = ["Freeze", "Logged", "Observed", "Stall", "StormHistory"]


class Freeze(NamedTuple):
    """SIGSTOP and SIGCONT of a life; `killed`: it was killed while it was frozen, and never woke."""

    life: str
    stopped_ns: int
    woken_ns: int
    killed: bool = False


class Observed(NamedTuple):
    """What Kafka held as committed at some time between question and answer."""

    partition: int
    offset: int
    asked_ns: int
    answered_ns: int


class Logged(NamedTuple):
    """A message that stands in the log."""

    key: str
    partition: int
    offset: int


class Stall(NamedTuple):
    """A server or the observer did not come to its turn: what happened meanwhile may be the machine's doing."""

    what: str
    began_ns: int
    ended_ns: int


@dataclass(slots=True)
class StormHistory:
    """`campaign` holds the books of the payments and the ledger; `committed` in it is what is committed at the end.

    Attributes:
        observed: the committed offsets whenever one was another than before.
        looks: how often the observer looked.
        log: all of it, read at the end.
        ends: per partition, the offset behind the last message.
        settle_s: from the storm's end until everything was settled; None if it was not in time.
    """

    campaign: History = field(default_factory=History)
    freezes: list[Freeze] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)
    looks: int = 0
    log: list[Logged] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    order: str = "partition"
    session_ms: int = 2000
    lease_ms: int = 1500
    settle_s: float | None = None

    def save(self, path: Path) -> None:
        """Keep it, to be judged again."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "StormHistory":
        """What `save` kept."""
        known: dict[str, Any] = json.loads(path.read_text())
        campaign = known.pop("campaign")
        return cls(
            campaign=History(
                sent=[Sent(*row) for row in campaign["sent"]],
                starts=[Entry(*row) for row in campaign["starts"]],
                ledger=[Entry(*row) for row in campaign["ledger"]],
                events=[Event(*row) for row in campaign["events"]],
                kills=[Kill(*row) for row in campaign["kills"]],
                exits=[Exit(*row) for row in campaign["exits"]],
                reported=[Reported(*row) for row in campaign["reported"]],
                committed={int(partition): offset for partition, offset in campaign["committed"].items()},
                seconds=campaign["seconds"],
            ),
            freezes=[Freeze(*row) for row in known["freezes"]],
            stalls=[Stall(*row) for row in known["stalls"]],
            observed=[Observed(*row) for row in known["observed"]],
            looks=known["looks"],
            log=[Logged(*row) for row in known["log"]],
            ends={int(partition): offset for partition, offset in known["ends"].items()},
            order=known["order"],
            session_ms=known["session_ms"],
            lease_ms=known["lease_ms"],
            settle_s=known["settle_s"],
        )
