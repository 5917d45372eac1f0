"""Wrong protocols, each one small change to the real one. The checkers must find every one of them (test_variants.py).

A variant is made of patches, undone when its `with` block ends. Those that once were in the code say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from kafka_once.core import claims, commits, order
from kafka_once.core.calls import CommitMark, Exchange, ExchangeReply, Session
from kafka_once.core.claiming import Claiming
from kafka_once.core.claims import ClaimAnswer, Claimed, Completion, Freed, Grant, Record, Release
from kafka_once.core.correspondence import Correspondence
from kafka_once.core.delivery import Delivery, Event, Phase, step_all
from kafka_once.core.desk import Desk
from kafka_once.core.engine import Engine
from kafka_once.core.events import Outcome
from kafka_once.core.handling import Handling
from kafka_once.core.lane import KeysInFlight, Lane
from kafka_once.core.lanes import Lanes
from kafka_once.core.order import Order
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.semantics import Semantics
from kafka_once.core.suspects import Suspects
from kafka_once.core.watch import Watch
from kafka_once.stores.memory import MemoryStore
from tests.simulation import wrong_engines as engines
from tests.simulation import wrong_stores as stores
from tests.simulation.campaign import Played, first_caught, play
from tests.simulation.plan import plan_of

__all__ = ["VARIANTS", "Variant", "row_of"]


@dataclass(frozen=True, slots=True)
class Variant:
    """`patch` makes it, `within` so many seeds of plans with these semantics it is to be caught.

    `first`: the seed to begin with. What is rare begins near the one that a search from 1 found.
    """

    patch: Callable[[], AbstractContextManager[Any]]
    within: int
    semantics: tuple[Semantics, bool] = (Semantics.EFFECTIVELY_ONCE, True)
    first: int = 1

    @property
    def name(self) -> str:
        return self.patch.__name__

    def caught(self) -> Played | None:
        """The first schedule in which a checker says so. One that the right protocol fails too shows nothing; and an
        exception is no checker: who runs into one is wrong in another way than it says."""
        seed, end = self.first, self.first + self.within
        while seed < end:
            with self.patch():
                played = first_caught(range(seed, end), self.semantics)
            if played is None:
                return None
            raised = any(violation.startswith("exception:") for violation in played.violations)
            if not raised and not play(plan_of(played.seed, self.semantics)).violations:
                return played
            seed = played.seed + 1
        return None


def row_of(variant: Variant, played: Played | None) -> str:
    """What is wrong with it, which checker says so, with which seed: that many schedules, where the first is 1."""
    wrong = " ".join((variant.patch.__doc__ or "").split())
    if played is None:
        return f"| {variant.name} | {wrong} | **escaped** | {variant.within} |"
    return f"| {variant.name} | {wrong} | {played.violations[0].partition(':')[0]} | {played.seed} |"


# ------------------------------------------------------------------------------------------------------- what settles


def settle_on_busy() -> Any:
    """A living holder's key is taken for done."""
    refused = Claiming._on_refused

    def wrong(self: Claiming, delivery: Delivery, grant: Grant) -> None:
        if grant is Grant.BUSY:
            self._on_duplicates([delivery])
        else:
            refused(self, delivery, grant)

    return patch.object(Claiming, "_on_refused", wrong)


def settle_on_fenced() -> Any:
    """Another holder has the key, and the message is passed by all the same."""
    completion = Claiming._on_completion

    def wrong(self: Claiming, delivery: Delivery, answer: Completion) -> None:
        completion(self, delivery, Completion.APPLIED if answer is Completion.FENCED else answer)

    return patch.object(Claiming, "_on_completion", wrong)


