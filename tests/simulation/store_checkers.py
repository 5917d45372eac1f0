"""One checker per property of what the store answers and keeps, and of who commits: what the others show in its
consequences is looked at here where it happens. See checkers.py."""

from __future__ import annotations

from tests.simulation import history as h
from tests.simulation.checkers import Checker, CommitsFollow
from tests.simulation.history import Terms

__all__ = [
    "CommitsAreTheirs",
    "DoneStaysDone",
    "DuplicatesWereDone",
    "FencesGrow",
    "FrontiersFollow",
    "TracesStay",
]


class CommitsAreTheirs(Checker):
    """A process commits only what it was given and was not told to be gone, and never goes back in one holding."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._asked: dict[tuple[str, int], int] = {}  # what it holds, and what it committed last of it

    def on_given(self, event: h.Given) -> None:
        self._asked[event.worker, event.partition] = 0

    def on_gone(self, event: h.Gone) -> None:
        self._asked.pop((event.worker, event.partition), None)

    def on_asked(self, event: h.Asked) -> None:
        last = self._asked.get((event.worker, event.partition))
        if last is None:
            self.check(False, f"{event}, which is not its own")
            return
        self.check(event.offset >= last, f"{event} after {last}")
        self._asked[event.worker, event.partition] = event.offset


class FencesGrow(Checker):
    """Each grant of a key has a greater fence than the one before; only a repeated answer to the same process may have
    the same."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._last: dict[str, h.Granted] = {}

    def on_granted(self, event: h.Granted) -> None:
        last = self._last.get(event.key)
        self._last[event.key] = event
        if last is not None:
            repeated = event.worker == last.worker and event.fence == last.fence
            self.check(event.fence > last.fence or repeated, f"{event} after {last}")


class DoneStaysDone(Checker):
    """A key that the store has recorded is granted to nobody."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._recorded: set[str] = set()

    def on_recorded(self, event: h.Recorded) -> None:
        self._recorded.add(event.key)

    def on_granted(self, event: h.Granted) -> None:
        self.check(event.key not in self._recorded, f"{event}, which is done")


class TracesStay(Checker):
    """What the store knows of a key that is not done, its attempts and its doubt, is never less with the next grant."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._known: dict[str, h.Granted] = {}

    def on_granted(self, event: h.Granted) -> None:
        last = self._known.get(event.key)
        self._known[event.key] = event
        if last is not None:
            kept = event.attempts >= last.attempts and event.doubt >= last.doubt
            self.check(kept, f"{event} after {last}")

    def on_recorded(self, event: h.Recorded) -> None:
        self._known.pop(event.key, None)


class DuplicatesWereDone(Checker):
    """No message is told to be a repeat whose own key was not recorded before: nobody else's key suppresses it."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._recorded: set[str] = set()

    def on_recorded(self, event: h.Recorded) -> None:
        self._recorded.add(event.key)

    def on_duplicate(self, event: h.Duplicate) -> None:
        self.check(event.key in self._recorded, f"{event}, which nobody has recorded")


class FrontiersFollow(CommitsFollow):
    """The frontier that the store keeps of a partition never passes a message that is not settled at that time."""

    def on_committed(self, event: h.Committed) -> None:
        """Of the other."""

    def on_frontierkept(self, event: h.FrontierKept) -> None:
        super().on_committed(h.Committed(event.worker, event.partition, event.offset))
