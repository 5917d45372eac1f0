"""Each checker with a history that must pass and histories that must fail."""

from collections.abc import Sequence

import pytest

from kafka_once.core.events import Counters
from kafka_once.core.order import Order
from kafka_once.core.semantics import Semantics
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
from tests.simulation.history import (
    Asked,
    AtRest,
    Committed,
    DeadLettered,
    Deleted,
    Delivered,
    Duplicate,
    Ended,
    Event,
    FrontierKept,
    Given,
    Gone,
    Granted,
    Left,
    Over,
    Produced,
    Recorded,
    Started,
    StoodStill,
    Terms,
)
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
from tests.simulation.verdict import CHECKERS, judge

ONCE = Terms()
AT_MOST = Terms(Semantics.AT_MOST_ONCE)
AT_LEAST = Terms(Semantics.AT_LEAST_ONCE, store=False)
REST = AtRest(settled=True, lag={}, unfinished=0, claims=0, doubts=())


def run(number: int, key: str = "k", worker: str = "a", offset: int = 0, *, doubt: bool = False) -> Started:
    return Started(worker, number, 1 if worker == "a" else 2, 0, offset, key, doubt)


def left(**counted: int) -> Left:
    counters = Counters()
    for name, count in counted.items():
        counters.add(name, count)
    return Left("a", clean=True, counters=counters.as_dict())


# One message, processed as it should be, by one process that then ends.
PLAIN: list[Event] = [
    Produced(0, 0, "k"),
    Given("a", 0),
    Delivered("a", 0, 0),
    Granted("a", "k", fence=1),
    run(1),
    Ended(1),
    Recorded("a", "k"),
    FrontierKept("a", 0, 1),
    Asked("a", 0, 1),
    Committed("a", 0, 1),
    left(deliveries=1, completed=1, processings=1),
    REST,
]
# Its holder vanishes at work; another process is told of it.
TAKEN_OVER: list[Event] = [
    Produced(0, 0, "k"),
    Given("a", 0),
    Granted("a", "k", fence=1),
    run(1),
    Over("a", "crashed"),
    Ended(1, "killed"),
    Given("b", 0),
    Granted("b", "k", fence=2, doubt=True),
    run(2, worker="b", doubt=True),
    Ended(2),
    Recorded("b", "k"),
    FrontierKept("b", 0, 1),
    Asked("b", 0, 1),
    Committed("b", 0, 1),
    REST._replace(doubts=("k",)),
]


def violations(checker: type[Checker], events: Sequence[Event], terms: Terms = ONCE) -> list[str]:
    return judge(terms, events, [checker]).violations


def without(events: Sequence[Event], kind: type) -> list[Event]:
    return [event for event in events if not isinstance(event, kind)]


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("events", [PLAIN, TAKEN_OVER], ids=["plain", "taken over"])
def test_a_good_history_passes(checker: type[Checker], events: list[Event]) -> None:
    assert violations(checker, events) == []


def test_a_message_that_nobody_finished_is_lost() -> None:
    assert violations(NothingLost, without(PLAIN, Ended))
    assert violations(NothingLost, [Produced(0, 0, "k"), run(1), Ended(1, "raised"), REST])
    assert not violations(NothingLost, [Produced(0, 0, "k"), DeadLettered(0, 0, "k"), REST])


def test_without_a_store_a_repeat_counts_for_itself() -> None:
    repeated: list[Event] = [Produced(0, 0, "k"), Produced(0, 1, "k"), run(1), Ended(1), REST]

    assert not violations(NothingLost, repeated)
    assert violations(NothingLost, repeated, AT_LEAST)


def test_a_commit_may_not_pass_what_is_not_settled() -> None:
    early: list[Event] = [Produced(0, 0, "k"), run(1), Committed("a", 0, 1), Ended(1), Recorded("a", "k")]

    assert violations(CommitsFollow, early)
    assert not violations(CommitsFollow, [*early[:1], Committed("a", 0, 0), *early[1:2]])