def settle_when_sent() -> Any:
    """The offset does not wait for the store's answer to the completion (hole 10)."""
    complete = Desk.complete

    def wrong(self: Desk, deliveries: list[Delivery]) -> None:
        complete(self, deliveries)
        deliveries[0].partition.frontier.settle_all([delivery.offset for delivery in deliveries])

    def settle(self: Desk, deliveries: list[Delivery], outcome: Outcome) -> None:
        frontier = deliveries[0].partition.frontier
        offsets = [delivery.offset for delivery in deliveries]
        frontier.settle_all([o for o in offsets if o in frontier._open and o not in frontier._settled])
        self.over(deliveries, outcome)

    return patch.multiple(Desk, complete=wrong, settle=settle)


def silence_is_a_duplicate() -> Any:
    """No answer to a claim is taken for "done"."""
    silence = Engine.on_silence

    def wrong(self: Engine, error: BaseException) -> None:
        sent = next((sent for sent in self._desk.conversation._sent if sent.claims), None)
        if sent is None or not isinstance(sent.call, Exchange):
            silence(self, error)
            return
        call = sent.call
        applied = [Completion.APPLIED] * len(call.completes), [Release.APPLIED] * len(call.releases)
        self.on_exchanged(call, ExchangeReply(True, *applied, [ClaimAnswer(Grant.DUPLICATE)] * len(call.claims)))

    return patch.object(Engine, "on_silence", wrong)


def commit_what_was_delivered() -> Any:
    """The highest offset is committed instead of the frontier."""

    def wrong(partition: Partition, mark_name: str) -> CommitMark | None:
        offset = partition.frontier.position
        if partition.tenure is Tenure.GONE or offset is None or offset <= (partition.committed or 0):
            return None
        return CommitMark(partition.name, offset, None, f"{mark_name}::1:{offset}")

    return patch.object(commits, "_mark", wrong)


# ----------------------------------------------------------------------------------------------- who may run, and when


def lost_partitions_drop_completions() -> Any:
    """What ended after its partition was lost is not completed (hole 1)."""
    returned = Handling._on_returned

    def wrong(self: Handling, deliveries: list[Delivery]) -> None:
        gone = bool(deliveries) and deliveries[0].partition.tenure is Tenure.GONE
        if not gone or self._unclaimed(deliveries[0]):
            returned(self, deliveries)
            return
        self._desk.counters.add("processings", len(deliveries))
        step_all(deliveries, Event.FINISH)
        step_all(deliveries, Event.WRITTEN)
        self._desk.lanes.free_keys(deliveries)
        self._desk.ran(deliveries)
        self._desk.over(deliveries, Outcome.DROPPED)

    return patch.object(Handling, "_on_returned", wrong)


def keys_in_flight_per_lane() -> Any:
    """A key that is in flight elsewhere in the process does not make its next delivery wait (hole 2)."""

    def remove(self: KeysInFlight, digests: list[bytes]) -> list[Lane]:
        return [lane for digest in digests for lane in self._lanes.pop(digest, [])]

    return patch.multiple(KeysInFlight, __contains__=lambda _self, _digest: False, remove=remove)


def run_again_on_fenced() -> Any:
    """A finished handler whose completion was fenced starts over (hole 13)."""

    @contextmanager
    def both() -> Iterator[None]:
        with engines.finished_may_wait(), patch.object(Claiming, "_on_fenced", engines.starts_over):
            yield

    return both()


def trust_is_ignored() -> Any:
    """A session is trusted until the store says that it is over (hole 14)."""
    return patch.multiple(
        Correspondence,
        trusted=lambda self, _now_ms: self.session is not None,
        trusted_until_ms=property(lambda _self: 10**15, lambda _self, _told: None),
        create=True,
    )


def ownerships_end_under_handlers() -> Any:
    """An ownership ends with the partition, although its handlers run (hole 11)."""

    def wrong(self: Desk, partition: Partition) -> None:
        if partition.held or self.talk is None:
            return
        for number in partition.ownerships:
            self.talk.end(number)
        partition.ownerships.clear()

    return patch.object(Desk, "end_ownerships", wrong)


