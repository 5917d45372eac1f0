"""What the parts of the engine share: the lanes, the conversation with the store, the counters, and the way out.

Rules for maintainers of this file:
- A delivery gets exactly one outcome, in `over`.
- A key leaves the table of keys in flight only on a definite answer of the store.
"""

from __future__ import annotations

from kafka_once.core.correspondence import Correspondence, GiveBack
from kafka_once.core.delivery import Defect, Delivery, Event, Phase, step_all
from kafka_once.core.events import Counters, Kind, Note, Outcome
from kafka_once.core.lane import Group
from kafka_once.core.lanes import Lanes
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.rules import Effects, Rules
from kafka_once.core.semantics import Semantics
from kafka_once.core.suspects import Suspects
from kafka_once.core.watch import Watch
from kafka_once.errors import ConsumerStopped, MessageError

__all__ = ["Desk"]


class Desk:
    def __init__(self, rules: Rules, counters: Counters) -> None:
        self.rules = rules
        self.counters = counters
        self.protects = rules.semantics is Semantics.EFFECTIVELY_ONCE
        self.at_most_once = rules.semantics is Semantics.AT_MOST_ONCE
        self.talk = _conversation(rules)
        self.lanes = Lanes(rules)
        self.suspects = Suspects(exclusive=rules.exclusive)
        self.effects = Effects()
        self.watch = Watch(self)
        self.now_ms = 0
        self.entropy = 0
        self.unfinished = 0  # deliveries without an outcome, those of lost partitions included
        self.all_paused = False
        self.share_bytes = rules.buffer_bytes  # of each partition
        self._buffer, self._reach = rules.buffer, rules.reach
        self.stopping = False
        self.error: BaseException | None = None

    def take_effects(self) -> Effects:
        """What gathered since the last time."""
        effects, self.effects = self.effects, Effects()
        return effects

    def tick(self, now_ms: int, entropy: int) -> None:
        self.now_ms = self.lanes.now_ms = now_ms
        self.entropy = entropy

    # -------------------------------------------------------------------------------------------- starting and stopping

    def start(self, deliveries: list[Delivery]) -> None:
        """All of one lane."""
        step_all(deliveries, Event.BEGIN)
        claimed = deliveries[0].digest is not None and not self.at_most_once
        if self.rules.exclusive:
            self.begin(deliveries, claimed=claimed)
        else:  # each is ended by the user, in any order
            for delivery in deliveries:
                self.begin([delivery], claimed=claimed)

    def begin(self, deliveries: list[Delivery], *, claimed: bool) -> None:
        """Hand them to the executor. A process that stood still meanwhile begins none of them."""
        begin_before_ms = self.now_ms + self.rules.stall_ms
        if claimed:
            begin_before_ms = min(begin_before_ms, self.conversation.trusted_until_ms)
        group = Group(deliveries[0].lane, deliveries, begin_before_ms)
        self.watch.began(group)
        self.effects.groups.append(group)

    def stop(self, error: BaseException | None) -> None:
        """Drain from the next turn on. The first error is the reason that the user is told."""
        self.error = self.error or error
        self.stopping = True

    def stop_for(self, delivery: Delivery, reason: str, error: BaseException | None) -> None:
        """The policy says that this message must not be passed by."""
        stopped = ConsumerStopped(
            f"{delivery.partition.name}@{delivery.offset} cannot be settled ({reason}): {_describe(error)}. It is not "
            f"committed and comes again at the next start. To go on past such messages set dead_letter_topic."
        )
        stopped.__cause__ = error
        self.note_giving_up(delivery, error)
        self.stop(stopped)

    def note_giving_up(self, delivery: Delivery, error: BaseException | None) -> None:
        kind = Kind.UNUSABLE if isinstance(error, MessageError) else Kind.GAVE_UP
        self.note(kind, delivery.partition, delivery, error)

    # ----------------------------------------------------------------------------------------------- ways of a delivery

    def complete(self, deliveries: list[Delivery]) -> None:
        """Ask the store to make their claims done: the handler ended, or the dead letter is confirmed. Of one lane."""
        step_all(deliveries, Event.FINISH)
        self.conversation.complete(deliveries)

    def give_back(self, delivery: Delivery, *, failed: bool = False, doubt: bool = False) -> None:
        delivery.step(Event.GIVE_BACK)
        self.suspects.leave(delivery)
        self.conversation.give_back(GiveBack(delivery, failed=failed, doubt=doubt))

    def condemn(self, delivery: Delivery, reason: str) -> None:
        delivery.tried = delivery.attempts + (1 if delivery.phase is Phase.RUNNING else 0)
        delivery.step(Event.CONDEMN)
        delivery.reason = reason
        self.effects.publish.append(delivery)

    def on_defect(self, delivery: Delivery, defect: Defect) -> None:
        """It was not claimed, and cannot be processed as it is."""
        if defect.fatal:
            self.lanes.closed(delivery.lane, delivery)
            self.stop_for(delivery, defect.reason, defect.error)
        else:
            self.condemn_for(delivery, defect)

    def condemn_for(self, delivery: Delivery, defect: Defect) -> None:
        delivery.error = defect.error
        self.note_giving_up(delivery, defect.error)
        self.condemn(delivery, defect.reason)

    def ran(self, deliveries: list[Delivery]) -> None:
        """Their handler has ended: the next of their lane may start, and the next suspect. All of one lane."""
        self.suspects.leave_all(deliveries)
        self.lanes.closed(deliveries[0].lane, count=len(deliveries))

    def return_(self, delivery: Delivery) -> None:
        """Back to the head of its lane or, if the partition is not ours any more, back to Kafka."""
        partition = delivery.partition
        if partition.held:
            self.lanes.closed(delivery.lane, delivery)
        else:
            self.lanes.closed(delivery.lane)
            self.leave(delivery)

    def leave_unrun(self, delivery: Delivery) -> None:
        """At most once: it is settled, and its partition is gone before it ran. It never runs: possible by choice."""
        self.lanes.closed(delivery.lane)
        self.leave(delivery, Outcome.SKIPPED)

    def leave(self, delivery: Delivery, outcome: Outcome | None = None) -> None:
        """Not settled here; it is delivered again."""
        delivery.step(Event.LEAVE)
        gone = delivery.partition.tenure is Tenure.GONE
        self.over([delivery], outcome or (Outcome.DROPPED if gone else Outcome.HANDED_BACK))

    def settle(self, deliveries: list[Delivery], outcome: Outcome) -> None:
        """They no longer hold the offset back. All of one partition."""
        deliveries[0].partition.frontier.settle_all([delivery.offset for delivery in deliveries])
        self.over(deliveries, outcome)

    def over(self, deliveries: list[Delivery], outcome: Outcome) -> None:
        """All of one partition."""
        held_bytes = 0
        for delivery in deliveries:
            assert delivery.phase is Phase.OVER, delivery.phase
            assert delivery.outcome is None
            delivery.outcome = outcome
            held_bytes += delivery.size
        self.counters.add(outcome, len(deliveries))
        if self.rules.tell_outcomes:
            self.effects.outcomes += deliveries
        partition = deliveries[0].partition
        partition.unfinished -= len(deliveries)
        partition.held_bytes -= held_bytes
        self.unfinished -= len(deliveries)
        if partition.paused and self._is_half_empty(partition):
            self.resume(partition)
        if not partition.unfinished:
            self.end_ownerships(partition)

    # ------------------------------------------------------------------------------------------------------- partitions

    @property
    def conversation(self) -> Correspondence:
        """The one with the store; only asked for where there is a store."""
        assert self.talk is not None
        return self.talk

    def end_ownerships(self, partition: Partition) -> None:
        """An ownership is over when the partition is not ours and none of its handlers runs (hole 11)."""
        if partition.held or partition.unfinished:
            return
        for number in partition.ownerships:
            self.conversation.end(number)
        partition.ownerships.clear()

    def is_full(self, partition: Partition) -> bool:
        """Whether it holds its share of memory: messages, their bytes, and offsets settled behind one that is not."""
        return (
            partition.unfinished >= self._buffer
            or partition.held_bytes >= self.share_bytes
            or partition.frontier.span >= self._reach
        )

    def _is_half_empty(self, partition: Partition) -> bool:
        return (
            partition.unfinished * 2 <= self._buffer
            and partition.held_bytes * 2 <= self.share_bytes
            and partition.frontier.span * 2 <= self._reach
        )

    def pause_full(self, partition: Partition) -> None:
        if not partition.paused and partition.frontier.span >= self._reach:
            waits_for = partition.frontier.next_offset
            self.note(Kind.HELD_BACK, partition, text=f"{partition.frontier.span} from offset {waits_for} on")
        self.pause(partition)

    def pause(self, partition: Partition) -> None:
        if not partition.paused:
            partition.paused = True
            self.effects.pause.append(partition.name)

    def resume(self, partition: Partition) -> None:
        """It is paused. It stays so while everything is, and when it is on its way out."""
        if not self.all_paused and not self.stopping and partition.held:
            partition.paused = False
            self.effects.resume.append(partition.name)

    def note(
        self,
        kind: Kind,
        partition: Partition | None = None,
        delivery: Delivery | None = None,
        error: BaseException | None = None,
        text: str = "",
    ) -> None:
        self.effects.notes.append(
            Note(
                kind,
                topic_partition=partition.name if partition else None,
                offset=delivery.offset if delivery else None,
                attempt=(delivery.tried or delivery.attempts + 1) if delivery else None,
                error=error,
                text=text,
            )
        )


def _conversation(rules: Rules) -> Correspondence | None:
    if not rules.store:
        return None
    return Correspondence(rules.lease_ms, rules.margin_ms, rules.instance, rules.store_depth)


def _describe(error: BaseException | None) -> str:
    """Our own errors never quote a payload; others are named by their type only."""
    return str(error) if isinstance(error, MessageError) else type(error).__name__