def test_a_commit_waits_for_the_stores_word_and_for_the_handler() -> None:
    assert violations(CommitsFollow, without(PLAIN, Recorded))
    assert violations(CommitsFollow, without(PLAIN, Ended))
    assert not violations(CommitsFollow, without(PLAIN, Ended), AT_MOST)


def test_two_handlers_of_one_key_at_a_time() -> None:
    beside: list[Event] = [Granted("a", "k"), run(1), Granted("b", "k"), run(2, worker="b", doubt=True)]

    assert violations(OneAtATime, beside)
    assert not violations(OneAtATime, [*beside[:2], Over("a", "lapsed"), *beside[2:]])
    assert violations(OneAtATime, [*beside[:2], Over("a", "lapsed"), Granted("a", "k"), run(2)]), "in one process"


def test_a_second_run_needs_a_window() -> None:
    again: list[Event] = [
        Granted("a", "k"),
        run(1),
        Ended(1),
        Granted("b", "k"),
        run(2, worker="b", doubt=True),
        Ended(2),
    ]

    assert violations(DoneIsDone, again)
    assert not violations(DoneIsDone, [*again[:3], Over("a", "lapsed"), *again[3:]])


def test_a_second_run_is_told_in_doubt() -> None:
    again: list[Event] = [
        Granted("a", "k"),
        run(1),
        Ended(1),
        Over("a", "lapsed"),
        Granted("b", "k"),
        run(2, worker="b"),
        Ended(2),
    ]

    assert violations(DoneIsDone, again)
    assert not violations(DoneIsDone, [*again[:2], Ended(1, "raised"), *again[3:]])


def test_at_most_once_never_runs_twice() -> None:
    again: list[Event] = [run(1), Ended(1, "raised"), run(2)]

    assert violations(DoneIsDone, again, AT_MOST)
    assert not violations(DoneIsDone, again[:2], AT_MOST)


def test_nothing_starts_under_a_lease_that_has_run_out() -> None:
    late: list[Event] = [Granted("a", "k"), Over("a", "lapsed"), run(1)]

    assert violations(NothingStartsLate, late)
    assert not violations(NothingStartsLate, [*late[:2], Granted("a", "k"), run(1)])


def test_a_start_after_the_process_stood_still() -> None:
    old, new = run(1), run(2)._replace(tenure=3)

    assert violations(NothingStartsAfterAStall, [StoodStill("a", 2), old])
    assert not violations(NothingStartsAfterAStall, [old, StoodStill("a", 2), new])
    assert not violations(NothingStartsAfterAStall, [StoodStill("b", 2), old])


def test_a_doubt_that_is_not_listed() -> None:
    assert violations(DoubtIsListed, [*TAKEN_OVER[:-1], REST])


def test_a_handler_that_cannot_know_is_listed_and_its_next_run_is_told() -> None:
    doubted: list[Event] = [run(1), Ended(1, "doubted"), run(2, doubt=True), Ended(2), REST._replace(doubts=("k",))]

    assert not violations(DoubtIsListed, doubted)
    assert violations(DoubtIsListed, [*doubted[:2], run(2), *doubted[3:]])
    assert violations(DoubtIsListed, [*doubted[:2], REST])


def test_who_lost_the_key_before_another_doubted_cannot_be_told() -> None:
    zombie: list[Event] = [Granted("z", "k"), Over("z", "replaced"), Granted("a", "k"), run(1), Ended(1, "doubted")]
    rest = REST._replace(doubts=("k",))

    assert not violations(DoubtIsListed, [*zombie, run(2, worker="z"), Ended(2, "raised"), rest])
    assert violations(DoubtIsListed, [*zombie, Granted("z", "k"), run(2, worker="z"), Ended(2, "raised"), rest])


def test_a_doubt_that_dies_with_its_process_and_its_topic_is_nobodys() -> None:
    doubted: list[Event] = [Produced(0, 0, "k"), run(1), Ended(1, "doubted")]

    assert violations(DoubtIsListed, [*doubted, REST])
    assert not violations(DoubtIsListed, [*doubted, Deleted(0), REST])
    assert violations(DoubtIsListed, [*doubted, Produced(1, 0, "k"), Deleted(0), REST]), "a repeat is still there"