def commit_without_waiting() -> Any:
    """At most once: the handler starts before its commit is answered."""
    settle_first = Engine._settle_first

    def wrong(self: Engine, partition: Partition, deliveries: list[Delivery]) -> None:
        settle_first(self, partition, deliveries)
        starting = [delivery for _, waiting in partition.awaiting for delivery in waiting]
        partition.awaiting.clear()
        if starting:
            self._desk.start(starting)

    return patch.object(Engine, "_settle_first", wrong)


def doubled_done_runs() -> Any:
    """At most once: done by another session is taken for ours. Was in the code."""
    completion = Claiming._on_completion

    def wrong(self: Claiming, delivery: Delivery, answer: Completion) -> None:
        recording = delivery.phase is Phase.RECORDING and answer is Completion.DOUBLED
        completion(self, delivery, Completion.APPLIED if recording else answer)

    return patch.object(Claiming, "_on_completion", wrong)


def suspects_wait_for_an_empty_lane() -> Any:
    """Two suspects of one lane wait for each other. Was in the code."""
    init = Suspects.__init__

    def wrong(self: Suspects, *, exclusive: bool) -> None:  # noqa: ARG001
        init(self, exclusive=True)

    return patch.object(Suspects, "__init__", wrong)


def suspects_overtake() -> Any:
    """A suspect is held behind one that starts, and runs before it when that one raised. Was in the code."""
    starts = Claiming._starts

    def wrong(self: Claiming, delivery: Delivery, *, first: bool) -> bool:  # noqa: ARG001
        return starts(self, delivery, first=True)

    return patch.object(Claiming, "_starts", wrong)


def lost_before_the_run_keeps_its_place() -> Any:
    """At most once: a lane whose partition was lost before the run stays open. Was in the code."""

    def wrong(self: Desk, delivery: Delivery) -> None:
        self.leave(delivery, Outcome.SKIPPED)

    return patch.object(Desk, "leave_unrun", wrong)


# ---------------------------------------------------------------------------------------------------------- the order


def record_keys_are_no_lanes() -> Any:
    """Messages of one record key run beside each other."""
    return patch.dict(order._NAMERS, {Order.KEY: lambda message: message.offset})


def lanes_are_dropped_while_they_run() -> Any:
    """A lane is forgotten when nothing waits in it, although something runs: the next message gets a lane beside it."""
    opened = Lanes._opened

    def wrong(self: Lanes, lane: Lane, count: int) -> None:
        opened(self, lane, count)
        if not lane.waiting:
            lane.partition.lanes.pop(lane.name, None)

    def drop(self: Partition, lane: Lane) -> None:
        if self.lanes.get(lane.name) is lane:
            del self.lanes[lane.name]

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(Lanes, "_opened", wrong), patch.object(Partition, "drop", drop):
            yield

    return both()


def the_failed_are_put_last() -> Any:
    """What failed comes again behind all that waits in its lane."""

    def wrong(self: Lane) -> None:
        self.waiting.extend(self.returned)
        self.returned.clear()

    return patch.object(Lane, "put_back", wrong)


def a_failed_message_does_not_hold_its_lane() -> Any:
    """The next of the lane runs while one backs off: it is put aside, and comes back when its time has come."""
    due = Lanes.enlist

    def wrong(self: Lanes, lane: Lane) -> None:
        if lane.due_ms > self.now_ms and len(lane.waiting) > 1:
            lane.waiting.rotate(-1)
            lane.due_ms = 0
        due(self, lane)

    return patch.object(Lanes, "enlist", wrong)


# ---------------------------------------------------------------------------------------------------------- the store


def holder_is_the_instance() -> Any:
    """A restarted static instance has the session of its earlier process (hole 6)."""
    opened = MemoryStore.open_session

    def wrong(self: MemoryStore, token: int, instance: str | None = None, previous: int | None = None) -> Session:
        number = self._records.instances.get(instance or "")
        worker = self._records.workers.get(number or 0)
        if number is None or worker is None:
            return opened(self, token, instance, previous)
        worker.lease_ends_ms = self._clock_ms() + self._lease_ms
        return Session(number, worker.token)

    return patch.object(MemoryStore, "open_session", wrong)


