"""What the tests use: carriers that only write down."""

import pytest

from examples.testing import app as shipping


class Pickups(list):
    """A carrier that only writes down, and that can be out of reach for a while."""

    def __init__(self, failures=0):
        super().__init__()
        self.failures = failures

    def pick_up(self, order_id, items, reference):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no carrier")
        self.append((order_id, items))


class CarefulPickups(Pickups):
    """A carrier that knows what it was told already by its reference, as a good service does."""

    def __init__(self):
        super().__init__()
        self.references = set()

    def pick_up(self, order_id, items, reference):
        if reference not in self.references:
            self.references.add(reference)
            super().pick_up(order_id, items, reference)


class ForgetfulPickups(Pickups):
    """A carrier that is told of two orders at a time: one waits, and dies with its process."""

    def __init__(self):
        super().__init__()
        self.waiting = []

    def pick_up(self, order_id, items, reference):
        self.waiting.append((order_id, items))
        if len(self.waiting) == 2:
            self.extend(self.waiting)
            self.waiting.clear()


@pytest.fixture
def pickups(monkeypatch):
    return _take_the_place(monkeypatch, Pickups())


@pytest.fixture
def careful_pickups(monkeypatch):
    return _take_the_place(monkeypatch, CarefulPickups())


@pytest.fixture
def forgetful_pickups(monkeypatch):
    return _take_the_place(monkeypatch, ForgetfulPickups())


def _take_the_place(monkeypatch, carrier):
    monkeypatch.setattr(shipping, "carrier", carrier)
    return carrier
