"""The frontier by itself: what may be committed, with which leader epoch, and what is a mistake of the engine."""

import pytest

from kafka_once.core.offsets import Frontier
from kafka_once.message import Message


def begun(offset: int = 5, leader_epoch: int | None = 3) -> Frontier:
    frontier = Frontier()
    frontier.begin(offset, leader_epoch)
    return frontier


def deliver(frontier: Frontier, *offsets: int, leader_epoch: int | None = None) -> None:
    frontier.deliver_all([Message("t", 0, offset, leader_epoch=leader_epoch) for offset in offsets])


def test_before_it_begins_there_is_nothing_to_commit() -> None:
    frontier = Frontier()

    assert frontier.next_offset is None
    assert frontier.position is None
    assert frontier.leader_epoch is None
    frontier.pass_to(7)
    assert frontier.next_offset is None


def test_it_stands_where_reading_begins() -> None:
    frontier = begun()

    assert (frontier.next_offset, frontier.position, frontier.leader_epoch) == (5, 5, 3)
    assert (frontier.span, frontier.unsettled()) == (0, 0)


def test_it_passes_what_is_settled_in_order_and_waits_for_what_is_not() -> None:
    frontier = begun()
    deliver(frontier, 5, 8, 9, 12, leader_epoch=3)
    assert (frontier.next_offset, frontier.position, frontier.span, frontier.unsettled()) == (5, 13, 4, 4)

    frontier.settle(8)
    frontier.settle(9)
    assert (frontier.next_offset, frontier.span, frontier.unsettled()) == (5, 4, 2)

    frontier.settle(5)
    assert (frontier.next_offset, frontier.span, frontier.unsettled()) == (12, 1, 1)
    frontier.settle(12)
    assert (frontier.next_offset, frontier.span) == (13, 0)


def test_what_the_log_does_not_hold_is_passed_and_never_backwards() -> None:
    frontier = begun()
    frontier.pass_to(9)
    assert frontier.next_offset == 9
    frontier.pass_to(8)
    assert frontier.next_offset == 9
    deliver(frontier, 9)
    assert frontier.next_offset == 9


def test_what_was_delivered_is_not_delivered_again() -> None:
    frontier = begun()
    deliver(frontier, 5)
    with pytest.raises(AssertionError, match="offset 5 delivered behind position 6"):
        deliver(frontier, 5)


@pytest.mark.parametrize("offset", [4, 6])
def test_what_was_settled_or_never_delivered_is_not_settled(offset: int) -> None:
    frontier = begun()
    deliver(frontier, 5, 6)
    frontier.settle(6)
    with pytest.raises(AssertionError, match="settled twice, or never delivered"):
        frontier.settle(offset)


def test_nothing_is_settled_where_nothing_was_delivered() -> None:
    with pytest.raises(AssertionError, match="settled twice, or never delivered"):
        begun().settle(5)


def test_it_does_not_begin_anew_under_open_deliveries() -> None:
    frontier = begun()
    deliver(frontier, 5)
    with pytest.raises(AssertionError, match="begun with deliveries open"):
        frontier.begin(0)


def test_the_epoch_is_that_of_the_last_message_before_it() -> None:
    frontier = begun(5, leader_epoch=3)
    for offset, leader_epoch in ((5, 4), (6, 4), (7, 6), (8, 7)):
        deliver(frontier, offset, leader_epoch=leader_epoch)

    told = []
    for offset in (5, 6, 7, 8):
        told.append(frontier.leader_epoch)
        frontier.settle(offset)

    assert [*told, frontier.leader_epoch] == [3, 4, 4, 6, 7]


def test_an_epoch_is_known_although_it_was_not_told_where_reading_began() -> None:
    frontier = Frontier()
    deliver(frontier, 2, leader_epoch=1)
    assert frontier.leader_epoch == 1


def test_in_order_or_not_several_are_settled_as_one_after_another() -> None:
    frontier = begun()
    deliver(frontier, 5, 6, 8, 9)

    frontier.settle_all([6, 9])
    assert (frontier.next_offset, frontier.unsettled()) == (5, 2)
    frontier.settle_all([5, 8])
    assert (frontier.next_offset, frontier.unsettled()) == (10, 0)

    with pytest.raises(AssertionError, match="settled twice, or never delivered"):
        frontier.settle_all([9])
