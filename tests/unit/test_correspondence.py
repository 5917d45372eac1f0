"""The conversation with the store by itself: what is away, when it is repeated, when the lease is renewed."""

from collections.abc import Callable

import pytest

from kafka_once.core.calls import (
    ClaimAsk,
    CompleteAsk,
    Exchange,
    ExchangeReply,
    FrontierMark,
    Ownership,
    ReleaseAsk,
    Session,
)
from kafka_once.core.claims import ClaimAnswer, Grant
from kafka_once.core.correspondence import Correspondence, GiveBack
from kafka_once.core.delivery import Delivery, Event
from kafka_once.core.order import Order
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition
from kafka_once.core.rules import TakeOwnerships
from kafka_once.message import Message
from tests.unit.bench import ROW

SESSION = Session(7, 70)
OWNERSHIP = Ownership(11, 1, None, -1)


def joined(now_ms: int = 1_000, depth: int = 4) -> Correspondence:
    talk = Correspondence(3_000, 500, None, depth)
    talk.on_session(talk.open(now_ms, 70), SESSION)
    return talk


def delivered(digest: bytes, offset: int = 0, ownership: Ownership | None = OWNERSHIP) -> Delivery:
    """Of a slow handler: a group is one message."""
    partition = Partition(ROW[0], Pace(2.0, 500), Order.PARTITION)
    partition.ownership = ownership
    message = Message("t", 0, offset)
    return Delivery(message, partition.lane_of(message), digest)


def running(digest: bytes) -> Delivery:
    delivery = delivered(digest)
    for event in (Event.CLAIM, Event.GRANTED, Event.BEGIN):
        delivery.step(event)
    return delivery


def renewed(talk: Correspondence, now_ms: int) -> Exchange:
    call = talk.exchange(now_ms, [])
    assert isinstance(call, Exchange)
    return call


def test_trust_lasts_for_a_lease_less_the_margin_from_before_the_call_was_sent() -> None:
    talk = joined()

    assert talk.trusted_until_ms == 3_500
    assert talk.trusted(3_499)
    assert not talk.trusted(3_500)


def test_a_lease_is_renewed_every_third_of_it() -> None:
    talk = joined()
    assert talk.next_due_ms() == 2_000
    assert talk.exchange(1_999, []) is None

    call = renewed(talk, 2_000)
    assert talk.pending()
    assert talk.next_due_ms() is None  # it is away
    talk.on_exchanged(call, ExchangeReply(session_lives=True))

    assert not talk.pending()
    assert (talk.next_due_ms(), talk.trusted_until_ms) == (3_000, 4_500)


def test_each_call_has_a_number_of_its_own() -> None:
    talk = joined()
    numbers = []
    for now_ms in (2_000, 3_000, 4_000):
        call = renewed(talk, now_ms)
        take = talk.take(now_ms, [])
        assert isinstance(take, TakeOwnerships)
        numbers += [call.call, take.call]

    assert numbers == sorted(set(numbers))


def test_what_is_renewed_while_the_answer_is_awaited_is_not_renewed_again() -> None:
    talk = joined()
    renewed(talk, 2_000)

    assert talk.open_to_more()
    assert talk.exchange(2_999, []) is None
    assert talk.exchange(3_000, []) is not None


# ------------------------------------------------------------------------------------------- how many are away at once


@pytest.mark.parametrize(("depth", "most"), [(1, 1), (2, 2), (4, 2)])
def test_two_calls_are_away_at_most_and_no_more_than_the_store_takes(depth: int, most: int) -> None:
    talk = joined(depth=depth)
    away = 0
    while talk.open_to_more() and away < 9:
        talk.take(1_000, [])
        away += 1

    assert away == most


def test_what_a_slow_handler_waits_for_leaves_beside_them_and_nothing_else_with_it() -> None:
    talk = joined()
    renewed(talk, 2_000)
    renewed(talk, 3_000)
    assert not talk.open_to_more()

    talk.complete([delivered(b"a")])
    assert talk.open_to_more()
    assert len(renewed(talk, 3_000).completes) == 1
    assert not talk.open_to_more()


def test_beside_a_call_that_is_not_answered_none_leaves() -> None:
    talk = joined()
    renewed(talk, 2_000)
    talk.on_silence(2_100)
    assert not talk.open_to_more()

    assert talk.repeat(9_000)
    assert talk.open_to_more()


def test_while_a_claim_is_said_again_nothing_leaves_beside_it_however_urgent() -> None:
    talk = joined()
    renewed(talk, 2_000)
    talk.reminder.hold([running(b"a")])
    call = renewed(talk, 2_001)
    assert call.claims == [ClaimAsk(b"a", 11, 0, held=True)]
    talk.complete([delivered(b"b")])
    assert not talk.open_to_more()

    talk.on_exchanged(call, ExchangeReply(session_lives=True, claims=[ClaimAnswer(Grant.ACQUIRED)]))
    assert talk.open_to_more()


# ----------------------------------------------------------------------------------------------------- what is repeated


