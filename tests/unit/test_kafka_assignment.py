"""What the client tells of its partitions, and what becomes of it."""

import pytest

from kafka_once.brokers.kafka_assignment import Assignment
from kafka_once.message import TopicPartition

A, B, C = (TopicPartition("t", number) for number in range(3))


class Heard:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def on_assigned(self, partitions):
        self.told.append(("assigned", list(partitions)))

    def on_revoked(self, partitions):
        self.told.append(("revoked", list(partitions)))

    def on_lost(self, partitions):
        self.told.append(("lost", list(partitions)))


def assignment_of(*partitions):
    heard, assignment = Heard(), Assignment()
    assignment.pass_on_to(heard)
    assignment.assigned(list(partitions))
    heard.told.clear()
    return assignment, heard


def test_the_lists_are_what_changes_not_the_whole():
    """C02: a cooperative rebalance gives and takes some; the others stay as they are."""
    assignment, heard = assignment_of(A, B)
    kept = assignment.positions.get(B)
    assignment.revoked([A])
    assignment.assigned([C])
    assert heard.told == [("revoked", [A]), ("assigned", [C])]
    assert assignment.positions.owned() == [B, C]
    assert assignment.positions.get(B) is kept


def test_nobody_is_told_of_partitions_that_are_not_ours():
    """C26: the client may revoke what it never gave, and lose what it revoked before."""
    assignment, heard = assignment_of(A)
    assignment.revoked([B])
    assignment.lost([C])
    assert heard.told == []
    assignment.revoked([A, B])
    assignment.lost([A])
    assert heard.told == [("revoked", [A])]
    assert assignment.positions.owned() == []


def test_an_empty_assignment_is_no_news():
    assignment, heard = assignment_of(A)
    assignment.was_told = False
    assignment.assigned([])
    assert (heard.told, assignment.was_told) == ([], False)


def test_what_is_lost_is_not_ours_any_more_when_it_is_told():
    """C04: nobody may believe that it could still be committed; what is revoked is ours until then."""
    assignment, heard = assignment_of(A, B)
    owned = []
    heard.on_lost = lambda _partitions: owned.append(assignment.positions.owned())
    heard.on_revoked = lambda _partitions: owned.append(assignment.positions.owned())
    assignment.lost([A])
    assignment.revoked([B])
    assert owned == [[B], [B]]
    assert assignment.positions.owned() == []


def test_a_revocation_that_raises_takes_the_partitions_all_the_same():
    assignment, heard = assignment_of(A)
    heard.on_revoked = lambda _partitions: 1 / 0
    with pytest.raises(ZeroDivisionError):
        assignment.revoked([A])
    assert assignment.positions.owned() == []
