"""Which of the messages whose holder vanished has its turn."""

import pytest

from kafka_once.core.delivery import Delivery, Event
from kafka_once.core.lane import Lane
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.suspects import Suspects
from kafka_once.message import Message
from tests.unit.bench import ROW


def granted(number: int = 0, *, tenure: Tenure = Tenure.OWNED, open_: int = 1) -> Delivery:
    """A message whose claim was granted; so many of its lane are open."""
    partition = Partition(ROW[number], Pace(1, 1), Order.PARTITION)
    partition.tenure = tenure
    lane = Lane(partition, None)
    lane.open = open_
    delivery = Delivery(Message("t", number, 0), lane, b"k")
    delivery.step(Event.CLAIM)
    delivery.step(Event.GRANTED)
    return delivery


def held(*deliveries: Delivery, exclusive: bool = True) -> Suspects:
    suspects = Suspects(exclusive=exclusive)
    for delivery in deliveries:
        suspects.add(delivery)
    return suspects


@pytest.mark.parametrize(
    ("exclusive", "tenure", "open_", "has_its_turn"),
    [
        (True, Tenure.OWNED, 1, True),
        (True, Tenure.OWNED, 2, False),  # the others of its group are on their way back
        (False, Tenure.OWNED, 2, True),  # which does not matter in a loop of the user's
        (True, Tenure.JOINING, 1, False),
        (False, Tenure.JOINING, 1, False),
    ],
)
def test_a_suspect_has_its_turn_if_its_partition_is_ours_and_nothing_else_of_an_exclusive_lane_is_open(
    exclusive: bool, tenure: Tenure, open_: int, has_its_turn: bool
) -> None:
    delivery = granted(tenure=tenure, open_=open_)

    assert held(delivery, exclusive=exclusive).choose() is (delivery if has_its_turn else None)


def test_one_at_a_time_in_the_order_in_which_they_came() -> None:
    first, second = granted(0), granted(1)
    suspects = held(first, second)

    assert suspects.choose() is first
    assert first.alone
    assert suspects.choose() is None
    suspects.leave(second)  # does not end the turn of the first
    assert suspects.choose() is None

    suspects.leave(first)
    assert not first.alone
    assert suspects.choose() is second


def test_those_of_a_partition_are_taken_out_or_all_and_do_not_have_a_turn_any_more() -> None:
    first, second, third = (granted(number) for number in range(3))
    suspects = held(first, second, third)

    assert suspects.withdraw(second.partition) == [second]
    assert suspects.withdraw(second.partition) == []
    assert suspects.withdraw() == [first, third]
    assert suspects.choose() is None