def test_what_is_not_answered_goes_out_again_ever_more_rarely() -> None:
    talk = joined()
    call = renewed(talk, 2_000)
    assert talk.repeat(9_000) == []  # nobody has said that it will not be answered
    waited, now_ms = [], 2_000
    for _ in range(12):
        talk.on_silence(now_ms)
        assert talk.silent
        due_ms = talk.next_due_ms()
        assert due_ms is not None
        waited.append(due_ms - now_ms)
        assert talk.repeat(due_ms - 1) == []
        assert talk.repeat(due_ms) == [call]
        assert not talk.silent
        now_ms = due_ms

    assert waited == [50, 100, 200, 400, 800, 1_600, *[2_000] * 6]

    talk.on_exchanged(call, ExchangeReply(session_lives=True))
    assert talk.trusted_until_ms == now_ms + 2_500  # counted from the last time that it was sent
    call = renewed(talk, now_ms + 1_000)
    talk.on_silence(now_ms + 1_000)
    assert talk.next_due_ms() == now_ms + 1_050  # an answer begins anew
    talk.on_exchanged(call, ExchangeReply(session_lives=True))
    assert not talk.silent


def test_a_session_that_is_over_is_not_trusted_and_is_named_to_the_next() -> None:
    talk = joined()
    answers = talk.on_exchanged(renewed(talk, 2_000), ExchangeReply(session_lives=False))

    assert answers is not None
    assert answers.lapsed
    assert (talk.session, talk.trusted(1), talk.next_due_ms()) == (None, False, None)
    assert talk.open(2_001, 71).previous == 7  # type: ignore[union-attr]


@pytest.mark.parametrize(("first", "second", "sent"), [(True, False, True), (False, True, True), (False, False, False)])
def test_a_mark_that_takes_the_frontier_back_is_not_lost_to_a_later_one(first: bool, second: bool, sent: bool) -> None:
    talk = joined()
    talk.mark(FrontierMark(1, 10, None, back=first))
    talk.mark(FrontierMark(1, 12, None, back=second))

    assert renewed(talk, 1_100).frontiers == [FrontierMark(1, 12, None, back=sent)]


def reminded(talk: Correspondence) -> None:
    talk.reminder.meet("one")
    talk.reminder.keep(1_000, Exchange(SESSION, 1, completes=[CompleteAsk(b"a", 7)]))
    talk.reminder.meet("two")


@pytest.mark.parametrize(
    "say",
    [
        lambda talk: talk.complete([delivered(b"a")]),
        lambda talk: talk.give_back(GiveBack(delivered(b"a"))),
        lambda talk: talk.end(3),
        reminded,
    ],
)
def test_what_is_unsaid_is_pending(say: Callable[[Correspondence], None]) -> None:
    talk = joined()
    assert not talk.pending()
    say(talk)
    assert talk.pending()


def test_an_ownership_that_is_to_end_is_unsaid_until_it_is_answered() -> None:
    talk = joined()
    assert not talk.pending()
    talk.end(3)
    assert talk.pending()
    call = renewed(talk, 1_100)
    assert call.ends == [3]
    assert talk.pending()
    talk.on_exchanged(call, ExchangeReply(session_lives=True))
    assert not talk.pending()


# --------------------------------------------------------------------------------------------------------- what is said


def test_of_a_group_of_claims_each_follows_the_one_before_it() -> None:
    talk = joined()
    groups = [[delivered(b"a", 5), delivered(b"b", 6), delivered(b"c", 7)], [delivered(b"d", 1)]]
    groups[1][0].alone = True
    call = talk.exchange(1_100, groups)

    assert isinstance(call, Exchange)
    assert call.claims == [
        ClaimAsk(b"a", 11, 5, follows=False, alone=False, held=False),
        ClaimAsk(b"b", 11, 6, follows=True, alone=False, held=False),
        ClaimAsk(b"c", 11, 7, follows=True, alone=False, held=False),
        ClaimAsk(b"d", 11, 1, follows=False, alone=True, held=False),
    ]


@pytest.mark.parametrize(("reason", "dead_lettered"), [("", False), ("attempts exhausted (5)", True)])
def test_a_completion_says_whether_it_is_that_of_a_dead_letter(reason: str, dead_lettered: bool) -> None:
    talk = joined()
    delivery = delivered(b"a")
    delivery.session, delivery.reason = 6, reason
    talk.complete([delivery])

    assert renewed(talk, 1_100).completes == [CompleteAsk(b"a", 6, dead_lettered=dead_lettered)]


@pytest.mark.parametrize(("ownership", "number"), [(OWNERSHIP, 11), (None, 0)])
def test_a_release_names_the_grant_and_where_it_was(ownership: Ownership | None, number: int) -> None:
    talk = joined()
    delivery = delivered(b"a", 5, ownership)
    delivery.session, delivery.call = 6, 3
    talk.give_back(GiveBack(delivery, failed=True))
    talk.give_back(GiveBack(delivery, doubt=True))

    assert renewed(talk, 1_100).releases == [
        ReleaseAsk(b"a", 6, 3, failed=True, doubt=False, ownership=number, offset=5),
        ReleaseAsk(b"a", 6, 3, failed=False, doubt=True, ownership=number, offset=5),
    ]
