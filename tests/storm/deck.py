"""What is done next, drawn by the seed: from a deck that is shuffled anew when it is used up, so that a short storm has
its share of everything too."""

import random
from typing import NamedTuple

__all__ = ["Deck", "Deed"]

_KINDS = {"freeze-long": 4, "freeze-short": 1, "hang": 2, "kill": 3, "stop": 2, "start": 4}
_PAUSE_S = (0.2, 1.2)
_LONG, _SHORT = (1.4, 2.4), (0.1, 0.6)  # of a session


class Deed(NamedTuple):
    """What is done after `pause_s`, to the first of `whom` whom it fits.

    Attributes:
        kind: "freeze" (for `freeze_s`), "hang", "kill", "stop" or "start".
        at_work: rather to one who runs a handler just then.
    """

    kind: str
    pause_s: float
    whom: tuple[int, ...]
    at_work: bool
    freeze_s: float = 0.0


class Deck:
    """Deeds without end; the same seed gives the same."""

    def __init__(self, seed: int, members: int, session_ms: int) -> None:
        self._rng = random.Random(f"storm {seed}")
        self._members = members
        self._session_s = session_ms / 1000
        self._cards: list[str] = []

    def draw(self) -> Deed:
        """The next deed, and how long to wait before it."""
        if not self._cards:
            self._cards = [kind for kind, count in _KINDS.items() for _ in range(count)]
            self._rng.shuffle(self._cards)
        card = self._cards.pop()
        whom = tuple(self._rng.sample(range(self._members), self._members))
        pause_s = self._rng.uniform(*_PAUSE_S)
        kind, _, length = card.partition("-")
        freeze_s = self._rng.uniform(*(_LONG if length == "long" else _SHORT)) * self._session_s
        at_work = self._rng.random() < 0.5
        return Deed(kind, pause_s, whom, at_work, freeze_s if kind == "freeze" else 0.0)
