"""The rows of the claim table (`kafka_once.core.claims`), as tests of a store: see `store_conformance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.claims import ClaimAnswer, Completion, Grant, Release
from kafka_once.ports import ClaimAsk, CompleteAsk, ReleaseAsk
from kafka_once.testing.store_workers import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka_once.ports import Ownership
    from kafka_once.testing.store_workers import Worker

__all__ = ["ClaimRows"]

KEY = digest("key")


def granted(answer: ClaimAnswer) -> tuple[Grant, int, bool, bool]:
    """An answer without its fence, which every grant must have."""
    assert answer.fence > 0
    return answer[:4]


class ClaimRows:
    """What each verb answers to each record."""

    # ------------------------------------------------------------------------------------------------ absent and freed

    def test_an_absent_key_is_acquired(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        assert granted(one.claim(KEY, one.own())) == (Grant.ACQUIRED, 0, False, False)

    def test_completing_an_absent_key_applies_and_says_that_it_was_forgotten(
        self, worker: Callable[..., Worker]
    ) -> None:
        one = worker()
        own = one.own()
        assert one.complete(KEY) is Completion.FORGOTTEN
        assert one.claim(KEY, own) == ClaimAnswer(Grant.DUPLICATE)

    def test_releasing_an_absent_key_is_fenced(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        assert one.release(KEY, 1, one.own()) is Release.FENCED

    def test_a_key_that_failed_keeps_its_attempts(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        for attempts in range(3):
            assert granted(one.claim(KEY, own)) == (Grant.ACQUIRED, attempts, False, False)
            assert one.release(KEY, one.call, own, failed=True) is Release.APPLIED
        assert granted(other.claim(KEY, others)) == (Grant.ACQUIRED, 3, False, False)

    def test_a_key_that_is_given_back_untouched_leaves_no_trace(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        one.claim(KEY, own)
        assert one.release(KEY, one.call, own) is Release.APPLIED
        assert one.store.survey().claims == 0
        assert granted(other.claim(KEY, others)) == (Grant.ACQUIRED, 0, False, False)

    def test_a_key_that_raised_in_doubt_stays_in_doubt(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        one.claim(KEY, own)
        one.release(KEY, one.call, own, failed=True, doubt=True)
        assert granted(one.claim(KEY, own)) == (Grant.ACQUIRED, 1, True, False)
        one.release(KEY, one.call, own)  # given back untouched: the doubt was not about this run
        assert granted(one.claim(KEY, own)) == (Grant.ACQUIRED, 1, True, False)

    def test_completing_a_freed_key_applies(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        one.claim(KEY, own)
        one.release(KEY, one.call, own, failed=True)
        assert one.complete(KEY) is Completion.APPLIED
        assert one.claim(KEY, own).grant is Grant.DUPLICATE

    def test_releasing_a_freed_key_is_fenced(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        one.claim(KEY, own)
        call = one.call
        one.release(KEY, call, own, failed=True)
        assert one.release(KEY, call, own, failed=True) is Release.FENCED
        assert granted(one.claim(KEY, own)) == (Grant.ACQUIRED, 1, False, False)

    # -------------------------------------------------------------------------------------------- claimed by the caller

    def test_a_repeated_claim_gets_the_same_answer(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        exchange = one.prepare(claims=[ClaimAsk(KEY, one.own().number, 0)])
        assert one.exchange(exchange) == one.exchange(exchange)

    def test_a_newer_call_of_the_same_session_takes_the_claim_over(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        first = one.claim(KEY, own)
        second = one.claim(KEY, one.own())
        assert granted(second) == (Grant.ACQUIRED, 0, False, False)
        assert second.fence > first.fence
        assert one.store.survey().claims == 1

    def test_a_late_copy_of_an_older_claim_is_stale(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        late = one.prepare(claims=[ClaimAsk(KEY, own.number, 0)])
        one.claim(KEY, own)
        newer = one.call
        assert one.exchange(late).claims == [ClaimAnswer(Grant.STALE)]
        assert one.release(KEY, newer, own) is Release.APPLIED

    def test_a_late_copy_of_an_older_release_changes_nothing(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        one.claim(KEY, own)
        late = one.prepare(releases=[ReleaseAsk(KEY, one.session.number, one.call - 1, ownership=own.number)])
        one.claim(KEY, own)
        assert one.exchange(late).releases == [Release.FENCED]
        assert one.store.survey().claims == 1

    def test_a_completion_counts_whatever_the_call(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        one.claim(KEY, own)
        one.claim(KEY, own)
        assert one.complete(KEY) is Completion.APPLIED
        assert one.store.survey().claims == 0

    # --------------------------------------------------------------------------------------------- claimed by another

    def test_a_claim_of_a_living_holder_is_busy_for_everybody(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        one.claim(KEY, own)
        assert other.claim(KEY, others) == ClaimAnswer(Grant.BUSY)
        assert other.complete(KEY) is Completion.FENCED
        assert other.release(KEY, one.call, others) is Release.FENCED
        assert one.complete(KEY) is Completion.APPLIED

    def test_a_newer_epoch_does_not_take_from_a_living_holder(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own = one.own()
        one.claim(KEY, own)
        assert other.claim(KEY, other.own()) == ClaimAnswer(Grant.BUSY)
        assert one.complete(KEY) is Completion.APPLIED

    def test_a_claim_whose_session_is_closed_is_reclaimed_in_doubt(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        one.claim(KEY, own)
        one.leave()
        assert granted(other.claim(KEY, others, 7)) == (Grant.RECLAIMED, 0, True, True)
        (doubt,) = other.store.doubts()
        assert doubt[:7] == (KEY, "topic", 1, 7, 0, own.number, others.number)
        assert doubt.reason == "takeover"

    def test_a_claim_whose_ownership_ended_is_reclaimed_in_doubt(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own = one.own()
        one.claim(KEY, own)
        one.end(own)
        assert one.lives()
        assert granted(other.claim(KEY, other.own())) == (Grant.RECLAIMED, 0, True, True)

    def test_a_holder_that_vanished_with_a_key_that_ran_alone_counts_as_an_attempt(
        self, worker: Callable[..., Worker]
    ) -> None:
        one, other, third = worker(), worker(), worker()
        one.claim(KEY, one.own())
        one.leave()
        assert granted(other.claim(KEY, other.own(), alone=True)) == (Grant.RECLAIMED, 0, True, True)
        other.leave()
        assert granted(third.claim(KEY, third.own())) == (Grant.RECLAIMED, 1, True, True)

    def test_a_holder_that_lives_was_not_killed_by_the_key_that_it_left_behind(
        self, worker: Callable[..., Worker]
    ) -> None:
        one, other, third = worker(), worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        claim = one.prepare(claims=[ClaimAsk(KEY, own.number, 0, alone=True)])
        one.exchange(claim)
        assert one.release(KEY, claim.call, own) is Release.APPLIED
        one.exchange(claim)  # a late copy: its answer finds nobody who waits for it
        one.end(own)
        assert granted(other.claim(KEY, others)) == (Grant.RECLAIMED, 0, True, True)
        other.end(others)
        assert granted(third.claim(KEY, third.own("topic", 2))) == (Grant.RECLAIMED, 0, True, True)

    def test_a_reclaimed_key_is_not_the_earlier_holders_any_more(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own = one.own()
        one.claim(KEY, own)
        call = one.call
        one.end(own)
        other.claim(KEY, other.own("topic", 1))
        assert one.complete(KEY) is Completion.FENCED
        assert one.release(KEY, call, own) is Release.FENCED
        assert one.claim(KEY, one.own()) == ClaimAnswer(Grant.BUSY)

    def test_a_completion_of_a_session_that_is_over_counts_if_nobody_took_the_key(
        self, worker: Callable[..., Worker]
    ) -> None:
        one, other = worker(), worker()
        one.claim(KEY, one.own())
        one.leave()
        assert one.complete(KEY) is Completion.APPLIED
        assert other.claim(KEY, other.own()) == ClaimAnswer(Grant.DUPLICATE)

    def test_a_release_of_a_session_that_is_over_counts_if_nobody_took_the_key(
        self, worker: Callable[..., Worker]
    ) -> None:
        one, other = worker(), worker()
        own = one.own()
        one.claim(KEY, own)
        call = one.call
        one.leave()
        assert one.release(KEY, call, own) is Release.APPLIED
        assert granted(other.claim(KEY, other.own())) == (Grant.ACQUIRED, 0, False, False)

    def test_release_keeps_the_doubt_of_a_takeover(self, worker: Callable[..., Worker]) -> None:
        one, other, third = worker(), worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        one.claim(KEY, own)
        one.leave()
        other.claim(KEY, others)
        other.release(KEY, other.call, others)  # revoked before it started
        assert granted(third.claim(KEY, third.own())) == (Grant.ACQUIRED, 0, True, True)

    def test_a_handler_that_raised_did_not_kill_its_process(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        others = other.own("topic", 1)
        one.claim(KEY, one.own())
        one.leave()
        other.claim(KEY, others)
        other.release(KEY, other.call, others, failed=True)
        assert granted(other.claim(KEY, others)) == (Grant.ACQUIRED, 1, True, False)

    # ------------------------------------------------------------------------------------------------------------ done

    def test_done_is_a_duplicate_for_everybody_and_never_left(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        one.claim(KEY, own)
        call = one.call
        assert one.complete(KEY) is Completion.APPLIED
        assert one.release(KEY, call, own) is Release.FENCED
        for each, its in ((one, own), (other, others)):
            assert each.claim(KEY, its) == ClaimAnswer(Grant.DUPLICATE)

    def test_a_repeated_completion_applies_and_that_of_another_session_is_doubled(
        self, worker: Callable[..., Worker]
    ) -> None:
        one, other = worker(), worker()
        one.claim(KEY, one.own())
        assert [one.complete(KEY), one.complete(KEY)] == [Completion.APPLIED, Completion.APPLIED]
        assert other.complete(KEY) is Completion.DOUBLED
        assert one.store.survey().done == 1

    def test_dead_lettered_is_done_too(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own = one.own()
        one.claim(KEY, own)
        assert one.complete(KEY, dead_lettered=True) is Completion.APPLIED
        assert one.complete(KEY) is Completion.APPLIED
        assert one.claim(KEY, own) == ClaimAnswer(Grant.DUPLICATE)
        assert other.complete(KEY) is Completion.DOUBLED

    def test_keys_that_differ_in_one_bit_do_not_meet(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        for place in range(128):
            key = (1 << place).to_bytes(16, "big")
            assert one.claim(key, own).grant is Grant.ACQUIRED
            assert one.complete(key) is Completion.APPLIED
        assert one.store.survey().done == 128

    # -------------------------------------------------------------------------------------------- what tells them apart

    def test_a_superseded_ownership_gets_no_claim_and_nothing_is_written(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own = one.own()
        newer = other.own()
        assert newer.epoch > own.epoch
        assert one.claim(KEY, own) == ClaimAnswer(Grant.SUPERSEDED)
        assert granted(other.claim(KEY, newer)) == (Grant.ACQUIRED, 0, False, False)
        assert one.own().epoch > newer.epoch

    def test_an_ownership_of_another_session_or_none_is_gone(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        assert one.claim(KEY, others) == ClaimAnswer(Grant.GONE)
        assert one.claim(KEY, own._replace(number=own.number + 10**6)) == ClaimAnswer(Grant.GONE)
        assert one.claim(KEY, own).grant is Grant.ACQUIRED
        assert other.claim(KEY, others) == ClaimAnswer(Grant.BUSY)

    def test_fences_of_a_key_only_grow(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        mine: list[tuple[Worker, Ownership]] = [(one, one.own()), (other, other.own("topic", 1))]
        fences = []
        for each, own in mine * 5:
            fences.append(each.claim(KEY, own).fence)
            each.release(KEY, each.call, own)
        assert fences == sorted(set(fences))
        assert max(fences) < 2**53

    def test_a_batch_is_answered_in_its_order(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        taken, done, free = digest("taken"), digest("done"), digest("free")
        other.claim(taken, others)
        one.claim(done, own)
        reply = one.exchange(
            completes=[CompleteAsk(done, one.session.number), CompleteAsk(taken, one.session.number)],
            claims=[ClaimAsk(key, own.number, at) for at, key in enumerate((taken, done, free))],
        )
        assert reply.completes == [Completion.APPLIED, Completion.FENCED]
        assert [answer.grant for answer in reply.claims] == [Grant.BUSY, Grant.DUPLICATE, Grant.ACQUIRED]
