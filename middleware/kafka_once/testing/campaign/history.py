"""Everything that is known of a campaign when it is over. Times are CLOCK_MONOTONIC, which all processes share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Entry", "Event", "Exit", "History", "Kill", "Reported", "Sent"]


class Sent(NamedTuple):
    """A message that Kafka acknowledged at `time_ns`."""

    key: str
    partition: int
    offset: int
    time_ns: int


class Entry(NamedTuple):
    """A handler began (in `starts`) or took effect (in `ledger`).

    `life` is one life of a worker, from its start to its end: "worker-0.3" is the third of worker-0 (from 0).
    """

    key: str
    partition: int
    offset: int
    life: str
    pid: int
    attempt: int
    in_doubt: bool
    time_ns: int


class Event(NamedTuple):
    """What a worker told besides.

    `kind` says what `number` is:

    - a partition: "assigned", "revoked", "lost"; with the offset: "committing" (just before the client is asked),
      "committed", "refused" (when the answer is there), and what the library tells its observers ("fenced", …);
    - a count: "polled" (messages that the client handed over), "skipped" and "busy" (totals of this life so far),
      "unaccounted" (at a clean end, the deliveries without an outcome);
    - milliseconds: "stalled" (for so long before it a thread of the process did not run), "turned" (since the client's
      last answer to a poll, told before each "committing"), "hanging" and "hung" (the consumer's thread stands still
      for so long, and stood).
    """

    kind: str
    life: str
    number: int
    time_ns: int
    offset: int = -1


class Kill(NamedTuple):
    """SIGKILL was sent to this life's process just after `time_ns`."""

    life: str
    time_ns: int


class Exit(NamedTuple):
    """A life ended that nobody had killed. `asked`: it had been sent SIGTERM."""

    life: str
    code: int
    asked: bool


class Reported(NamedTuple):
    """The library listed the message at these coordinates as in doubt."""

    partition: int
    offset: int
    time_ns: int


@dataclass(slots=True)
class History:
    """`committed` holds the group's offset per partition at the deadline for being settled, None where it has none."""

    sent: list[Sent] = field(default_factory=list)
    starts: list[Entry] = field(default_factory=list)
    ledger: list[Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Keep it, to be judged again."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> History:
        """What `save` kept."""
        known: dict[str, Any] = json.loads(path.read_text())
        return cls(
            sent=[Sent(*row) for row in known["sent"]],
            starts=[Entry(*row) for row in known["starts"]],
            ledger=[Entry(*row) for row in known["ledger"]],
            events=[Event(*row) for row in known["events"]],
            kills=[Kill(*row) for row in known["kills"]],
            exits=[Exit(*row) for row in known["exits"]],
            reported=[Reported(*row) for row in known["reported"]],
            committed={int(partition): offset for partition, offset in known["committed"].items()},
            seconds=known["seconds"],
        )
