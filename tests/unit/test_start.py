"""Where reading starts: each row of the table, each policy, and what a person is told."""

import itertools

import pytest

from kafka_once.core.calls import Committed, LogBounds
from kafka_once.core.events import Counters, Kind
from kafka_once.core.marks import Mark, read_mark
from kafka_once.core.semantics import ConflictPolicy, StartReset
from kafka_once.core.start import _ROWS as ROWS  # the table itself
from kafka_once.core.start import Case, Facts, Start, Stored, Whose, decide

NAME = "kafka-once:1:abc"
LOG = LogBounds(100, 200, "topic-2")
EARLIEST, LATEST, ERROR = StartReset
SAFE, STOP, GO_ON = ConflictPolicy


def ours(offset: int, *, topic_id: str = "topic-2", epoch: int = 3, at: int | None = None) -> Committed:
    return Committed(offset, 7, Mark(topic_id, epoch, offset if at is None else at).text(NAME))


def others(offset: int, metadata: str = "") -> Committed:
    return Committed(offset, 7, metadata)


def start(
    committed: Committed | None = None,
    frontier: int | None = None,
    *,
    log: LogBounds = LOG,
    epoch: int = 4,
    earlier_topic: bool = False,
    reset: StartReset = EARLIEST,
    policy: ConflictPolicy = SAFE,
) -> Start:
    stored = None if frontier is None else (frontier, 5)
    return decide(Facts(log, committed, NAME, stored, epoch, earlier_topic), reset, policy)


def cases(found: Start) -> list[Case]:
    return [finding.case for finding in found.findings]


# ------------------------------------------------------------------------------------------------------------ the table

EVERY_ROW = [
    # committed, frontier, more facts, case, starts at, commit at once, rewind
    (None, None, {}, Case.FIRST, 100, True, False),
    (None, 150, {}, Case.OFFSETS_GONE, 150, True, False),
    (ours(150), None, {}, Case.RESUMED, 150, False, False),
    (ours(150), 140, {}, Case.RESUMED, 150, False, False),
    (ours(150), 150, {}, Case.RESUMED, 150, False, False),
    (ours(150), 160, {}, Case.COMMIT_LOST, 160, True, False),
    (others(150), None, {}, Case.ADOPTED, 150, True, False),
    (others(150), 140, {}, Case.RESET_AHEAD, 150, True, False),
    (others(150), 150, {}, Case.RESUMED, 150, False, False),
    (others(150), 160, {}, Case.RESET_BACK, 150, False, True),
    (ours(150, topic_id="topic-1"), None, {}, Case.TOPIC_RECREATED, 100, True, False),
    (ours(150, topic_id="topic-1"), 160, {}, Case.COMMIT_LOST, 160, True, False),
    (None, None, {"earlier_topic": True}, Case.TOPIC_RECREATED, 100, True, False),
    (None, 150, {"earlier_topic": True}, Case.OFFSETS_GONE, 150, True, False),
]


@pytest.mark.parametrize(("committed", "frontier", "facts", "case", "offset", "commit", "rewind"), EVERY_ROW)
def test_each_row(committed, frontier, facts, case, offset, commit, rewind):
    found = start(committed, frontier, **facts)
    assert (found.case, found.offset, found.commit, found.rewind, found.stop) == (case, offset, commit, rewind, "")
    silent = case in {Case.FIRST, Case.RESUMED, Case.ADOPTED}
    assert cases(found) == ([] if silent else [case])


def test_no_row_is_missing_and_each_is_tested():
    impossible = {  # nothing counts as committed: a frontier is then ahead of it, or there is none
        (whose, stored) for whose in (Whose.NOBODYS, Whose.EARLIER) for stored in (Stored.BEHIND, Stored.SAME)
    }
    assert set(ROWS) == set(itertools.product(Whose, Stored)) - impossible
    tested = [case for _, _, facts, case, *_ in EVERY_ROW if not facts]
    assert sorted(tested) == sorted(case for case, _ in ROWS.values())


def test_what_was_committed_for_an_earlier_topic_is_compared_with_nothing():
    for frontier in (140, 150, 160):
        found = start(ours(150, topic_id="topic-1"), frontier)
        assert (found.case, found.offset, found.commit) == (Case.COMMIT_LOST, frontier, True)


def test_a_position_comes_with_its_leader_epoch():
    assert start(ours(150), 140).leader_epoch == 7
    assert start(ours(150), 160).leader_epoch == 5
    assert start().leader_epoch is None


# ----------------------------------------------------------------------------------------------------- the first start


def test_a_new_group_starts_where_the_user_says():
    assert start(reset=EARLIEST).offset == 100
    assert start(reset=LATEST).offset == 200
    refused = start(reset=ERROR)
    assert "auto.offset.reset" in refused.stop
    assert (refused.commit, refused.rewind) == (False, False)


def test_what_the_user_says_of_new_groups_counts_for_no_other():
    """R9: with latest, what came while the group's offset expired is not passed over."""
    for reset in StartReset:
        assert start(None, 150, reset=reset).offset == 150
        assert start(None, None, earlier_topic=True, reset=reset).offset == 100
        assert start(ours(150), 140, reset=reset).offset == 150
        assert start(ours(50), 40, reset=reset).offset == 100


