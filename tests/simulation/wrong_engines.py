"""More wrong variants of the engine: what is settled, started, committed and counted. See variants.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import PropertyMock, patch

from kafka_once.core import assignment, commits, start
from kafka_once.core.assignment import Assignment
from kafka_once.core.calls import CommitMark, CommitResult, Exchange, ExchangeReply
from kafka_once.core.claiming import Claiming
from kafka_once.core.claims import Completion, Grant
from kafka_once.core.correspondence import Correspondence
from kafka_once.core.delivery import TABLE, Delivery, Event, Phase
from kafka_once.core.desk import Desk
from kafka_once.core.engine import Engine
from kafka_once.core.events import Outcome
from kafka_once.core.handling import Handling
from kafka_once.core.offsets import Frontier
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.rules import Rules, StoreCall
from kafka_once.core.start import Start
from kafka_once.core.suspects import Suspects
from kafka_once.message import Message, TopicPartition
from kafka_once.stores.memory import MemoryStore

_FOREVER_MS = 10**15
_REDELIVERY = Outcome.REDELIVERY


# ------------------------------------------------------------------------------------------------ what is committed


def commit_the_position_when_lost() -> Any:
    """Whoever loses a partition commits what was delivered to him."""
    lost = Engine.on_lost

    def wrong(self: Engine, names: Sequence[TopicPartition]) -> None:
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None and partition.frontier.position is not None:
                self._desk.effects.commit.append(CommitMark(name, partition.frontier.position))
        lost(self, names)

    decide = Engine.decide

    def keep(self: Engine) -> Any:
        kept = self._desk.effects.commit
        effects = decide(self)
        effects.commit = [*kept, *effects.commit]
        return effects

    return patch.multiple(Engine, on_lost=wrong, decide=keep)


def who_loses_commits_once_more() -> Any:
    """Whoever loses a partition commits what is settled in it: harmless but for the other owner's place in it."""
    lost, decide = Engine.on_lost, Engine.decide

    def wrong(self: Engine, names: Sequence[TopicPartition]) -> None:
        partitions = [partition for name in names if (partition := self._partitions.get(name)) is not None]
        settled = [(each.name, each.frontier.next_offset) for each in partitions]
        lost(self, names)
        self._desk.effects.commit += [CommitMark(name, offset) for name, offset in settled if offset is not None]

    def keep(self: Engine) -> Any:
        kept = self._desk.effects.commit
        effects = decide(self)
        effects.commit = [*kept, *effects.commit]
        return effects

    return patch.multiple(Engine, on_lost=wrong, decide=keep)


def the_frontier_counts_messages() -> Any:
    """`offset + 1` for every message: wrong from the first gap on."""

    def wrong(self: Frontier, messages: Sequence[Message]) -> None:
        for message in messages:
            self._open.append(message.offset)
            self._position = message.offset + 1 if self._position is None else self._position + 1
            if not self._epochs or self._epochs[-1][1] != message.leader_epoch:
                self._epochs.append((message.offset, message.leader_epoch))

    return patch.object(Frontier, "deliver_all", wrong)


def the_frontier_is_the_newest_settled() -> Any:
    """The highest settled offset, whatever is open before it."""

    def wrong(self: Frontier) -> int | None:
        if not self._open:
            return self._position
        return max(self._settled) + 1 if self._settled else self._open[0]

    return patch.object(Frontier, "next_offset", property(wrong))


def no_answer_is_a_commit() -> Any:
    """At most once: a commit that was not answered starts the handler all the same (hole 16)."""
    committed = Engine.on_committed

    def wrong(self: Engine, results: Sequence[CommitResult]) -> None:
        committed(self, [CommitResult(result.mark, "ok") for result in results])

    return patch.object(Engine, "on_committed", wrong)


def run_before_done_is_written() -> Any:
    """At most once: commit, then run; done is never written (hole 16)."""

    start = Claiming._start

    def wrong(self: Claiming, deliveries: list[Delivery]) -> None:
        if not self._desk.at_most_once:
            start(self, deliveries)
            return
        for delivery in deliveries:
            delivery.phase = Phase.SETTLING
        self._desk.lanes.free_keys(deliveries)
        self._settle_first(deliveries[0].partition, deliveries)

    return patch.object(Claiming, "_start", wrong)


