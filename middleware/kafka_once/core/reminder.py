"""What another server is told again: a failover, or a restart, may have forgotten what was acknowledged last (hole 12).

The last completions, because a key that is done would else be processed again when its repeat comes; the last releases
and ends of ownerships, because a claim that is nobody's would else be kept from all others as long as we live; and the
claims that are held, because a key that runs here would else be granted to others. For a lease the store grants nothing
anew (`claims.py`, grace), so every process that lives has said its part before anybody can take what was forgotten.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kafka_once.core.calls import CompleteAsk
from kafka_once.core.delivery import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kafka_once.core.calls import Exchange, ReleaseAsk
    from kafka_once.core.delivery import Delivery

__all__ = ["Reminder"]

# Before the last answer of the old server: an append-only file that is synced every second may lose up to two.
_WINDOW_MS = 2_000
_AT_ONCE = 2_000  # completions in one exchange, so that none takes long
# Session, dead-lettered -> digests. There are those of two seconds, and Python's garbage collector looks at each of so
# many tuples again and again, and not at bytes: that took a sixth of all the time of a message.
_Completed = dict[tuple[int, bool], list[bytes]]
_HOLDING = (Phase.READY, Phase.RUNNING, Phase.PUBLISHING)


class Reminder:
    def __init__(self) -> None:
        self._server = ""
        self._kept: deque[tuple[int, _Completed, Sequence[ReleaseAsk], Sequence[int]]] = deque()
        self._completes: deque[CompleteAsk] = deque()
        self._releases: list[ReleaseAsk] = []
        self._ends: list[int] = []
        self._held: list[Delivery] = []

    def meet(self, server: str) -> bool:
        """Whether another server than before has answered. Then all that is kept is to be said again."""
        if not server or server == self._server:
            return False
        first, self._server = not self._server, server
        if first:
            return False
        for _, completed, releases, ends in self._kept:
            self._completes.extend(_asks_of(completed))
            self._releases.extend(releases)
            self._ends.extend(ends)
        self._kept.clear()
        return True

    def keep(self, sent_ms: int, exchange: Exchange) -> None:
        """Remember what was answered, and when it had been sent."""
        if exchange.completes or exchange.releases or exchange.ends:
            completed: _Completed = {}
            for digest, session, dead_lettered in exchange.completes:
                completed.setdefault((session, dead_lettered), []).append(digest)
            self._kept.append((sent_ms, completed, exchange.releases, exchange.ends))
        while self._kept and self._kept[0][0] < sent_ms - _WINDOW_MS:
            self._kept.popleft()

    def hold(self, deliveries: Iterable[Delivery]) -> None:
        """These have a claim each, as far as they have not ended when it is said again."""
        self._held = list(deliveries)

    def pending(self) -> bool:
        return bool(self._completes or self._releases or self._ends or self._held)

    def take_completes(self) -> list[CompleteAsk]:
        return [self._completes.popleft() for _ in range(min(len(self._completes), _AT_ONCE))]

    def take_releases(self) -> list[ReleaseAsk]:
        releases, self._releases = self._releases, []
        return releases

    def take_ends(self) -> list[int]:
        ends, self._ends = self._ends, []
        return ends

    def take_held(self) -> list[Delivery]:
        """Those that hold their claim still, under an ownership that can carry it."""
        held, self._held = self._held, []
        return [delivery for delivery in held if _holds(delivery)]


def _asks_of(completed: _Completed) -> list[CompleteAsk]:
    return [
        CompleteAsk(digest, session, dead_lettered)
        for (session, dead_lettered), digests in completed.items()
        for digest in digests
    ]


def _holds(delivery: Delivery) -> bool:
    claimed = delivery.phase in _HOLDING and not delivery.settled and not delivery.overdue
    return claimed and delivery.partition.ownership is not None