# --------------------------------------------------------------------------------------------------- whose commit it is


def test_a_commit_whose_mark_names_another_offset_was_made_by_a_tool_that_kept_the_metadata():
    assert start(ours(150, at=160), 160).case is Case.RESET_BACK


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "text",
        "kafka-once:1:abc",
        "kafka-once:1:other::3:150",
        "kafka-once:1:abd:topic-2:3:150",
        f"{NAME}:x:y:z",
        f"{NAME}:topic-2:3:z",
        f"{NAME}:topic-2:y:150",
    ],
)
def test_other_marks_are_others(metadata):
    assert start(others(150, metadata), 160).case is Case.RESET_BACK


def test_without_a_topic_id_on_either_side_a_mark_is_ours():
    assert start(ours(150, topic_id="")).case is Case.RESUMED
    assert start(ours(150), log=LOG._replace(topic_id="")).case is Case.RESUMED


def test_a_mark_reads_back_as_it_was_written():
    mark = Mark("aiNHYvLCQG2KzStyecVQ6g", 12, 345)
    assert read_mark(NAME, mark.text(NAME)) == mark
    assert mark.text(NAME).isascii()
    assert read_mark("", mark.text("")) is None


# ----------------------------------------------------------------------------------------------------- a store's memory


@pytest.mark.parametrize(("marked", "taken", "lost"), [(3, 4, False), (3, 3, True), (9, 1, True), (0, 1, False)])
def test_an_epoch_that_a_commit_carries_already_tells_that_the_store_forgot(marked, taken, lost):
    """Also a store that was restored from an old copy; but not one that is new to a group which ran without."""
    found = start(ours(150, epoch=marked), None, epoch=taken)
    assert (Case.MEMORY_LOST in cases(found)) is lost
    assert found.offset == 150
    assert found.commit is lost  # under the new epoch, so that it is told once
    assert bool(start(ours(150, epoch=marked), None, epoch=taken, policy=STOP).stop) is lost


def test_without_a_store_nothing_is_missed():
    assert start(ours(150, epoch=0), None, epoch=0, policy=STOP).findings == ()
    assert start(ours(150, epoch=5), None, epoch=0, policy=STOP).findings == ()


def test_what_is_known_without_a_store_is_enough():
    """No epoch was taken, and nobody remembers an earlier topic."""
    assert decide(Facts(LOG, ours(150, epoch=1), NAME), EARLIEST, STOP).findings == ()
    first = decide(Facts(LOG, None, NAME), LATEST, STOP)
    assert (first.case, first.offset, first.stop) == (Case.FIRST, 200, "")


def test_what_an_earlier_topic_was_committed_under_tells_nothing_of_the_stores_memory():
    found = start(ours(150, topic_id="topic-1", epoch=9), None, epoch=1)
    assert cases(found) == [Case.TOPIC_RECREATED]


# -------------------------------------------------------------------------------------------------------------- the log


def test_what_retention_deleted_is_counted_and_reading_goes_on_behind_it():
    found = start(ours(60), 50)
    assert (found.offset, found.leader_epoch, found.commit, found.stop) == (100, None, True, "")
    (finding,) = found.findings
    assert (finding.case, finding.times) == (Case.MESSAGES_DELETED, 40)
    assert "offsets 60 to 99 were deleted" in finding.text
    assert "offsets 60 to 99" in start(ours(60), 50, policy=STOP).stop


def test_a_single_message_that_was_deleted_is_told():
    found = start(ours(99))
    assert [(finding.case, finding.times) for finding in found.findings] == [(Case.MESSAGES_DELETED, 1)]
    assert found.offset == 100


@pytest.mark.parametrize(
    "facts",
    [
        {"committed": ours(201)},
        {"committed": ours(150), "frontier": 201},
        {"committed": None, "frontier": 201},
        {"committed": others(201)},
        {"committed": ours(150), "frontier": 150, "log": LOG._replace(diverged=True)},
    ],
)
def test_a_truncated_log_stops_by_default_with_a_remedy(facts):
    for policy in (SAFE, STOP):
        found = start(**facts, policy=policy)
        assert "truncated" in found.stop
        assert "reset-offsets" in found.stop
        assert 'on_position_conflict="go_on"' in found.stop
    found = start(**facts, policy=GO_ON)
    assert (found.offset, found.commit, found.rewind, found.stop) == (100, True, True, "")


def test_a_position_at_either_end_of_the_log_is_in_it():
    for offset in (100, 200):
        assert start(ours(offset)).findings == ()


def test_a_topic_that_was_made_anew_is_not_held_against_the_position_in_the_earlier_one():
    log = LogBounds(0, 3, "topic-2", diverged=True)
    assert cases(start(ours(150, topic_id="topic-1"), log=log)) == [Case.TOPIC_RECREATED]


