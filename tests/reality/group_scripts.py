"""What happens in a group, as scripts that run on the simulated Kafkas and on the real one, and what each must show.

Partitions are counted and not named: which of them moves is Kafka's business. What a member was told stands in its own
order; between two members there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["SCRIPTS", "GroupWorld", "Script"]

CLASSIC = ("eager", "cooperative")
ALL = (*CLASSIC, "consumer")


class GroupWorld(Protocol):
    """A topic of four partitions and a group, empty at first. Members have the names A and B."""

    protocol: str

    def join(self, name: str) -> None:
        """A new member."""

    def settle(self, **owned: int) -> list[str]:
        """Poll these members, and no others, until each believes to own so many partitions. Returns what each was told
        since it was looked at last."""

    def hang(self, name: str) -> None:
        """It stops to poll, alone in its group, for longer than it may."""

    def wake(self, name: str) -> list[str]:
        """Poll it until it believes to own nothing. Returns what it was told meanwhile."""

    def owned(self, name: str) -> list[int]:
        """What it believes to own."""

    def commit(self, name: str, offsets: dict[int, int]) -> list[str]:
        """Commit, without a poll. Returns for each partition "taken" or "refused"."""

    def committed(self, partition: int) -> int | None:
        """What Kafka holds for the group."""

    def produce(self, count: int) -> None:
        """Append messages to partition 0. Their payloads are numbers from 0 on."""

    def poll_that_raises(self, name: str) -> str:
        """Let an exception come out of the client's poll after it has dequeued messages. Returns its text."""

    def received(self, name: str, count: int) -> list[int]:
        """Poll it until it has this many messages. Returns the numbers, in the order in which they came."""


@dataclass(frozen=True, slots=True)
class Script:
    """`shows`: for each protocol what has to be seen."""

    play: Callable[[GroupWorld], list[str]]
    shows: dict[str, list[str]]

    @property
    def name(self) -> str:
        return self.play.__name__


def finding_2_a_live_member_commits_for_another(world: GroupWorld) -> list[str]:
    """Kafka asks who commits, and not whose the partition is."""
    _two_members(world)
    (first, *_) = world.owned("B")
    seen = [f"the owner: {world.commit('B', {first: 9})}"]
    seen.append(f"another: {world.commit('A', {first: 2})}")
    return [*seen, f"held: {world.committed(first)}"]


def finding_3_one_commit_of_an_owned_and_a_revoked_partition(world: GroupWorld) -> list[str]:
    """`store_offsets` would drop the second without a word. A commit answers for each of them."""
    world.join("A")
    world.settle(A=4)
    had = set(world.owned("A"))
    world.join("B")
    seen = world.settle(A=2, B=2)
    kept = world.owned("A")[0]
    revoked = min(had.intersection(world.owned("B")))
    seen.append(f"{world.commit('A', {kept: 5, revoked: 6})}")
    return [*seen, f"held: {world.committed(kept)}, {world.committed(revoked)}"]


def finding_4_and_6_a_member_hangs_while_another_joins(world: GroupWorld) -> list[str]:
    """It is put out and does not know. It wakes, is asked for what the rebalance had wanted of it, as if all were well,
    and learns only then that the rest is lost."""
    world.join("A")
    seen = world.settle(A=4)
    world.join("B")
    seen += world.settle(B=4)
    seen.append(f"A believes to own {len(world.owned('A'))}")
    seen.append(f"the owner: {world.commit('B', dict.fromkeys(range(4), 9))}")
    seen.append(f"the zombie: {world.commit('A', {0: 2, 3: 12})}")
    seen.append(f"held: {world.committed(0)}, {world.committed(3)}")
    return [*seen, *world.wake("A")]


def finding_6_a_member_hangs_alone(world: GroupWorld) -> list[str]:
    """Under the consumer protocol the client leaves only when it is polled; until then its commits are taken."""
    world.join("A")
    seen = world.settle(A=4)
    world.hang("A")
    seen.append(f"it commits: {world.commit('A', {0: 0})}")
    seen.append(f"held: {world.committed(0)}")
    return [*seen, *world.wake("A"), *world.settle(A=4)]


def finding_5_an_exception_comes_out_of_a_poll(world: GroupWorld) -> list[str]:
    """The client has dequeued messages and thrown them away. None may be missing, none comes twice."""
    world.join("A")
    world.settle(A=4)
    world.produce(3)
    seen = [f"{world.received('A', 3)}"]
    world.produce(5)
    seen.append(world.poll_that_raises("A"))
    world.produce(1)
    return [*seen, f"{world.received('A', 8)[:8]}"]


def _two_members(world: GroupWorld) -> None:
    world.join("A")
    world.join("B")
    world.settle(A=2, B=2)


_ALONE_REFUSED = ["A: assigned 4", "it commits: ['refused']", "held: None", "A: lost 4", "A: assigned 4"]
_ALONE_TAKEN = ["A: assigned 4", "it commits: ['taken']", "held: 0", "A: lost 4", "A: assigned 4"]
_TWO_TAKEN = ["['taken', 'taken']", "held: 5, 6"]
_ZOMBIE = [
    "A: assigned 4",
    "B: assigned 4",
    "A believes to own 4",
    "the owner: ['taken', 'taken', 'taken', 'taken']",
    "the zombie: ['refused', 'refused']",
    "held: 9, 9",
]

SCRIPTS = [
    Script(
        finding_2_a_live_member_commits_for_another,
        {each: ["the owner: ['taken']", "another: ['taken']", "held: 2"] for each in ALL},
    ),
    Script(
        finding_3_one_commit_of_an_owned_and_a_revoked_partition,
        {
            "eager": ["A: revoked 4, assigned 2", "B: assigned 2", *_TWO_TAKEN],
            "cooperative": ["A: revoked 2", "B: assigned 2", *_TWO_TAKEN],
            "consumer": ["A: revoked 2", "B: assigned 2", *_TWO_TAKEN],
        },
    ),
    Script(
        finding_4_and_6_a_member_hangs_while_another_joins,
        {
            "eager": [*_ZOMBIE, "A: revoked 4"],
            "cooperative": [*_ZOMBIE, "A: revoked 2, lost 2"],
            "consumer": [*_ZOMBIE, "A: revoked 2, lost 2"],
        },
    ),
    Script(
        finding_6_a_member_hangs_alone,
        {"eager": _ALONE_REFUSED, "cooperative": _ALONE_REFUSED, "consumer": _ALONE_TAKEN},
    ),
    Script(
        finding_5_an_exception_comes_out_of_a_poll,
        {each: ["[0, 1, 2]", "out of the client", "[0, 1, 2, 3, 4, 5, 6, 7]"] for each in ALL},
    ),
]
