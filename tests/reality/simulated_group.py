"""The group of the simulated worlds (tests/simulation/group.py), with the search's choices made by a script.

What Kafka decides by itself is a choice there: who gets a partition, when an owner is taken for dead, whether a commit
of a zombie is taken. So a script has to be *possible*; that other things are possible, too, is what the search is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kafka_once.core.calls import CommitMark
from kafka_once.core.engine import Engine
from kafka_once.core.rules import Rules
from kafka_once.core.semantics import Semantics
from kafka_once.message import TopicPartition
from tests.reality.broker_groups import PARTITIONS, summary
from tests.simulation.group import Commit
from tests.simulation.plan import Plan, plan_of
from tests.simulation.worker import Worker
from tests.simulation.world import Build, World

__all__ = ["SimulatedGroup"]


class _Heard(Engine):
    """The production engine, and what it was told."""

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self.told: list[tuple[str, int]] = []

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assigned", len(partitions)))
        super().on_assigned(partitions)

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoked", len(partitions)))
        super().on_revoked(partitions)

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", len(partitions)))
        super().on_lost(partitions)


def _plan(zombie_accepted: float) -> Plan:
    """Two processes without a store, no messages, and nothing that goes wrong by itself."""
    plan = plan_of(1, (Semantics.AT_LEAST_ONCE, False))
    odds = replace(plan.odds, fault=0.0, cut=0.0, commit=0.0, zombie_accepted=zombie_accepted)
    rules = replace(plan.rules, stall_ms=10**9)  # no self-fence: what Kafka does is looked at here
    return replace(plan, workers=2, partitions=PARTITIONS, static=False, rules=rules, messages=[], odds=odds)


class SimulatedGroup:
    """`zombie_accepted`: the choice that the search would make."""

    def __init__(self, protocol: str, zombie_accepted: float) -> None:
        self.protocol = protocol
        self.world = World(_plan(zombie_accepted), Build(engine=_Heard))
        self.world.faulty = False
        self.group = self.world.group
        self._members: dict[str, Worker] = {}
        self._looked: dict[str, int] = {}

    def join(self, name: str) -> None:
        self._members[name] = self.world.slots[len(self._members)]
        self._looked[name] = 0

    def settle(self, **owned: int) -> list[str]:
        for name in self._members:
            self._take_back(name, owned)
        while not all(self._is_settled(name, count) for name, count in owned.items()):
            self._poll([*owned])
            for name, count in owned.items():
                self._give(name, count)
        return [self._told(name) for name in owned]

    def _is_settled(self, name: str, count: int) -> bool:
        worker = self._members[name]
        return len(worker._held) == count and not worker.told and worker._revocation is None

    def _take_back(self, name: str, owned: dict[str, int]) -> None:
        """Ask for what others are to have. Who does not poll gives nothing back, so that he is taken for dead."""
        worker = self._members[name]
        has = [place for place, owner in self.group.owners.items() if owner is worker]
        share = PARTITIONS // len(self._members)
        keeps = owned.get(name, share)
        if len(has) <= keeps:
            return
        for place in has[0 if self.protocol == "eager" else keeps :]:
            self.group.ask_back(place)
        if name not in owned:
            self._take_away(name)

    def _take_away(self, name: str) -> None:
        for place, owner in list(self.group.owners.items()):
            if owner is self._members[name]:
                self.group.take_away(place, self.world.now_ms)

    def _give(self, name: str, count: int) -> None:
        worker = self._members[name]
        has = sum(owner is worker for owner in self.group.owners.values())
        free = [place for place, takers in self.group.orphans() if worker in takers]
        for place in free[: count - has]:
            self.group.give(place, worker)

    def _poll(self, names: list[str]) -> None:
        self.world.pass_time(1)
        for name in names:
            self._members[name].turn()

    def hang(self, name: str) -> None:
        if self.protocol != "consumer":
            self._take_away(name)

    def wake(self, name: str) -> list[str]:
        self._take_away(name)
        while self.owned(name):
            self._poll([name])
        return [self._told(name)]

    def _told(self, name: str) -> str:
        engine = self._members[name].engine
        assert isinstance(engine, _Heard)
        news, self._looked[name] = engine.told[self._looked[name] :], len(engine.told)
        return summary(name, news)

    def owned(self, name: str) -> list[int]:
        return sorted(place.partition for place in self._members[name]._held)

    def commit(self, name: str, offsets: dict[int, int]) -> list[str]:
        marks = [CommitMark(TopicPartition("t", number), offset, 0) for number, offset in offsets.items()]
        results = self.group.commit(Commit(self._members[name], marks, "taken"))
        return ["taken" if result.verdict == "ok" else "refused" for result in results]

    def committed(self, partition: int) -> int | None:
        return self.group.committed.get(TopicPartition("t", partition))

    def produce(self, count: int) -> None:
        raise NotImplementedError

    def poll_that_raises(self, name: str) -> str:
        raise NotImplementedError

    def received(self, name: str, count: int) -> list[int]:
        raise NotImplementedError