def test_suspects_run_one_at_a_time() -> None:
    two: list[Event] = [Granted("a", "k", alone=True), run(1), Granted("a", "l", alone=True), run(2, key="l", offset=1)]

    assert violations(SuspectsRunAlone, two)
    assert not violations(SuspectsRunAlone, [*two[:2], Ended(1), *two[2:]])
    assert not violations(SuspectsRunAlone, [*two[:2], Granted("a", "l"), two[3]])
    assert not violations(SuspectsRunAlone, [*two[:2], Granted("b", "l", alone=True), run(2, "l", "b", offset=1)])


def test_exclusive_lanes_keep_the_order() -> None:
    first, second = run(1, offset=0), run(2, key="l", offset=1)

    assert violations(InOrder, [first, second]), "beside each other"
    assert violations(InOrder, [first, Ended(1, "raised"), second, Ended(2), run(3, offset=0)]), "overtaken"
    assert violations(InOrder, [first, Ended(1, "raised"), run(2, offset=1)._replace(offset=0, run=2), run(3)])
    assert not violations(InOrder, [first, Ended(1, "raised"), run(2), Ended(2), run(3, offset=1)])
    assert not violations(InOrder, [first, second], ONCE._replace(exclusive=False))


def test_a_lane_is_what_the_order_says() -> None:
    def log(*record_keys: str | None) -> list[Event]:
        return [Produced(0, offset, "k", record_key=key) for offset, key in enumerate(record_keys)]

    first, second = run(1, offset=0), run(2, key="l", offset=1)
    same, other, none = log("r", "r"), log("r", "q"), log(None, None)
    by_key, by_none = ONCE._replace(order=Order.KEY), ONCE._replace(order=Order.NONE)

    assert violations(InOrder, [*same, first, second], by_key), "beside each other"
    assert violations(InOrder, [*same, second, Ended(2), first], by_key), "overtaken"
    assert violations(InOrder, [*other, first, first._replace(run=3)], by_none), "itself twice"
    for log_of_two, terms in ((other, by_key), (none, by_key), (same, by_none)):
        assert not violations(InOrder, [*log_of_two, second, first], terms)
        assert violations(InOrder, [*log_of_two, second, first], ONCE)


def test_what_returned_is_not_run_again() -> None:
    assert violations(ReturnedIsEnough, [run(1), Ended(1), run(2)])
    assert not violations(ReturnedIsEnough, [run(1), Ended(1, "raised"), run(2)])
    assert not violations(ReturnedIsEnough, [run(1), Ended(1), run(2)._replace(tenure=2)])


def test_the_innocent_are_not_dead_lettered() -> None:
    blamed: list[Event] = [Produced(0, 0, "k"), Granted("a", "k"), Over("a", "crashed"), DeadLettered(0, 0, "k")]
    alone: list[Event] = [Granted("b", "k", alone=True), Over("b", "crashed")]

    assert violations(OnlyTheGuilty, blamed, ONCE._replace(attempts=1))
    assert not violations(OnlyTheGuilty, [*blamed[:3], *alone, blamed[3]], ONCE._replace(attempts=1))
    assert violations(OnlyTheGuilty, [*blamed[:3], *alone, blamed[3]], ONCE._replace(attempts=2))
    assert not violations(OnlyTheGuilty, [*blamed[:1], run(1), Ended(1, "raised"), blamed[3]])


def test_at_most_once_commits_before_it_runs() -> None:
    assert violations(CommitThenRun, [run(1), Committed("a", 0, 1)], AT_MOST)
    assert violations(CommitThenRun, [Committed("a", 0, 0), run(1)], AT_MOST)
    assert not violations(CommitThenRun, [Committed("a", 0, 1), run(1)], AT_MOST)


