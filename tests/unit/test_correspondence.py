"""The conversation with the store by itself: what is away, when it is repeated, when the lease is renewed."""

import pytest

from kafka_once.core.calls import Exchange, ExchangeReply, FrontierMark, Session
from kafka_once.core.correspondence import Correspondence

SESSION = Session(7, 70)


def joined(now_ms: int = 1_000) -> Correspondence:
    talk = Correspondence(3_000, 500, None, 4)
    talk.on_session(talk.open(now_ms, 70), SESSION)
    return talk


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
        numbers.append(call.call)
        talk.on_exchanged(call, ExchangeReply(session_lives=True))

    assert numbers == sorted(set(numbers))


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

    assert waited[0] > 0
    assert waited[1] == 2 * waited[0]
    assert waited[2] == 4 * waited[0]
    assert waited[-1] == waited[-2] == max(waited)

    talk.on_exchanged(call, ExchangeReply(session_lives=True))
    assert talk.trusted_until_ms == now_ms + 2_500  # counted from the last time that it was sent
    call = renewed(talk, now_ms + 1_000)
    talk.on_silence(now_ms + 1_000)
    assert talk.next_due_ms() == now_ms + 1_000 + waited[0]  # an answer begins anew
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
