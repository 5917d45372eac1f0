"""What every store must do, as tests that any implementation can run.

Derive a test class from `StoreConformance` and give it a fixture `open_store` (see `StoreOpener`):

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def open_store(self):
            return lambda namespace, *, lease_ms, remember_ms: MyStore(…)

Every test works in a namespace of its own.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import pytest

from kafka_once.core.claims import ClaimAnswer, Completion, Grant, Release
from kafka_once.message import TopicPartition
from kafka_once.ports import ClaimAsk, CompleteAsk, FrontierMark, Namespace, OwnershipAsk, ReleaseAsk
from kafka_once.testing.store_claim_rows import ClaimRows
from kafka_once.testing.store_workers import StoreOpener, Worker, definite, digest, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kafka_once.ports import Store

__all__ = ["StoreConformance"]

KEY = digest("key")
LONG_MS, SHORT_MS = 60_000, 150


class StoreConformance(ClaimRows):
    """The suite."""

    @pytest.fixture
    def namespace(self) -> Namespace:
        """One that nobody used before."""
        return Namespace("cluster", f"group-{secrets.token_hex(8)}")

    @pytest.fixture
    def store(self, open_store: StoreOpener, namespace: Namespace) -> Iterator[Callable[..., Store]]:
        """Open stores of the namespace; they are closed after the test."""
        opened: list[Store] = []

        def make(lease_ms: int = LONG_MS, remember_ms: int = LONG_MS) -> Store:
            opened.append(open_store(namespace, lease_ms=lease_ms, remember_ms=remember_ms))
            return opened[-1]

        yield make
        for one in opened:
            one.close()

    @pytest.fixture
    def worker(self, store: Callable[..., Store]) -> Callable[..., Worker]:
        """Start workers, each with a store of its own."""

        def make(instance: str | None = None, previous: int | None = None, lease_ms: int = LONG_MS) -> Worker:
            return Worker(store(lease_ms), instance, previous)

        return make

    # -------------------------------------------------------------------------------------------------------- sessions

    def test_a_session_is_opened_once_for_a_token(self, store: Callable[..., Store]) -> None:
        one = store()
        session = one.open_session(1)
        assert one.open_session(1) == session
        assert one.open_session(2).number > session.number
        assert one.survey().sessions == 2

    def test_a_closed_session_is_over_and_closing_it_again_is_no_error(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own = one.own()
        one.leave()
        one.leave()
        reply = one.exchange(claims=[ClaimAsk(KEY, own.number, 0)])
        assert not reply.session_lives
        assert reply.claims == [ClaimAnswer(Grant.GONE)]
        assert one.store.take_ownerships(one.session, 99, [OwnershipAsk("topic", 0)]) is None
        assert one.store.open_session(one.session.token) == one.session
        assert not one.lives()
        assert granted_free(other)

    def test_another_token_neither_renews_nor_closes(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        true_session = one.session
        one.session = true_session._replace(token=true_session.token + 1)
        assert not one.lives()
        one.leave()
        one.session = true_session
        assert one.lives()

    def test_a_session_lapses_and_renewing_does_not_bring_it_back(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(lease_ms=SHORT_MS), worker()
        one.claim(KEY, one.own())
        others = other.own("topic", 1)
        until(lambda: other.claim(KEY, others).grant is Grant.RECLAIMED, "the lease lapses")
        assert not one.lives()
        assert one.claim(KEY, others) == ClaimAnswer(Grant.GONE)
        assert one.complete(KEY) is Completion.FENCED

    def test_every_exchange_renews(self, worker: Callable[..., Worker]) -> None:
        lease_s = 0.4
        one = worker(lease_ms=int(lease_s * 1000))
        begin = renewed = time.monotonic()
        while renewed < begin + 2.5 * lease_s:
            asked = time.monotonic()
            lives = one.lives()
            late = time.monotonic() - renewed > lease_s  # a machine that stalled: nothing can be said
            assert lives or late
            if late:
                pytest.skip("this machine is too slow for a short lease")
            renewed = asked

    def test_the_same_static_instance_replaces_its_own_session_at_once(self, worker: Callable[..., Worker]) -> None:
        old = worker("pod-1")
        bystander = worker("pod-2")
        old.claim(KEY, old.own())
        new = worker("pod-1")
        assert not old.lives()
        assert bystander.lives()
        assert new.claim(KEY, new.own()).grant is Grant.RECLAIMED

    def test_a_process_that_wakes_up_late_does_not_end_the_session_that_replaced_it(
        self, worker: Callable[..., Worker]
    ) -> None:
        old = worker("pod-1")
        new = worker("pod-1")
        woken = worker("pod-1", previous=old.session.number)
        assert new.lives()
        assert woken.lives()
        again = worker("pod-1", previous=new.session.number)
        assert not new.lives()
        assert again.lives()

    # ------------------------------------------------------------------------------------------------------ ownerships

    def test_each_taking_has_a_higher_epoch_and_a_number_of_its_own(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        taken = [one.own(), other.own(), one.own(), one.own()]
        assert [own.epoch for own in taken] == [1, 2, 3, 4]
        assert len({own.number for own in taken}) == 4
        assert one.own("topic", 1).epoch == 1
        assert one.own("other", 0).epoch == 1

    def test_a_taking_is_repeatable_by_its_call_number(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        asks = [OwnershipAsk("topic", 0), OwnershipAsk("topic", 1)]
        taken = one.store.take_ownerships(one.session, 5, asks)
        assert taken is not None
        assert one.store.take_ownerships(one.session, 5, asks) == taken
        newer = other.own()
        for call in (5, 4):  # repeated late, and a late copy of an older call
            late = one.store.take_ownerships(one.session, call, asks)
            assert late is not None
            assert [own[:2] for own in late] == [own[:2] for own in taken]
        assert other.claim(KEY, newer).grant is Grant.ACQUIRED

    def test_a_topic_made_anew_is_another_topic(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        old = one.own("topic", 0, "id-1")
        one.claim(KEY, old, 40)
        one.mark(old, 41)
        new = one.own("topic", 0, "id-2")
        assert (new.epoch, new.frontier, new.claimed_up_to) == (1, None, -1)
        assert one.claim(digest("other"), old).grant is Grant.ACQUIRED
        assert one.own("id-1", 0).epoch == 1

    def test_an_earlier_topic_of_that_name_is_told_also_when_the_call_is_repeated(
        self, worker: Callable[..., Worker]
    ) -> None:
        one, other = worker(), worker()
        assert not one.own("topic", 0).earlier_topic
        assert not one.own("topic", 0, "id-1").earlier_topic
        asks = [OwnershipAsk("topic", 0, "id-2"), OwnershipAsk("topic", 1, "id-2")]
        for _ in range(2):
            taken = one.store.take_ownerships(one.session, 9, asks)
            assert taken is not None
            assert [own.earlier_topic for own in taken] == [True, False]
        assert other.own("topic", 0, "id-2").earlier_topic

    def test_the_highest_claimed_offset_is_kept_for_the_next_owner(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own = one.own()
        assert own.claimed_up_to == -1
        one.claim(KEY, own, 12)
        one.claim(digest("earlier"), own, 3)
        newer = other.own()
        assert newer.claimed_up_to == 12
        one.claim(digest("zombie"), own, 50)
        assert one.own().claimed_up_to == 12

    # ------------------------------------------------------------------------------------------- lanes, order, repeats

    def test_in_a_lane_only_a_prefix_is_claimed(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        done, taken, free, elsewhere = (digest(name) for name in ("done", "taken", "free", "elsewhere"))
        one.complete(done)
        other.claim(taken, others)
        lane = [(free, False), (done, True), (taken, True), (digest("behind"), True), (elsewhere, False)]
        asks = [ClaimAsk(key, own.number, at, follows) for at, (key, follows) in enumerate(lane)]
        grants = [answer.grant for answer in one.exchange(claims=asks).claims]
        assert grants == [Grant.ACQUIRED, Grant.DUPLICATE, Grant.BUSY, Grant.SKIPPED, Grant.ACQUIRED]
        assert other.claim(digest("behind"), others).grant is Grant.ACQUIRED

    def test_an_exchange_works_in_its_order(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own, ending = one.own(), one.own("topic", 1)
        finished, given_back = digest("finished"), digest("given back")
        reply = one.exchange(claims=[ClaimAsk(key, own.number, 0) for key in (finished, given_back)])
        assert {answer.grant for answer in reply.claims} == {Grant.ACQUIRED}
        number, call = one.session.number, one.call
        exchange = one.prepare(
            completes=[CompleteAsk(finished, number)],
            releases=[ReleaseAsk(given_back, number, call, failed=True), ReleaseAsk(finished, number, call)],
            frontiers=[FrontierMark(own.number, 5), FrontierMark(ending.number, 9, 2)],
            ends=[ending.number],
            claims=[
                ClaimAsk(finished, own.number, 5),
                ClaimAsk(given_back, own.number, 6),
                ClaimAsk(digest("late"), ending.number, 7),
            ],
        )
        first = one.exchange(exchange)
        assert first.completes == [Completion.APPLIED]
        assert first.releases == [Release.APPLIED, Release.FENCED]
        grants = [(answer.grant, answer.attempts) for answer in first.claims]
        assert grants == [(Grant.DUPLICATE, 0), (Grant.ACQUIRED, 1), (Grant.GONE, 0)]
        again = one.exchange(exchange)  # the claim of this call stands where the released one was
        assert (again.completes, again.claims) == (first.completes, first.claims)
        assert one.own("topic", 1).frontier == (9, 2)
        assert one.store.survey().claims == 1

    def test_a_repeated_takeover_says_the_doubt_again_and_lists_it_once(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        one.claim(KEY, one.own(), alone=True)
        one.leave()
        exchange = other.prepare(claims=[ClaimAsk(KEY, other.own().number, 0)])
        (first,), (again,) = other.exchange(exchange).claims, other.exchange(exchange).claims
        assert first.grant is Grant.RECLAIMED
        assert again.grant in (Grant.RECLAIMED, Grant.ACQUIRED)
        assert again[1:] == first[1:]
        assert first[1:4] == (1, True, True)
        assert len(other.store.doubts()) == other.store.survey().doubts == 1

    def test_a_repeated_release_in_doubt_is_listed_once(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        one.claim(KEY, own, 3)
        ask = ReleaseAsk(KEY, one.session.number, one.call, failed=True, doubt=True, ownership=own.number, offset=3)
        exchange = one.prepare(releases=[ask])
        assert one.exchange(exchange).releases == [Release.APPLIED]
        assert one.exchange(exchange).releases == [Release.FENCED]
        (doubt,) = one.store.doubts()
        assert doubt[:7] == (KEY, "topic", 0, 3, 1, own.number, own.number)
        assert doubt.reason == "raised"

    def test_a_large_batch(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        keys = [secrets.token_bytes(16) for _ in range(3000)]
        asks = [ClaimAsk(key, own.number, at) for at, key in enumerate(keys)]
        assert {answer.grant for answer in one.exchange(claims=asks).claims} == {Grant.ACQUIRED}
        completes = [CompleteAsk(key, one.session.number) for key in keys]
        reply = one.exchange(completes=completes, claims=asks)
        assert set(reply.completes) == {Completion.APPLIED}
        assert {answer.grant for answer in reply.claims} == {Grant.DUPLICATE}
        survey = one.store.survey()
        assert (survey.claims, survey.done) == (0, 3000)

    # ------------------------------------------------------------------------------------------------------- frontiers

    def test_a_frontier_is_kept_and_never_goes_back(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        own = one.own()
        assert own.frontier is None
        for offset, leader_epoch in ((5, None), (9, 3), (9, 4), (2, 5)):
            one.mark(own, offset, leader_epoch)
        assert one.own().frontier == (9, 3)
        assert one.store.survey().frontiers == {TopicPartition("topic", 0): 9}

    def test_only_the_newest_ownership_moves_the_frontier(self, worker: Callable[..., Worker]) -> None:
        one, other, third = worker(), worker(), worker()
        own = one.own()
        newer = other.own()
        one.mark(own, 100)
        other.mark(newer, 7)
        other.end(newer)
        other.mark(newer, 50)
        other.leave()
        other.mark(newer, 60)
        assert third.own().frontier == (7, None)

    def test_an_operators_reset_takes_the_frontier_back_once(self, worker: Callable[..., Worker]) -> None:
        """Behind what earlier ownerships stored, never behind its own: a late copy of the call changes nothing."""
        one = worker()
        one.mark(one.own(), 9, 3)
        own = one.own()
        one.mark(own, 4, 2, back=True)
        assert one.own().frontier == (4, 2)
        newest = one.own()
        one.mark(newest, 2, back=True)
        one.mark(newest, 6)
        one.mark(newest, 2, back=True)
        assert one.own().frontier == (6, None)
        one.mark(own, 0, back=True)  # by an older ownership
        assert one.own().frontier == (6, None)

    # ------------------------------------------------------------------------------------------------------ for people

    def test_the_namespace_is_new_for_the_store_that_made_it(self, store: Callable[..., Store]) -> None:
        one, other = store(), store()
        one.open_session(1)
        assert one.is_new()
        assert not other.is_new()

    def test_check_works_beside_other_workers(self, worker: Callable[..., Worker]) -> None:
        one = worker()
        one.claim(KEY, one.own())
        assert all(isinstance(warning, str) for warning in one.store.check())
        assert one.store.survey().claims == 1

    def test_the_survey_adds_up_the_sessions(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        one.store.report(one.session, {"deliveries": 5, "busy": 1})
        one.store.report(one.session, {"deliveries": 6, "busy": 1})
        other.store.report(other.session, {"deliveries": 2})
        one.leave()
        survey = one.store.survey()
        assert survey.counters == {"deliveries": 8, "busy": 1}
        assert survey.sessions == 1

    def test_doubts_come_newest_first_and_up_to_the_limit(self, worker: Callable[..., Worker]) -> None:
        one, other = worker(), worker()
        own, others = one.own(), other.own("topic", 1)
        for at in range(3):
            one.claim(digest(str(at)), own)
        one.leave()
        for at in range(3):
            other.claim(digest(str(at)), others, at)
            begin = time.time_ns() // 1_000_000
            until(lambda begin=begin: time.time_ns() // 1_000_000 > begin, "a millisecond passes")  # type: ignore[misc]
        assert [doubt.offset for doubt in other.store.doubts()] == [2, 1, 0]
        assert [doubt.offset for doubt in other.store.doubts(limit=1)] == [2]
        assert other.store.doubts(limit=0) == []

    def test_two_groups_do_not_meet(self, worker: Callable[..., Worker], open_store: StoreOpener) -> None:
        one = worker()
        one.claim(KEY, one.own())
        one.complete(KEY)
        for namespace in (Namespace("cluster", "a"), Namespace("cluste", "ra"), Namespace("cluster", "{a}b")):
            named = namespace._replace(group=namespace.group + secrets.token_hex(8))
            stranger = Worker(open_store(named, lease_ms=LONG_MS, remember_ms=LONG_MS))
            assert granted_free(stranger)
            stranger.store.close()

    def test_what_is_done_is_remembered_and_forgotten_later(self, store: Callable[..., Store]) -> None:
        remember_ms = 1000
        one = Worker(store(LONG_MS, remember_ms))
        own = one.own()
        one.claim(KEY, own)
        begin = time.monotonic()
        one.complete(KEY)
        answer = definite(lambda: one.claim(KEY, own))
        if time.monotonic() - begin < remember_ms / 1000:
            assert answer.grant is Grant.DUPLICATE
        until(lambda: one.claim(KEY, own).grant is Grant.ACQUIRED, "it is forgotten")
        assert time.monotonic() - begin >= (remember_ms - 2) / 1000  # clocks are read in whole milliseconds


def granted_free(worker: Worker) -> bool:
    """Whether a key that nobody has there is granted."""
    return worker.claim(KEY, worker.own()).grant is Grant.ACQUIRED
