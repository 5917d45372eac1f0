"""Proofs: the handlers against a crash at every step, and against everything twice. In memory, in seconds."""

import pytest

from examples.testing import app as shipping
from kafka_once import field

ORDERS = [{"id": "o-1", "items": 2}, {"id": "o-2", "items": 1}, {"id": "o-1", "items": 2}]
ADDRESS = {"customer": "c-1", "street": "Main Street 1"}
KEY = field("id")


def test_whenever_its_process_dies_each_order_is_shipped_and_a_second_time_only_in_doubt(crash_at_every_step, pickups):
    report = crash_at_every_step(shipping.ship, ORDERS, lambda: pickups, key=KEY)

    assert len(report.steps) > 10
    assert report.lost == []
    assert report.doubled  # "after the handler": it was shipped, and nobody knows
    assert report.doubled_untold == []


def test_a_carrier_that_takes_the_reference_closes_that_window(crash_at_every_step, careful_pickups):
    report = crash_at_every_step(
        shipping.ship, ORDERS, lambda: careful_pickups, key=KEY, reset=careful_pickups.references.clear
    )

    assert (report.lost, report.doubled) == ([], [])


def test_a_carrier_that_is_told_later_loses_orders_and_the_proof_finds_it(crash_at_every_step, forgetful_pickups):
    report = crash_at_every_step(
        shipping.ship, ORDERS, lambda: forgetful_pickups, key=KEY, reset=forgetful_pickups.waiting.clear
    )

    assert report.lost


def test_everything_twice_is_shipped_once(deliver_twice, pickups):
    assert not deliver_twice(shipping.ship, ORDERS, lambda: pickups, key=KEY)


def test_a_key_that_tells_repeats_apart_ships_them_again(deliver_twice, pickups):
    added = deliver_twice(shipping.ship, ORDERS, lambda: pickups, key=lambda message: str(message.offset).encode())

    assert added == {("o-1", 2): 2, ("o-2", 1): 1}


def test_keeping_an_address_again_changes_nothing(assert_idempotent):
    assert_idempotent(shipping.keep, ADDRESS, lambda: shipping.addresses)


def test_shipping_again_does_and_the_proof_finds_it(assert_idempotent, pickups):
    with pytest.raises(AssertionError, match="ship is not idempotent"):
        assert_idempotent(shipping.ship, ORDERS[0], lambda: pickups)
