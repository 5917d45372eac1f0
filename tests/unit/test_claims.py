"""The claim table, cell by cell; then what must hold for every record, whatever is asked."""

import itertools
import re
from pathlib import Path

import pytest

from kafka_once import stores
from kafka_once.core.claims import (
    SHORT_SESSION,
    ClaimAnswer,
    Claimed,
    Completion,
    Done,
    Freed,
    Grant,
    Record,
    Release,
    claim,
    complete,
    release,
)

SCRIPTS = Path(stores.__file__).parent
ME, OTHER = 7, 8
OWN, CALL, FENCE = 70, 5, 1000

ABSENT = None
FREED = Freed(attempts=2, doubt=True, suspect=True)
MINE = Claimed(ME, OWN, CALL, fence=900, attempts=2, doubt=True, suspect=True, alone=True)
MINE_OLDER = MINE._replace(call=CALL - 1)
MINE_NEWER = MINE._replace(call=CALL + 1)
OTHERS = Claimed(OTHER, 80, CALL, fence=900, attempts=2)
DONE = Done(dead_lettered=False, session=ME)
DONE_BY_OTHER = Done(dead_lettered=True, session=OTHER)

RECORDS = [ABSENT, FREED, MINE, MINE_OLDER, MINE_NEWER, OTHERS, DONE, DONE_BY_OTHER]


def ask(
    record: Record, *, alone: bool = False, holder_lives: bool = True, holder_vanished: bool = False
) -> tuple[ClaimAnswer, Record]:
    asked = {"session": ME, "ownership": OWN, "call": CALL, "fence": FENCE, "alone": alone}
    return claim(record, **asked, holder_lives=holder_lives, holder_vanished=holder_vanished)


def give_back(record: Record, *, failed: bool = False, doubt: bool = False) -> tuple[Release, Record]:
    return release(record, session=ME, call=CALL, failed=failed, doubt=doubt)


class TestClaim:
    def test_absent_is_acquired(self):
        answer, after = ask(ABSENT, alone=True)
        assert answer == ClaimAnswer(Grant.ACQUIRED, 0, doubt=False, suspect=False, fence=FENCE)
        assert after == Claimed(ME, OWN, CALL, FENCE, alone=True)

    def test_freed_is_acquired_and_inherits(self):
        answer, after = ask(FREED)
        assert answer == ClaimAnswer(Grant.ACQUIRED, 2, doubt=True, suspect=True, fence=FENCE)
        assert after == Claimed(ME, OWN, CALL, FENCE, 2, doubt=True, suspect=True)

    def test_the_same_call_gets_the_same_answer(self):
        first, record = ask(FREED)
        assert ask(record) == (first, record)
        assert ask(record, alone=True) == (first, record)

    def test_the_same_call_hears_of_the_doubt_again(self):
        first, record = ask(OTHERS, holder_lives=False)
        again, unchanged = ask(record)
        assert unchanged is record
        assert again[1:] == first[1:]

    def test_an_older_call_of_mine_is_taken_over_and_inherited(self):
        answer, after = ask(MINE_OLDER)
        assert answer == ClaimAnswer(Grant.ACQUIRED, 2, doubt=True, suspect=True, fence=FENCE)
        assert after == Claimed(ME, OWN, CALL, FENCE, 2, doubt=True, suspect=True, alone=False)

    def test_a_late_copy_is_stale(self):
        assert ask(MINE_NEWER) == (ClaimAnswer(Grant.STALE), MINE_NEWER)

    def test_a_living_holder_is_busy(self):
        assert ask(OTHERS) == ((Grant.BUSY, 0, False, False, 0), OTHERS)

    @pytest.mark.parametrize(
        ("ran_alone", "vanished", "attempts"),
        [(False, False, 2), (False, True, 2), (True, False, 2), (True, True, 3)],
    )
    def test_a_holder_whose_ownership_is_over_is_reclaimed_in_doubt(self, ran_alone, vanished, attempts):
        answer, after = ask(OTHERS._replace(alone=ran_alone), holder_lives=False, holder_vanished=vanished)
        assert answer == ClaimAnswer(Grant.RECLAIMED, attempts, doubt=True, suspect=True, fence=FENCE)
        assert after == Claimed(ME, OWN, CALL, FENCE, attempts, doubt=True, suspect=True)

    @pytest.mark.parametrize("done", [DONE, DONE_BY_OTHER])
    def test_done_is_a_duplicate(self, done):
        assert ask(done) == (ClaimAnswer(Grant.DUPLICATE), done)


class TestComplete:
    @pytest.mark.parametrize("dead_lettered", [False, True])
    @pytest.mark.parametrize(
        ("record", "answer"),
        [
            (ABSENT, Completion.FORGOTTEN),
            (FREED, Completion.APPLIED),
            (MINE, Completion.APPLIED),
            (MINE_OLDER, Completion.APPLIED),
            (MINE_NEWER, Completion.APPLIED),
        ],
    )
    def test_becomes_done(self, record, answer, dead_lettered):
        done = Done(dead_lettered, ME)
        assert complete(record, session=ME, dead_lettered=dead_lettered) == (answer, done)

    def test_of_another_is_fenced(self):
        assert complete(OTHERS, session=ME, dead_lettered=False) == (Completion.FENCED, OTHERS)

    @pytest.mark.parametrize("dead_lettered", [False, True])
    @pytest.mark.parametrize(("record", "answer"), [(DONE, Completion.APPLIED), (DONE_BY_OTHER, Completion.DOUBLED)])
    def test_of_done_changes_nothing(self, record, answer, dead_lettered):
        assert complete(record, session=ME, dead_lettered=dead_lettered) == (answer, record)

    def test_keeps_the_low_bits_of_the_session_only(self):
        session = 5 * SHORT_SESSION + 3
        _, done = complete(ABSENT, session=session, dead_lettered=False)
        assert done == Done(dead_lettered=False, session=3)
        assert complete(done, session=session, dead_lettered=False)[0] is Completion.APPLIED
        assert complete(done, session=session + 1, dead_lettered=False)[0] is Completion.DOUBLED


