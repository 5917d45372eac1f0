"""A consumer group in memory: members, who holds which partition, and what is committed. Pure; the cluster locks it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kafka_once.message import TopicPartition
from kafka_once.ports import CommitMark, Committed

__all__ = ["Group", "Member"]


@dataclass(slots=True)
class Member:
    """One membership. It ends by leaving, by expiry, or when its static instance joins again; it never comes back.

    Attributes:
        subscribed: tells whether it wants a topic.
        target: what it shall hold; it may not hold all of it yet.

    """

    number: int
    instance: str | None
    subscribed: Callable[[str], bool]
    target: set[TopicPartition] = field(default_factory=set)


class Group:
    """Cooperative: a partition that must move stays with its holder until that one lets go."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.holders: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, Committed] = {}
        self._joined = 0

    def join(self, instance: str | None, subscribed: Callable[[str], bool], partitions: list[TopicPartition]) -> Member:
        """A new membership. A static instance that comes back takes the place of its earlier one, nothing moves."""
        self._joined += 1
        member = Member(self._joined, instance, subscribed)
        earlier = self.of_instance(instance)
        if earlier is not None:
            member.target = earlier.target
            del self.members[earlier.number]
            self._free(earlier.number)
        self.members[member.number] = member
        self.balance(partitions)
        return member

    def leave(self, number: int, partitions: list[TopicPartition]) -> None:
        """End a membership, known or not; what it held is free at once, also if it does not know yet."""
        self.members.pop(number, None)
        self._free(number)
        self.balance(partitions)

    def of_instance(self, instance: str | None) -> Member | None:
        """The member with this static id, None if there is none."""
        if instance is None:
            return None
        return next((member for member in self.members.values() if member.instance == instance), None)

    def hold(self, number: int) -> list[TopicPartition]:
        """Let the member take what it shall hold and what nobody holds; returns what it got."""
        taken = sorted(p for p in self.members[number].target if p not in self.holders)
        self.holders.update(dict.fromkeys(taken, number))
        return taken

    def let_go(self, number: int, partitions: Iterable[TopicPartition]) -> None:
        """Free those of `partitions` that this member holds."""
        for partition in partitions:
            if self.holders.get(partition) == number:
                del self.holders[partition]

    def commit(self, mark: CommitMark) -> None:
        """As the real broker does: from any live member, for any partition, backwards too (finding 2, C08)."""
        self.committed[mark.partition] = Committed(mark.offset, mark.leader_epoch, mark.metadata)

    def balance(self, partitions: list[TopicPartition]) -> None:
        """Share out, sticky: as few moves as give everybody the same number, give or take one."""
        homeless = set(partitions)
        for member in self.members.values():
            member.target = {p for p in member.target if p in homeless and member.subscribed(p.topic)}
            homeless -= member.target
        for partition in sorted(homeless):
            takers = self._takers(partition)
            if takers:
                takers[0].target.add(partition)
        while self._move_one():
            pass

    def _move_one(self) -> bool:
        """Move one partition to a member that has at least two fewer; False if there is none."""
        for giver in sorted(self.members.values(), key=lambda m: (-len(m.target), m.number)):
            for partition in sorted(giver.target):
                taker = self._takers(partition)[0]
                if len(giver.target) - len(taker.target) >= 2:
                    giver.target.remove(partition)
                    taker.target.add(partition)
                    return True
        return False

    def _takers(self, partition: TopicPartition) -> list[Member]:
        """The members that want this topic, the least busy first."""
        wanting = [member for member in self.members.values() if member.subscribed(partition.topic)]
        return sorted(wanting, key=lambda m: (len(m.target), m.number))

    def _free(self, number: int) -> None:
        self.holders = {partition: holder for partition, holder in self.holders.items() if holder != number}