def settle_before_it_runs() -> Any:
    """At least once: the offset goes when the handler starts."""
    start = Desk.start

    def wrong(self: Desk, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if not delivery.settled:
                delivery.partition.frontier.settle(delivery.offset)
                delivery.settled = True
        start(self, deliveries)

    return patch.object(Desk, "start", wrong)


# ------------------------------------------------------------------------------------------------- what is settled


def seen_is_done() -> Any:
    """An offset that somebody claimed once is taken for processed."""
    delivered = Engine.on_delivered

    def wrong(self: Engine, name: TopicPartition, messages: Sequence[Message], keys: Any) -> None:
        delivered(self, name, messages, keys)
        partition = self._partitions.get(name)
        if partition is None or not partition.held or (partition.claimed_up_to or -1) < messages[-1].offset:
            return
        delivery = partition.lane_of(messages[-1]).waiting.pop()
        delivery.phase = Phase.OVER
        self._desk.settle([delivery], _REDELIVERY)

    return patch.object(Engine, "on_delivered", wrong)


def an_unconfirmed_dead_letter_settles() -> Any:
    """Published is enough."""
    published = Handling.on_published

    def wrong(self: Handling, delivery: Delivery, error: BaseException | None) -> None:  # noqa: ARG001
        published(self, delivery, None)

    return patch.object(Handling, "on_published", wrong)


def unknown_completions_run_again() -> Any:
    """No answer to a completion: the handler runs once more."""
    silence = Engine.on_silence

    def wrong(self: Engine, error: BaseException) -> None:
        desk = self._desk
        for sent in desk.conversation._sent:
            for delivery in sent.completes if isinstance(sent.call, Exchange) else ():
                delivery.phase = Phase.WAITING
                _wait_again(desk, delivery)
            if isinstance(sent.call, Exchange):
                sent.completes, sent.call.completes = [], []
        silence(self, error)

    return patch.object(Engine, "on_silence", wrong)


def unanswered_calls_are_forgotten() -> Any:
    """What got no answer is not said again (hole 10)."""

    def wrong(self: Correspondence, now_ms: int) -> list[StoreCall]:
        if self._repeat_due_ms is None or now_ms < self._repeat_due_ms:
            return []
        self._repeat_due_ms = None
        self._sent.clear()
        return []

    return patch.object(Correspondence, "repeat", wrong)


def a_retry_is_a_delivery() -> Any:
    """Each attempt is counted as if Kafka had delivered it."""
    again = Handling._again

    def wrong(self: Handling, delivery: Delivery, *, failed: bool = True, doubt: bool = False) -> None:
        self._desk.counters.add("deliveries")
        again(self, delivery, failed=failed, doubt=doubt)

    return patch.object(Handling, "_again", wrong)


# --------------------------------------------------------------------------------------------- what runs, and when


def late_handlers_begin() -> Any:
    """The executor does not look at the lease before it begins."""
    return patch("tests.simulation.handlers.is_late", lambda _group, _now_s: False)


def the_lease_is_trusted_longer_than_it_lasts() -> Any:
    """The margin has the wrong sign."""
    return patch.object(Rules, "margin_ms", PropertyMock(return_value=-400))


def behind_a_busy_head_goes_on() -> Any:
    """In an ordered lane everything that can be had is claimed and started (hole 15). Two protections are off: the
    store's, which skips what is behind, and the engine's, which gives it back."""
    claimed = Claiming._on_claimed

    def wrong(self: Claiming, group: list[Delivery], grants: Sequence[Any], answers: Any, *, trusted: bool) -> None:
        refused = [(d, a) for d, a in zip(group, grants, strict=True) if a.grant > Grant.DUPLICATE]
        others = [(d, a) for d, a in zip(group, grants, strict=True) if a.grant <= Grant.DUPLICATE]
        for some in filter(None, (refused, others)):
            claimed(self, [d for d, _ in some], [a for _, a in some], answers, trusted=trusted)

    def claim_all(self: MemoryStore, worker: Any, exchange: Exchange, now_ms: int) -> list[Any]:
        self._records.last_fence = max(self._records.last_fence + 1, now_ms * 1000)
        return [self._claim(worker, exchange, ask, now_ms) for ask in exchange.claims]

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(Claiming, "_on_claimed", wrong), patch.object(MemoryStore, "_claim_all", claim_all):
            yield

    return both()


def in_doubt_is_an_ordinary_failure() -> Any:
    """`InDoubt` is retried, and the next run is told nothing."""

    def wrong(self: Handling, delivery: Delivery, error: BaseException) -> None:
        self._retry(delivery, error)

    return patch.object(Handling, "_on_doubt", wrong)


def suspects_run_together() -> Any:
    """More than one suspect at a time (hole 17)."""
    leave = Suspects.choose

    def wrong(self: Suspects) -> Delivery | None:
        self._alone = None
        return leave(self)

    return patch.object(Suspects, "choose", wrong)


# ---------------------------------------------------------------------------------------------- what stands still


def superseded_waits_for_ever() -> Any:
    """Who is refused once never asks again (hole 9)."""

    def wrong(_self: Claiming, partition: Partition) -> None:
        if partition.tenure is Tenure.OWNED:
            partition.tenure = Tenure.JOINING
            partition.take_due_ms = _FOREVER_MS

    return patch.object(Claiming, "_on_superseded", wrong)


def busy_waits_for_ever() -> Any:
    """A key that a living holder has is not asked for again."""
    return patch("kafka_once.core.claiming._busy_ms", lambda _refusals: _FOREVER_MS)


def the_end_of_a_session_is_not_noticed() -> Any:
    """The store says that the session is over, and the engine goes on under it (hole 14)."""
    return patch.object(Correspondence, "_lapse", lambda _self: None)


def ownerships_are_never_ended() -> Any:
    """A living session keeps the claims of partitions that it has lost (hole 11)."""
    return patch.object(Desk, "end_ownerships", lambda _self, _partition: None)


def claims_are_not_given_back() -> Any:
    """Nobody tells the store that a claim is not needed, and the ownership is not ended either (hole 11)."""

    def wrong(self: Desk, delivery: Delivery, **_how: Any) -> None:
        delivery.step(Event.GIVE_BACK)
        self.suspects.leave(delivery)
        delivery.step(Event.RELEASED)
        delivery.held = False
        self.lanes.free_keys([delivery])
        self.return_(delivery)

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(Desk, "give_back", wrong), ownerships_are_never_ended():
            yield

    return both()


def a_trusting_answer() -> Any:
    """The lease is counted from the answer, not from before the call was sent."""
    exchanged = Engine.on_exchanged

    def wrong(self: Engine, call: StoreCall, reply: ExchangeReply) -> None:
        for sent in self._desk.conversation._sent:
            sent.sent_ms = self._desk.now_ms
        exchanged(self, call, reply)

    return patch.object(Engine, "on_exchanged", wrong)


def a_full_buffer_forgets() -> Any:
    """What does not fit is left out, as if it had been settled."""
    delivered = Engine.on_delivered

    def wrong(self: Engine, name: TopicPartition, messages: Sequence[Message], keys: Any) -> None:
        partition = self._partitions.get(name)
        if partition is not None and partition.held and partition.unfinished >= self.rules.buffer:
            return
        delivered(self, name, messages, keys)

    return patch.object(Engine, "on_delivered", wrong)


def waiting_is_lost_with_the_partition() -> Any:
    """What waits when the partition is asked back is settled with it."""

    def wrong(self: Assignment, partition: Partition) -> None:
        for delivery in partition.take_waiting():
            delivery.phase = Phase.OVER
            self._desk.settle([delivery], _REDELIVERY)
        self._claiming.hand_back(partition)

    return patch.object(Assignment, "_hand_back_waiting", wrong)


def the_kept_frontier_runs_ahead() -> Any:
    """The store is told of what was delivered instead of the frontier."""
    mark = commits._mark_in_store

    def wrong(marks: Any, partitions: Any, talk: Any) -> None:
        partitions = list(partitions)
        positions = {each.name: each.frontier.position for each in partitions}
        mark([one._replace(offset=positions[one.partition] or one.offset) for one in marks], partitions, talk)

    return patch.object(commits, "_mark_in_store", wrong)


def a_moved_start_is_not_committed() -> Any:
    """Who starts at the stored frontier and finds nothing to do never commits it (hole 18)."""
    decide = assignment.decide

    def wrong(*asked: Any) -> Start:
        return replace(decide(*asked), commit=False)

    return patch.object(assignment, "decide", wrong)


def an_expired_offset_starts_at_the_end() -> Any:
    """Where the frontier is ahead of the group's offset, or that is gone, reading goes on at the log's end."""
    place = start._place

    def wrong(facts: Any, source: Any, reset: Any) -> tuple[int, int | None]:
        return (facts.log.end, None) if source is start._From.FRONTIER else place(facts, source, reset)

    return patch.object(start, "_place", wrong)


def a_topic_is_its_name() -> Any:
    """A topic that was made anew is taken for the one before: its offsets for those that were settled there."""
    return patch.object(Partition, "topic_id", property(lambda _self: ""))


def what_was_forgotten_is_not_settled() -> Any:
    """The store knew nothing of the claim: the completion counts for nothing (hole 12)."""
    completion = Claiming._on_completion

    def wrong(self: Claiming, delivery: Delivery, answer: Completion) -> None:
        if answer is not Completion.FORGOTTEN:
            completion(self, delivery, answer)

    return patch.object(Claiming, "_on_completion", wrong)


def starts_over(claiming: Claiming, delivery: Delivery) -> None:
    """A finished handler's message waits again, as if it had not run."""
    delivery.step(Event.REFUSED)
    claiming._desk.suspects.leave(delivery)
    _wait_again(claiming._desk, delivery)


def _wait_again(desk: Desk, delivery: Delivery) -> None:
    """In its lane, which may have been dropped since."""
    desk.lanes.free_keys([delivery])
    delivery.lane = delivery.partition.lane_of(delivery.message)
    desk.lanes._opened(delivery.lane, 1)
    desk.return_(delivery)


def finished_may_wait() -> Any:
    return patch.dict(TABLE[Phase.COMPLETING], {Event.REFUSED: Phase.WAITING})


def what_was_forgotten_is_claimed_and_run_again() -> Any:
    """The store knew nothing of the claim: its message starts over, although its handler has returned (hole 12)."""
    completion = Claiming._on_completion

    def wrong(self: Claiming, delivery: Delivery, answer: Completion) -> None:
        if answer is not Completion.FORGOTTEN or delivery.phase is not Phase.COMPLETING:
            completion(self, delivery, answer)
            return
        starts_over(self, delivery)

    @contextmanager
    def both() -> Iterator[None]:
        with finished_may_wait(), patch.object(Claiming, "_on_completion", wrong):
            yield

    return both()