def late_risers_replace() -> Any:
    """A process that wakes up late ends the session of the one that replaced it."""
    opened = MemoryStore.open_session

    def wrong(self: MemoryStore, token: int, instance: str | None = None, previous: int | None = None) -> Session:  # noqa: ARG001
        return opened(self, token, instance, None)

    return patch.object(MemoryStore, "open_session", wrong)


def the_newer_owner_takes() -> Any:
    """A higher epoch takes claims from a living holder (hole 8)."""
    lives = MemoryStore._holder_lives

    def wrong(self: MemoryStore, record: Record, now_ms: int) -> bool:
        if not lives(self, record, now_ms) or not isinstance(record, Claimed):
            return False
        partition = self._records.workers[record.session].ownerships[record.ownership]
        return partition.newest == record.ownership

    return patch.object(MemoryStore, "_holder_lives", wrong)


def release_forgets() -> Any:
    """Release erases doubt and attempts (hole 3)."""
    release = claims.release

    def wrong(record: Record, **asked: Any) -> tuple[Release, Record]:
        answer, after = release(record, **asked)
        return answer, None if isinstance(after, Freed) else after

    return patch.object(claims, "release", wrong)


def a_repeated_answer_forgets() -> Any:
    """The repeated answer to a claim says nothing of its doubt (hole 4)."""
    claim = claims.claim

    def wrong(record: Record, **asked: Any) -> tuple[ClaimAnswer, Record]:
        answer, after = claim(record, **asked)
        repeated = isinstance(record, Claimed) and after is record and answer.grant is Grant.ACQUIRED
        return (answer._replace(doubt=False, suspect=False) if repeated else answer), after

    return patch.object(claims, "claim", wrong)


def release_by_session() -> Any:
    """Release looks at the session only, so that a late copy gives a newer claim away (hole 5)."""
    release = claims.release

    def wrong(record: Record, **asked: Any) -> tuple[Release, Record]:
        if isinstance(record, Claimed):
            asked["call"] = record.call
        return release(record, **asked)

    return patch.object(claims, "release", wrong)


def neighbours_are_blamed() -> Any:
    """Whoever was claimed when its process vanished counts an attempt (hole 17)."""
    claim = claims.claim

    def wrong(record: Record, **asked: Any) -> tuple[ClaimAnswer, Record]:
        return claim(record._replace(alone=True) if isinstance(record, Claimed) else record, **asked)

    return patch.object(claims, "claim", wrong)


def no_self_fence() -> Any:
    """A process that stood still goes on as if nothing were. With a store, trust in the lease covers it; without one
    what was handed to a handler before is begun all the same."""
    return patch.object(Watch, "stalled_ms", lambda _self, _now_ms: 0)


def renewing_creates_and_late_handlers_begin() -> Any:
    """Two protections off: alone, a lapsed session that comes back is harmless, for its engine begins nothing."""

    @contextmanager
    def both() -> Iterator[None]:
        with stores.renewing_creates(), engines.late_handlers_begin():
            yield

    return both()


_AT_LEAST = (Semantics.AT_LEAST_ONCE, False)
_AT_MOST = (Semantics.AT_MOST_ONCE, True)