class TestRelease:
    @pytest.mark.parametrize(
        ("flags", "freed"),
        [
            ({}, Freed(2, doubt=True, suspect=True)),
            ({"failed": True}, Freed(3, doubt=True, suspect=False)),
            ({"doubt": True}, Freed(2, doubt=True, suspect=True)),
            ({"failed": True, "doubt": True}, Freed(3, doubt=True, suspect=False)),
        ],
    )
    def test_keeps_attempts_and_doubt(self, flags, freed):
        assert give_back(MINE, **flags) == (Release.APPLIED, freed)

    def test_leaves_nothing_where_there_is_nothing_to_keep(self):
        _, fresh = ask(ABSENT, alone=True)
        assert give_back(fresh) == (Release.APPLIED, None)
        assert give_back(fresh, failed=True) == (Release.APPLIED, Freed(1, doubt=False, suspect=False))
        assert give_back(fresh, doubt=True) == (Release.APPLIED, Freed(0, doubt=True, suspect=False))

    @pytest.mark.parametrize("record", [ABSENT, FREED, MINE_OLDER, MINE_NEWER, OTHERS, DONE, DONE_BY_OTHER])
    def test_of_what_that_call_does_not_hold_is_fenced(self, record):
        for failed, doubt in itertools.product((False, True), repeat=2):
            assert give_back(record, failed=failed, doubt=doubt) == (Release.FENCED, record)


class TestWhatAlwaysHolds:
    @pytest.mark.parametrize("record", RECORDS)
    @pytest.mark.parametrize("holder_lives", [False, True])
    def test_every_verb_may_be_executed_twice(self, record, holder_lives):
        answer, after = ask(record, holder_lives=holder_lives)
        again, unchanged = ask(after, holder_lives=holder_lives)
        assert unchanged == after
        assert again[1:] == answer[1:]

        _, after = complete(record, session=ME, dead_lettered=False)
        assert complete(after, session=ME, dead_lettered=False)[1] == after
        _, after = give_back(record, failed=True)
        assert give_back(after, failed=True) == (Release.FENCED, after)

    @pytest.mark.parametrize("late", [ask, give_back])
    @pytest.mark.parametrize("record", RECORDS)
    def test_a_copy_of_an_older_call_changes_nothing_after_a_newer_claim(self, late, record):
        asked = {"session": ME, "ownership": OWN, "call": CALL + 1, "fence": FENCE + 1, "alone": False}
        newer, after = claim(record, **asked, holder_lives=False, holder_vanished=True)
        if newer.fence:
            assert late(after)[1] == after

    @pytest.mark.parametrize("record", [DONE, DONE_BY_OTHER])
    def test_done_is_never_left(self, record):
        afterwards = [ask(record)[1], complete(record, session=ME, dead_lettered=True)[1], give_back(record)[1]]
        assert afterwards == [record] * 3

    @pytest.mark.parametrize("record", [FREED, MINE, MINE_OLDER, OTHERS._replace(doubt=True)])
    def test_attempts_and_doubt_are_never_forgotten_but_by_completing(self, record):
        _, claimed = ask(record, holder_lives=False)
        _, freed = give_back(claimed)
        assert freed.attempts >= record.attempts
        assert freed.doubt

    def test_only_grants_have_a_fence(self):
        for record, lives in itertools.product(RECORDS, (False, True)):
            answer, _ = ask(record, holder_lives=lives)
            assert bool(answer.fence) == (answer.grant in (Grant.ACQUIRED, Grant.RECLAIMED))


def numbers_of(script: str) -> dict[str, int]:
    """What stands there as `local A, B = 0, '\\1'`: the constants and their numbers."""
    numbers = {}
    for names, values in re.findall(r"^local ([A-Z_, ]+) = (.+)$", (SCRIPTS / script).read_text(), re.MULTILINE):
        for name, value in zip(names.split(", "), values.split(", "), strict=False):
            number = re.match(r"'?\\?(\d+)", value)
            if number:
                numbers[name] = int(number[1])
    return numbers


class TestTheStoresScripts:
    @pytest.mark.parametrize(
        ("answers", "names"),
        [(Grant, Grant.__members__), (Completion, Completion.__members__), (Release, ["RELEASED", "NOT_HELD"])],
    )
    def test_have_the_same_numbers_for_the_answers(self, answers, names):
        numbers = numbers_of("exchange.lua")
        assert [numbers[name] for name in names] == [int(answer) for answer in answers] == list(range(len(answers)))

    def test_keep_as_much_of_a_session(self):
        assert numbers_of("done_keys.lua")["SHORT_SESSION"] == SHORT_SESSION
