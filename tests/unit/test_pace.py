"""How much is claimed at once."""

import pytest

from kafka_once.core.pacing import Pace


def test_nothing_is_known_before_the_first_group() -> None:
    pace = Pace(10.0, 100)

    assert pace.group_size == 1
    assert pace.ends_within(10.0, 1) == 0.0


def test_a_group_grows_by_doubling_at_most_up_to_what_the_budget_and_the_limit_allow() -> None:
    pace, sizes = Pace(10.0, 12), []
    for _ in range(5):
        pace.observe(1, 0.5)
        sizes.append(pace.group_size)

    assert sizes == [2, 4, 8, 12, 12]
    pace.observe(10, 10.0)  # 1 ms each
    assert pace.group_size == 10


def test_a_slower_group_counts_in_full_and_a_faster_one_by_a_fifth() -> None:
    pace = Pace(100.0, 1_000)
    pace.observe(4, 8.0)
    assert pace.ends_within(100.0, 100) == pytest.approx(0.5)  # 2 ms each

    pace.observe(2, 20.0)
    assert pace.ends_within(100.0, 100) == pytest.approx(0.1)

    pace.observe(10, 50.0)  # 5 ms instead of 10
    assert pace.ends_within(100.0, 100) == pytest.approx(100 / 900)


def test_a_place_is_through_with_one_group_at_most() -> None:
    pace = Pace(10.0, 100)
    pace.observe(1, 4.0)

    assert pace.ends_within(10.0, 1) == 1.0
    assert pace.ends_within(10.0, 5) == pytest.approx(0.5)


def test_a_handler_that_takes_longer_than_the_budget_has_groups_of_one() -> None:
    pace = Pace(10.0, 100)
    for _ in range(3):
        pace.observe(1, 10.1)

    assert pace.group_size == 1


def test_a_message_that_takes_half_the_budget_is_one_of_two() -> None:
    pace = Pace(10.0, 100)

    pace.observe(1, 5.0)
    assert pace.group_size == 2
    pace.observe(1, 5.1)
    assert pace.group_size == 1


def test_a_handler_that_takes_no_time_at_all_has_the_limit() -> None:
    pace = Pace(10.0, 4)
    for _ in range(3):
        pace.observe(1, 0.0)

    assert pace.group_size == 4
