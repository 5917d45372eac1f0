"""What both kinds of tests use: a carrier that only writes down."""

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


@pytest.fixture
def pickups(monkeypatch):
    carrier = Pickups()
    monkeypatch.setattr(shipping, "carrier", carrier)
    return carrier
