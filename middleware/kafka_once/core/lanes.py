"""Which lane goes on next: lanes that are ready, lanes that wait for a time or for a key, and how many run at once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kafka_once.core.lane import KeysInFlight, Lane
from kafka_once.core.partition import Tenure
from kafka_once.core.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka_once.core.delivery import Delivery
    from kafka_once.core.rules import Rules

__all__ = ["Lanes"]

_ANSWER_MOST_MS = 8  # however slow the store is: what is claimed ahead is in doubt after a crash


class Lanes:
    """A lane stands in one place at a time: among the ready ones, in the timer, or at a key that is in flight.

    Attributes:
        now_ms: the time of this turn.
        room: deliveries that the executor takes now; counts only without exclusive lanes.
    """

    def __init__(self, rules: Rules) -> None:
        self._exclusive = rules.exclusive
        self._concurrency = rules.concurrency
        self._ready: deque[Lane] = deque()
        self._keys = KeysInFlight()
        self._placed = 0
        self._turnover = 0.0  # of all lanes that have a place: places that are free again within the time of a claim
        self._group_ms = self._claim_ms = rules.group_ms
        self.timer = Timer()
        self.now_ms = 0
        self.room = 0

    def answered(self, took_ms: int) -> None:
        """The store took so long for its last answer, as we see it: what is claimed now can start as late as that."""
        self._claim_ms = self._group_ms + min(took_ms, _ANSWER_MOST_MS)

    @property
    def starving(self) -> bool:
        """Whether more lanes may run than are ready."""
        return not self._ready and self._has_room()

    def enlist(self, lane: Lane) -> None:
        """Put a lane that can go on where it will be found."""
        if lane.listed or not lane.waiting or (self._exclusive and lane.open):
            return
        if lane.partition.tenure is not Tenure.OWNED:
            return
        lane.listed = True
        if lane.due_ms > self.now_ms:
            self.timer.add(lane.due_ms, lane)
        else:
            self._ready.append(lane)

    def relist(self, lane: Lane) -> None:
        """Its time has come, or the key that it waited for is free."""
        lane.listed = False
        self.enlist(lane)

    def choose(self) -> list[list[Delivery]]:
        """The next group of each ready lane, while there is room."""
        chosen = []
        for _ in range(len(self._ready)):
            if not self._has_room():
                break
            lane = self._ready.popleft()
            lane.listed = False
            if lane.partition.tenure is not Tenure.OWNED:  # not any more
                continue
            assert lane.waiting
            assert not (self._exclusive and lane.open)
            if lane.due_ms > self.now_ms:  # one of a lane that is not exclusive came back meanwhile
                self.enlist(lane)
                continue
            group = self._take_group(lane)
            if group:
                chosen.append(group)
                if not self._exclusive:
                    self.enlist(lane)
        return chosen

    def closed(self, lane: Lane, returned: Delivery | None = None, *, count: int = 1) -> None:
        """So many messages of the lane's open group have ended, or one came back."""
        lane.open -= count
        if returned is not None:
            lane.returned.append(returned)
        if not lane.open:
            self.leave_place(lane)
        if not lane.open or not self._exclusive:
            if lane.returned:
                lane.put_back()
            if not (lane.open or lane.waiting):  # no message that is unfinished comes back to it
                lane.partition.drop(lane)
            else:
                self.enlist(lane)

    def in_flight(self) -> list[Delivery]:
        """Every delivery whose key is in flight."""
        return self._keys.deliveries()

    def free_keys(self, deliveries: Iterable[Delivery]) -> None:
        """The store has answered definitely: whoever waits for these keys goes on."""
        for lane in self._keys.remove([delivery.digest for delivery in deliveries if delivery.digest is not None]):
            self.relist(lane)

    def _has_room(self) -> bool:
        """Of exclusive lanes as many are open as may run at once, and so many more as will begin within the time of a
        group and of the store's answer: their claims are a start too, and the round trip leaves no place empty."""
        if not self._exclusive:
            return self.room > 0
        if self._placed < self._concurrency:
            return True
        ahead = self._turnover / self._placed * self._concurrency
        return self._placed < self._concurrency + int(ahead)

    def _take_group(self, lane: Lane) -> list[Delivery]:
        """A prefix of what waits (hole 15): of one kind, and none whose key is in flight in this process."""
        waiting, keys = lane.waiting, self._keys
        head = waiting[0]
        if head.digest is not None and head.digest in keys:
            keys.wait(head.digest, lane)
            lane.listed = True
            return []
        limit = self._limit(lane, head)
        group = [waiting.popleft()]
        if head.digest is not None:
            keys.add(head.digest, head)
        while waiting and len(group) < limit:
            delivery = waiting[0]
            digest = delivery.digest
            if delivery.defect is not None or (digest is None) != (head.digest is None):
                break
            if digest is not None:
                if digest in keys:
                    break
                keys.add(digest, delivery)
            group.append(waiting.popleft())
        self._opened(lane, len(group))
        return group

    def _limit(self, lane: Lane, head: Delivery) -> int:
        if head.defect is not None:
            return 1
        size = lane.partition.pace.group_size
        return size if self._exclusive else min(size, self.room)

    def _opened(self, lane: Lane, count: int) -> None:
        if not lane.open:
            self.take_place(lane, count)
        lane.open += count
        self.room -= count

    def take_place(self, lane: Lane, count: int = 1) -> None:
        """A group of so many messages of the lane is to run."""
        lane.placed = True
        lane.turnover = lane.partition.pace.ends_within(self._claim_ms, count)
        self._placed += 1
        self._turnover += lane.turnover

    def leave_place(self, lane: Lane) -> None:
        """Nothing of the lane runs now, or it is held: others may run in its place."""
        if lane.placed:
            lane.placed = False
            self._placed -= 1
            self._turnover -= lane.turnover