@pytest.mark.parametrize(
    "counted",
    [
        {"deliveries": 1, "processings": 1},
        {"deliveries": 1, "processings": 1, "completed": 1, "repeat": 1},
        {"deliveries": 2, "processings": 1, "completed": 2},
        {"deliveries": 1, "completed": 1},
        {"deliveries": 1, "processings": 1, "completed": 1, "failures": 1},
    ],
    ids=["no outcome", "two outcomes", "a delivery too many", "a run too few", "a failure too many"],
)
def test_counters_that_do_not_add_up(counted: dict[str, int]) -> None:
    assert violations(OutcomesAddUp, [*without(PLAIN, Left), left(**counted)])
    assert not violations(OutcomesAddUp, [*without(PLAIN, Left), left(**counted)._replace(clean=False)])


@pytest.mark.parametrize(
    "rest",
    [
        REST._replace(settled=False),
        REST._replace(lag={0: 1}),
        REST._replace(unfinished=1),
        REST._replace(claims=1),
    ],
)
def test_a_world_that_does_not_come_to_rest(rest: AtRest) -> None:
    assert violations(ComesToRest, [rest])


def test_a_process_commits_its_own_and_never_goes_back() -> None:
    given, asked = Given("a", 0), Asked("a", 0, 3)

    assert violations(CommitsAreTheirs, [asked]), "never given"
    assert violations(CommitsAreTheirs, [Given("b", 0), asked]), "another's"
    assert violations(CommitsAreTheirs, [given, asked, Gone("a", 0), asked]), "lost meanwhile"
    assert violations(CommitsAreTheirs, [given, asked, Asked("a", 0, 2)]), "backwards"
    assert not violations(CommitsAreTheirs, [given, asked, asked, Asked("a", 0, 4)])
    assert not violations(CommitsAreTheirs, [given, asked, Gone("a", 0), given, Asked("a", 0, 2)]), "another holding"


def test_fences_grow_with_every_grant() -> None:
    first, second = Granted("a", "k", fence=7), Granted("b", "k", fence=8)

    assert not violations(FencesGrow, [first, first, second, Granted("a", "other", fence=7)])
    assert violations(FencesGrow, [second, first])
    assert violations(FencesGrow, [first, second._replace(fence=7)]), "of another process"
    assert violations(FencesGrow, [first, second, first])


def test_what_is_done_is_granted_to_nobody() -> None:
    assert violations(DoneStaysDone, [Recorded("a", "k"), Granted("b", "k")])
    assert not violations(DoneStaysDone, [Granted("b", "k"), Recorded("b", "k"), Granted("b", "other")])


def test_attempts_and_doubt_are_not_forgotten() -> None:
    known = Granted("a", "k", attempts=1, doubt=True)

    assert violations(TracesStay, [known, known._replace(worker="b", attempts=0)])
    assert violations(TracesStay, [known, known._replace(worker="b", doubt=False)])
    assert not violations(TracesStay, [known, known._replace(attempts=2), Granted("a", "other")])
    assert not violations(TracesStay, [known, Recorded("a", "k"), Granted("b", "k")]), "DoneStaysDone looks at this"


def test_a_repeat_is_one_of_what_was_done() -> None:
    assert violations(DuplicatesWereDone, [Recorded("a", "other"), Duplicate("b", "k")])
    assert not violations(DuplicatesWereDone, [Recorded("a", "k"), Duplicate("b", "k")])


def test_a_kept_frontier_may_not_pass_what_is_not_settled() -> None:
    early: list[Event] = [Produced(0, 0, "k"), run(1), FrontierKept("a", 0, 1), Ended(1), Recorded("a", "k")]

    assert violations(FrontiersFollow, early)
    assert violations(FrontiersFollow, without(PLAIN, Recorded))
    assert violations(FrontiersFollow, without(PLAIN, Ended))
    assert not violations(FrontiersFollow, [early[0], FrontierKept("a", 0, 0)])
    assert not violations(FrontiersFollow, [early[0], Committed("a", 0, 1)]), "CommitsFollow looks at this"


def test_what_was_not_looked_at_is_not_counted() -> None:
    verdict = judge(ONCE, PLAIN)

    assert verdict.evaluated["DoneIsDone"] == 2  # no window, and not told in doubt
    assert verdict.evaluated["CommitThenRun"] == 0