def test_a_reset_to_what_is_deleted_by_now_takes_the_frontier_back_first():
    found = start(others(50), 150)
    assert cases(found) == [Case.RESET_BACK, Case.MESSAGES_DELETED]
    assert (found.offset, found.rewind, found.commit) == (100, True, False)


# --------------------------------------------------------------------------------------------------------- the policies

REPORTED = {
    Case.OFFSETS_GONE: start(None, 150).findings,
    Case.COMMIT_LOST: start(ours(150), 160).findings,
    Case.RESET_BACK: start(others(150), 160).findings,
    Case.RESET_AHEAD: start(others(150), 140).findings,
    Case.TOPIC_RECREATED: start(earlier_topic=True).findings,
    Case.MEMORY_LOST: start(ours(150), epoch=1).findings,
    Case.MESSAGES_DELETED: start(ours(60)).findings,
    Case.LOG_TRUNCATED: start(ours(201)).findings,
}


@pytest.mark.parametrize(
    ("policy", "stops"),
    [
        (SAFE, {Case.LOG_TRUNCATED}),
        (
            STOP,
            {
                Case.RESET_AHEAD,
                Case.TOPIC_RECREATED,
                Case.MEMORY_LOST,
                Case.MESSAGES_DELETED,
                Case.LOG_TRUNCATED,
            },
        ),
        (GO_ON, set()),
    ],
)
def test_what_stops(policy, stops):
    stopped = {
        Case.OFFSETS_GONE: start(None, 150, policy=policy),
        Case.COMMIT_LOST: start(ours(150), 160, policy=policy),
        Case.RESET_BACK: start(others(150), 160, policy=policy),
        Case.RESET_AHEAD: start(others(150), 140, policy=policy),
        Case.TOPIC_RECREATED: start(earlier_topic=True, policy=policy),
        Case.MEMORY_LOST: start(ours(150), epoch=1, policy=policy),
        Case.MESSAGES_DELETED: start(ours(60), policy=policy),
        Case.LOG_TRUNCATED: start(ours(201), policy=policy),
    }
    assert {case for case, found in stopped.items() if found.stop} == stops
    for case in stops:
        assert "go_on" in stopped[case].stop, "what to do stands in the sentence"


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (Case.OFFSETS_GONE, "the group has no committed offset any more; goes on at the stored frontier 150"),
        (Case.COMMIT_LOST, "committed is 150, the stored frontier is 160: goes on there"),
        (Case.RESET_BACK, "somebody set the group's offset back from 160 to 150: goes on there"),
        (
            Case.RESET_AHEAD,
            "somebody committed 150, the stored frontier is 140: what lies between was not settled here",
        ),
        (Case.TOPIC_RECREATED, "the topic was deleted and made anew: starts at the new log's start 100"),
        (Case.MEMORY_LOST, "the commit at 150 carries our epoch 3, and the store gave us 1: it forgot"),
        (Case.MESSAGES_DELETED, "offsets 60 to 99 were deleted before they were read"),
        (Case.LOG_TRUNCATED, "position 201 is not in the log, which goes from 100 to 200: it was truncated"),
    ],
)
def test_what_a_person_is_told(case, sentence):
    (finding,) = REPORTED[case]
    assert (finding.text, finding.times) == (sentence, 40 if case is Case.MESSAGES_DELETED else 1)


def test_the_first_reason_not_to_start_is_the_one_that_is_told():
    found = start(ours(60, epoch=9), epoch=1, policy=STOP)
    assert cases(found) == [Case.MEMORY_LOST, Case.MESSAGES_DELETED]
    assert found.stop.startswith("the commit at 60 carries our epoch 9")


def test_each_case_that_is_reported_has_a_sentence_a_kind_and_a_counter():
    silent = {Case.FIRST, Case.RESUMED, Case.ADOPTED}
    assert set(REPORTED) == set(Case) - silent
    for case, (finding,) in REPORTED.items():
        assert finding.case is case
        assert "{" not in finding.text
        assert Kind[case.name]
    from kafka_once.core.assignment import _COUNTERS

    assert set(_COUNTERS) == set(REPORTED)
    assert set(_COUNTERS.values()) <= set(Counters.NAMES)


# ----------------------------------------------------------------------------------------------- everything, everywhere


def test_nothing_unsettled_is_ever_passed_over():
    """Over all facts: what we commit and store is a frontier of definite answers, so the start is the highest of them,
    but where retention deleted, a person set the offset back, or there is no such log any more."""
    offsets = (None, 90, 100, 150, 200, 210)
    for committed, frontier, whose, earlier in itertools.product(offsets, offsets, (ours, others), (False, True)):
        held = None if committed is None else whose(committed)
        for policy, reset in itertools.product(ConflictPolicy, StartReset):
            found = start(held, frontier, earlier_topic=earlier, policy=policy, reset=reset)
            if found.stop:
                continue
            known = [offset for offset in (committed, frontier) if offset is not None]
            assert 100 <= found.offset <= 200
            if found.case is Case.RESET_BACK or not known or Case.LOG_TRUNCATED in cases(found):
                continue
            assert found.offset == max(*known, 100), (held, frontier)