VARIANTS: tuple[Variant, ...] = (
    Variant(settle_on_busy, 20),
    Variant(settle_on_fenced, 50),
    Variant(settle_when_sent, 20),
    Variant(silence_is_a_duplicate, 20),
    Variant(commit_what_was_delivered, 20),
    Variant(lost_partitions_drop_completions, 50),
    Variant(keys_in_flight_per_lane, 50),
    Variant(run_again_on_fenced, 200),
    Variant(trust_is_ignored, 50),
    Variant(ownerships_end_under_handlers, 100),
    Variant(commit_without_waiting, 20, _AT_MOST),
    Variant(doubled_done_runs, 3_000, _AT_MOST),
    Variant(suspects_wait_for_an_empty_lane, 100),
    Variant(suspects_overtake, 300),
    Variant(lost_before_the_run_keeps_its_place, 150, _AT_MOST),
    Variant(record_keys_are_no_lanes, 20),
    Variant(lanes_are_dropped_while_they_run, 20),
    Variant(the_failed_are_put_last, 20),
    Variant(a_failed_message_does_not_hold_its_lane, 50),
    Variant(holder_is_the_instance, 100),
    Variant(late_risers_replace, 400),
    Variant(the_newer_owner_takes, 20),
    Variant(release_forgets, 100),
    Variant(a_repeated_answer_forgets, 200),
    Variant(release_by_session, 250),
    Variant(neighbours_are_blamed, 20),
    Variant(no_self_fence, 50, (Semantics.AT_LEAST_ONCE, False)),
    Variant(engines.commit_the_position_when_lost, 100),
    Variant(engines.the_frontier_counts_messages, 20),
    Variant(engines.the_frontier_is_the_newest_settled, 50),
    Variant(engines.no_answer_is_a_commit, 100, _AT_MOST),
    Variant(engines.run_before_done_is_written, 20, _AT_MOST),
    Variant(engines.settle_before_it_runs, 50, _AT_LEAST),
    Variant(engines.seen_is_done, 50),
    Variant(engines.an_unconfirmed_dead_letter_settles, 100),
    Variant(engines.unknown_completions_run_again, 50),
    Variant(engines.unanswered_calls_are_forgotten, 20),
    Variant(engines.a_retry_is_a_delivery, 20),
    Variant(engines.late_handlers_begin, 50),
    Variant(engines.the_lease_is_trusted_longer_than_it_lasts, 50),
    Variant(engines.behind_a_busy_head_goes_on, 200),
    Variant(engines.in_doubt_is_an_ordinary_failure, 100),
    Variant(engines.suspects_run_together, 200),
    Variant(engines.superseded_waits_for_ever, 50),
    Variant(engines.busy_waits_for_ever, 50),
    Variant(engines.the_end_of_a_session_is_not_noticed, 50),
    Variant(engines.claims_are_not_given_back, 200),
    Variant(engines.a_trusting_answer, 200),
    Variant(engines.a_full_buffer_forgets, 20),
    Variant(engines.what_was_forgotten_is_not_settled, 50),
    Variant(engines.what_was_forgotten_is_claimed_and_run_again, 50),
    Variant(engines.waiting_is_lost_with_the_partition, 50),
    Variant(stores.done_before_the_effect, 20),
    Variant(stores.completing_leaves_no_trace, 20),
    Variant(stores.a_late_release_opens_what_is_done, 200),
    Variant(stores.anybody_releases, 200),
    Variant(stores.a_takeover_tells_no_doubt, 50),
    Variant(stores.takeovers_are_not_listed, 20),
    Variant(stores.who_vanishes_alone_is_not_counted, 100),
    Variant(stores.who_lives_is_blamed_too, 20, first=4_160),
    Variant(stores.claims_live_with_the_session, 200),
    Variant(renewing_creates_and_late_handlers_begin, 50),
    Variant(stores.session_numbers_are_used_again, 200),
    Variant(stores.a_lease_never_lapses, 20),
    Variant(stores.a_holder_is_never_alive, 20),
    Variant(stores.fences_are_used_again, 20),
    Variant(stores.fences_follow_the_clock, 200),
    Variant(engines.who_loses_commits_once_more, 50),
    Variant(engines.the_kept_frontier_runs_ahead, 20),
    Variant(stores.epochs_and_holders_refuse_nothing, 20),
    Variant(stores.claims_expire_under_living_holders, 200),
    Variant(engines.a_moved_start_is_not_committed, 500),
    Variant(engines.an_expired_offset_starts_at_the_end, 50),
    Variant(engines.a_topic_is_its_name, 100),
)
