"""A simulated Kafka: logs with gaps, one group, what it has committed, and members that learn of changes late."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from kafka_once.core.calls import CommitMark, CommitResult, LogBounds
from kafka_once.core.calls import Committed as CommittedOffset
from kafka_once.core.marks import read_mark
from kafka_once.message import TopicPartition
from tests.simulation.history import Committed, Deleted, Produced

if TYPE_CHECKING:
    from tests.simulation.plan import Planned
    from tests.simulation.worker import Worker
    from tests.simulation.world import World

__all__ = ["Commit", "Group", "Told"]

_ANEW = 100  # what a topic made anew adds to its partitions' numbers in the history


class Told(NamedTuple):
    """What a member is told in its next poll, not before `due_ms`. `what`: "assigned" | "revoked" | "lost" |
    "fenced"."""

    what: str
    names: list[TopicPartition]
    due_ms: int = 0


class Commit:
    """An offset commit on its way. `fate`: "taken" | "lost" | "unanswered" (taken, and nobody says so) | "drop" |
    "stop" (Kafka's refusals)."""

    def __init__(self, worker: Worker, marks: list[CommitMark], fate: str) -> None:
        self.worker = worker
        self.marks = marks
        self.fate = fate


class Group:
    def __init__(self, world: World) -> None:
        self._world = world
        self._to_come = list(reversed(world.plan.messages))
        names = [TopicPartition("t", number) for number in range(world.plan.partitions)]
        self.logs: dict[TopicPartition, list[Planned]] = {name: [] for name in names}
        self.offsets: dict[TopicPartition, list[int]] = {name: [] for name in names}
        self.committed: dict[TopicPartition, int] = {}
        self.metadata: dict[TopicPartition, str] = {}
        self.commits: dict[TopicPartition, list[tuple[int, str]]] = {name: [] for name in names}
        self.owners: dict[TopicPartition, Worker] = {}
        self.rewound: set[TopicPartition] = set()
        self.generation = 0  # how often the topic was made anew
        self._earlier: list[dict[TopicPartition, list[Planned]]] = []
        self._bases: dict[TopicPartition, int] = {}  # of a topic made anew: its offsets begin at 0 again

    # -------------------------------------------------------------------------------------------------------- the logs

    @property
    def producing(self) -> bool:
        return bool(self._to_come)

    def produce(self) -> None:
        planned = self._to_come.pop()
        name = TopicPartition("t", planned.partition)
        base = self._bases.setdefault(name, planned.offset) if self.generation else 0
        message = planned._replace(offset=planned.offset - base)
        if self.offsets[name] and message.offset > self.offsets[name][-1] + 1:
            self._world.saw("gap")
        self.logs[name].append(message)
        self.offsets[name].append(message.offset)
        place = self.place(name, self.topic_id)
        self._world.note(Produced(place, message.offset, message.key, message.kind, message.record_key))

    def make_anew(self) -> None:
        """The topic is deleted, with what the group has committed, and made anew: other work comes at the same offsets,
        and some that was there before. Its owners learn of it later."""
        told_ms = self._world.now_ms + self._world.random.choice((0, 50, 500, 2_000))
        for name in self.logs:
            self._world.note(Deleted(self.place(name, self.topic_id)))
        for name, owner in self.owners.items():
            owner.told.append(Told("lost", [name], told_ms))
        self._earlier.append(dict(self.logs))
        self.generation += 1
        self._to_come += [self._instead_of(planned) for log in self.logs.values() for planned in reversed(log)]
        self.logs, self.offsets, self.commits = ({name: [] for name in self.logs} for _ in range(3))
        for known in (self._bases, self.committed, self.metadata, self.rewound):
            known.clear()

    def _instead_of(self, planned: Planned) -> Planned:
        repeat = self._world.random.random() < 0.3 and planned.kind == "plain"  # others are known by their place
        return planned if repeat else planned._replace(key=f"{planned.key}.{self.generation}")

    @property
    def topic_id(self) -> str:
        return f"topic-{self.generation}"

    def place(self, name: TopicPartition, topic_id: str) -> int:
        """The partition's number in the history: another one for each topic of that name."""
        return name.partition + _ANEW * int(topic_id.removeprefix("topic-") or self.generation)

    def key_at(self, name: TopicPartition, topic_id: str, offset: int) -> str:
        log = [*self._earlier, self.logs][int(topic_id.removeprefix("topic-"))][name]
        return log[bisect_left(log, offset, key=lambda planned: planned.offset)].key

    def keys(self) -> set[str]:
        """Of all messages that are there."""
        return {planned.key for log in self.logs.values() for planned in log}

    def _topic_of(self, metadata: str) -> str:
        mark = read_mark(self._world.plan.rules.mark, metadata)
        return (mark and mark.topic_id) or self.topic_id

    def index_of(self, name: TopicPartition, offset: int) -> int:
        """Where a reader begins that starts from this offset."""
        return bisect_left(self.offsets[name], offset)

    def standing(self, name: TopicPartition) -> tuple[LogBounds, CommittedOffset | None]:
        """What a member looks up before it starts."""
        end = self.offsets[name][-1] + 1 if self.offsets[name] else 0
        log = LogBounds(0, end, self.topic_id)
        offset = self.committed.get(name)
        return log, None if offset is None else CommittedOffset(offset, 0, self.metadata[name])

    def lag(self) -> dict[int, int]:
        counts = {name: offset for name, offset in self.committed.items() if self._is_of_this_topic(name)}
        behind = {name: self.index_of(name, counts.get(name, 0)) for name in self.logs}
        lags = {name.partition: len(log) - behind[name] for name, log in self.logs.items()}
        return {partition: lag for partition, lag in lags.items() if lag}

    def _is_of_this_topic(self, name: TopicPartition) -> bool:
        return self._topic_of(self.metadata[name]) == self.topic_id

    # ----------------------------------------------------------------------------------------------------- memberships

    def orphans(self) -> list[tuple[TopicPartition, list[Worker]]]:
        """Partitions without an owner, each with the members that may get it."""
        found = []
        for name in self.logs:
            if name not in self.owners:
                takers = [w for w in self._world.members() if name not in w.bound]
                if takers:
                    found.append((name, takers))
        return found

    def give(self, name: TopicPartition, worker: Worker) -> None:
        self.owners[name] = worker
        worker.bound.add(name)
        worker.told.append(Told("assigned", [name]))

    def give_one(self, name: TopicPartition, takers: list[Worker]) -> None:
        self.give(name, self._world.random.choice(takers))

    def ask_back(self, name: TopicPartition) -> None:
        """A clean move: the owner drains first."""
        owner = self.owners[name]
        if not any(told.what == "revoked" and name in told.names for told in owner.told):
            owner.told.append(Told("revoked", [name]))

    def take_away(self, name: TopicPartition, told_ms: int) -> None:
        """The owner is a zombie from now on, and learns of it later."""
        owner = self.owners.pop(name)
        owner.told.append(Told("lost", [name], told_ms))

    def released(self, worker: Worker, names: list[TopicPartition]) -> None:
        for name in names:
            worker.bound.discard(name)
            if self.owners.get(name) is worker:
                del self.owners[name]

    def forget(self, worker: Worker) -> None:
        """A dead member's session with the group has ended."""
        for name in [name for name, owner in self.owners.items() if owner is worker]:
            del self.owners[name]

    # ----------------------------------------------------------------------------------------------- the group's offset

    def expire_one(self) -> bool:
        names = sorted(self.committed)
        if names:
            name = self._world.random.choice(names)
            del self.committed[name], self.metadata[name]
            self.rewound.add(name)
        return bool(names)

    def go_back_one(self) -> bool:
        """To any offset that was committed before."""
        names = sorted(name for name in self.committed if len(self.commits[name]) > 1)
        if names:
            name = self._world.random.choice(names)
            self.committed[name], self.metadata[name] = self._world.random.choice(self.commits[name])
            self.rewound.add(name)
        return bool(names)

    # --------------------------------------------------------------------------------------------------------- commits

    def commit(self, commit: Commit) -> list[CommitResult]:
        return [self._commit_one(commit.worker, mark, commit.fate) for mark in commit.marks]

    def _commit_one(self, worker: Worker, mark: CommitMark, fate: str) -> CommitResult:
        world = self._world
        if fate == "lost":
            world.saw("commit lost")
            return CommitResult(mark, "retry", "no answer")
        if fate in {"drop", "stop"}:
            return CommitResult(mark, fate, "refused")
        zombie = self.owners.get(mark.partition) is not worker
        if zombie and (worker.fenced or world.random.random() >= world.plan.odds.zombie_accepted):
            world.saw("zombie commit refused")
            return CommitResult(mark, "drop", "not a member")
        if zombie:
            world.saw("zombie commit accepted")
        if mark.offset < self.committed.get(mark.partition, 0):
            self.rewound.add(mark.partition)
            world.saw("commit rewinds")
        self.committed[mark.partition] = mark.offset
        self.metadata[mark.partition] = mark.metadata
        self.commits[mark.partition].append((mark.offset, mark.metadata))
        if not self._is_of_this_topic(mark.partition):
            self.rewound.add(mark.partition)
            world.saw("commit of an earlier topic")
        place = self.place(mark.partition, self._topic_of(mark.metadata))
        world.note(Committed(worker.name, place, mark.offset))
        if fate == "unanswered":
            world.saw("commit unanswered")
            return CommitResult(mark, "retry", "no answer")
        return CommitResult(mark, "ok")
