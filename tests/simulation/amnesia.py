"""What is promised when the store forgets what it acknowledged: nothing is lost, and nothing stands still.

What was done runs again, what two hold runs twice, and nobody is told: so docs/guarantees.md has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.checkers import (
    Checker,
    ComesToRest,
    CommitsFollow,
    CommitThenRun,
    InOrder,
    NothingLost,
    OutcomesAddUp,
    ReturnedIsEnough,
)
from tests.simulation.store_checkers import CommitsAreTheirs, DuplicatesWereDone, FencesGrow, FrontiersFollow
from tests.simulation.verdict import CHECKERS

if TYPE_CHECKING:
    from tests.simulation.history import AtRest
    from tests.simulation.plan import Plan

__all__ = ["HELD_TO_IN_AMNESIA", "held_to"]


class _Settles(ComesToRest):
    """But claims may be left: of who died when his completion was forgotten, for a message that is committed."""

    def on_atrest(self, event: AtRest) -> None:
        self.check(not event.lag, f"lag {event.lag}")
        self.check(not event.unfinished, f"{event.unfinished} deliveries unfinished")


HELD_TO_IN_AMNESIA: tuple[type[Checker], ...] = (
    NothingLost,
    CommitsFollow,
    InOrder,
    ReturnedIsEnough,
    CommitThenRun,
    OutcomesAddUp,
    _Settles,
    CommitsAreTheirs,
    FencesGrow,
    DuplicatesWereDone,
    FrontiersFollow,
)


def held_to(plan: Plan) -> tuple[type[Checker], ...]:
    """The checkers that judge the schedule of this plan."""
    return HELD_TO_IN_AMNESIA if plan.forgets else CHECKERS
