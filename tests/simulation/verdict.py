"""All the checkers, and what they say about a history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tests.simulation.checkers import (
    Checker,
    ComesToRest,
    CommitsFollow,
    CommitThenRun,
    InOrder,
    NothingLost,
    NothingStartsAfterAStall,
    OutcomesAddUp,
    ReturnedIsEnough,
)
from tests.simulation.history import Event, Terms
from tests.simulation.key_checkers import (
    DoneIsDone,
    DoubtIsListed,
    NothingStartsLate,
    OneAtATime,
    OnlyTheGuilty,
    SuspectsRunAlone,
)
from tests.simulation.store_checkers import (
    CommitsAreTheirs,
    DoneStaysDone,
    DuplicatesWereDone,
    FencesGrow,
    FrontiersFollow,
    TracesStay,
)

__all__ = ["AT_THE_STORE", "CHECKERS", "Verdict", "judge"]

AT_THE_STORE: tuple[type[Checker], ...] = (
    CommitsAreTheirs,
    FencesGrow,
    DoneStaysDone,
    TracesStay,
    DuplicatesWereDone,
    FrontiersFollow,
)
"""Not in the small worlds: their books have parts of which a state's digest tells nothing."""

CHECKERS: tuple[type[Checker], ...] = (
    NothingLost,
    CommitsFollow,
    OneAtATime,
    DoneIsDone,
    NothingStartsLate,
    NothingStartsAfterAStall,
    DoubtIsListed,
    InOrder,
    ReturnedIsEnough,
    OnlyTheGuilty,
    SuspectsRunAlone,
    CommitThenRun,
    OutcomesAddUp,
    ComesToRest,
    *AT_THE_STORE,
)


class Verdict:
    """What the checkers say about one history."""

    def __init__(self, checkers: Iterable[Checker]) -> None:
        checkers = list(checkers)
        self.violations = [violation for checker in checkers for violation in checker.violations]
        self.evaluated = Counter({type(checker).__name__: checker.evaluated for checker in checkers})


def judge(terms: Terms, events: Iterable[Event], checkers: Iterable[type[Checker]] = CHECKERS) -> Verdict:
    judges = [checker(terms) for checker in checkers]
    wanting: dict[type, list[Callable[[Any], None]]] = {}
    for event in events:
        kind = type(event)
        if kind not in wanting:
            name = f"on_{kind.__name__.lower()}"
            wanting[kind] = [getattr(judge, name) for judge in judges if hasattr(judge, name)]
        for on_event in wanting[kind]:
            on_event(event)
    return Verdict(judges)
