"""What a user's own handler is tested with."""

import pytest

from kafka_once import field
from kafka_once.testing.handler_proofs import assert_idempotent, crash_at_every_step, deliver_twice

PAYMENTS = [{"id": "a", "amount": 1}, {"id": "b", "amount": 2}, {"id": "a", "amount": 1}]


def test_a_charge_is_never_lost_and_doubled_only_in_the_window_and_told_so() -> None:
    charges: list[str] = []

    def charge(payment: dict) -> None:
        charges.append(payment["id"])

    report = crash_at_every_step(charge, PAYMENTS, lambda: charges, key=field("id"))

    names = [step.name for step in report.steps]
    assert {"after the session", "before the claim", "after the claim", "before the handler"} <= set(names)
    assert {"after the handler", "before the commit", "after the commit"} <= set(names)
    assert report.lost == []
    assert report.doubled
    assert report.doubled_untold == []


def test_a_handler_that_asks_whether_it_ran_doubles_nothing() -> None:
    charges: set[str] = set()
    effects: list[str] = []

    async def charge(payment: dict) -> None:
        if payment["id"] not in charges:
            charges.add(payment["id"])
            effects.append(payment["id"])

    report = crash_at_every_step(charge, PAYMENTS, lambda: effects, key=field("id"), reset=charges.clear)

    assert len(report.steps) > 10
    assert (report.lost, report.doubled) == ([], [])


def test_an_effect_outside_of_the_handler_is_found_to_be_lost() -> None:
    queue: list[str] = []
    written: list[str] = []

    def enqueue(payment: dict) -> None:
        if not payment["id"].startswith("b"):
            written.append(payment["id"])
        queue.append(payment["id"])
        if len(queue) > 1:  # a buffer that dies with its process
            written.extend(key for key in queue if key.startswith("b"))
            queue.clear()

    report = crash_at_every_step(enqueue, PAYMENTS[:2], lambda: written, key=field("id"), reset=queue.clear)

    assert [step for step in report.steps if step.lost or step.doubled]


def test_a_key_that_tells_repeats_apart_doubles_them() -> None:
    charges: list[str] = []

    def charge(payment: dict) -> None:
        charges.append(payment["id"])

    assert not deliver_twice(charge, PAYMENTS, lambda: charges, key=field("id"))
    assert deliver_twice(charge, PAYMENTS[:1], lambda: charges, key=lambda message: str(message.offset).encode()) == {
        "a": 1
    }


def test_a_handler_that_never_ends_its_work_is_told() -> None:
    def fail(payment: dict) -> None:
        raise ValueError(payment)

    with pytest.raises((TimeoutError, Exception), match=r"not settled|cannot be settled"):
        crash_at_every_step(fail, PAYMENTS[:1], list, key=field("id"), within_s=3.0)


def test_idempotent_or_not() -> None:
    tags: set[str] = set()
    counter = {"n": 0}

    async def tag(payment: dict) -> None:
        tags.add(payment["id"])

    def count(payment: dict) -> None:
        counter["n"] += payment["amount"]

    assert_idempotent(tag, PAYMENTS[0], lambda: tags, times=3)
    with pytest.raises(AssertionError, match=r"count is not idempotent: the state was \{'n': 1\}, then \{'n': 2\}"):
        assert_idempotent(count, PAYMENTS[0], lambda: counter)
