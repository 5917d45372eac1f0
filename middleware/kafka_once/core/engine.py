"""Decides everything: what is claimed, started, completed, committed, put off. Performs nothing.

The runner tells what happened (`on_*`) and asks what to do (`decide`), over and over; see runner.py. The journey of a
message is in DESIGN.md; its phases are the table of delivery.py; the answers of the store are the table of claims.py.

Rules for maintainers of this file:
- A delivery gets exactly one outcome, in `_over`.
- A key leaves `_keys` only on a definite answer of the store.
- BUSY, STALE, SUPERSEDED, GONE, FENCED and silence never settle.
- A handler that ended always has its completion sent, whatever became of its partition.
- Nothing starts and nothing is committed while the lease is not trusted.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kafka_once.core.claims import ClaimAnswer, Completion, Grant
from kafka_once.core.commits import Commits
from kafka_once.core.correspondence import Answers, Correspondence, GiveBack
from kafka_once.core.delivery import Defect, Delivery, Event, Phase
from kafka_once.core.events import Counters, Kind, Note, Outcome
from kafka_once.core.lane import Group, KeysInFlight, Lane
from kafka_once.core.pacing import Pace
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.retries import Verdict, backoff_ms, classify
from kafka_once.core.rules import Effects, Rules, StoreCall
from kafka_once.core.semantics import Semantics
from kafka_once.core.timer import Timer
from kafka_once.errors import ConsumerStopped, MessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka_once.core.calls import CommitMark, CommitResult, ExchangeReply, Ownership, Session
    from kafka_once.message import Message, TopicPartition

__all__ = ["Engine"]

_BUSY_FIRST_MS, _BUSY_MOST_MS = 20, 1_000  # between claims of a key that a living holder has
_PUBLISH_AGAIN_MS = 500
_SUPERSEDED_MS = 250  # before a higher epoch is taken: long enough for a poll to confirm that the partition is ours


class Engine:
    def __init__(self, rules: Rules, counters: Counters | None = None) -> None:
        self.rules = rules
        self.counters = counters or Counters()
        self.stopping = False
        self.error: BaseException | None = None
        self.unfinished = 0  # deliveries without an outcome, those of lost partitions included
        self.room = 0  # deliveries that the executor takes now; only without exclusive lanes
        self._protects = rules.semantics is Semantics.EFFECTIVELY_ONCE
        self._at_most_once = rules.semantics is Semantics.AT_MOST_ONCE
        self._partitions: dict[TopicPartition, Partition] = {}
        self._paces: dict[str, Pace] = {}
        self._keys = KeysInFlight()
        self._ready: deque[Lane] = deque()
        self._timer = Timer()
        self._open_lanes = 0
        self._suspects: deque[Delivery] = deque()
        self._alone: Delivery | None = None
        self._unsettled: list[Delivery] = []
        self._talk = Correspondence(rules.lease_ms, rules.margin_ms, rules.instance) if rules.store else None
        self._commits = Commits(rules.commit_every_ms)
        self._effects = Effects()
        self._all_paused = False
        self._now_ms = 0
        self._entropy = 0

    # ------------------------------------------------------------------------------------------------- what time it is

    def tick(self, now_ms: int, entropy: int) -> None:
        """Called before anything else in a turn: the local monotonic clock, and 53 random bits."""
        self._now_ms = now_ms
        self._entropy = entropy

    # ------------------------------------------------------------------------------------------------------ partitions

    def on_assigned(self, names: Sequence[TopicPartition]) -> None:
        for name in names:
            partition = Partition(name, self._pace(name.topic))
            self._partitions[name] = partition
            if self.stopping:
                partition.tenure = Tenure.LEAVING
            elif self._talk is None:
                partition.tenure = Tenure.OWNED
            if self._all_paused or self.stopping:
                self._pause(partition)
            self._note(Kind.ASSIGNED, partition)

    def on_committed_read(self, name: TopicPartition, offset: int, *, forgotten: bool) -> None:
        """What the group had committed before us: we never commit behind it.

        `forgotten`: that commit carries our mark, yet the store is new, so it lost its memory.
        """
        partition = self._partitions.get(name)
        if partition is not None and partition.committed is None:
            partition.committed = offset
            if forgotten:
                self.counters.add("memory_lost")
                self._note(Kind.MEMORY_LOST, partition)

    def on_revoked(self, names: Sequence[TopicPartition]) -> None:
        """Stop the intake; what runs ends. Then the runner waits for `drained`, commits, and tells `on_gone`."""
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None:
                partition.tenure = Tenure.LEAVING
                self._hand_back_waiting(partition, Outcome.HANDED_BACK)
                self._note(Kind.REVOKED, partition)

    def on_lost(self, names: Sequence[TopicPartition]) -> None:
        """No intake, no commit. Running handlers end and their completions are sent (hole 1)."""
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None:
                self._forget(partition, Outcome.DROPPED)
                self._note(Kind.LOST, partition)

    def on_gone(self, names: Sequence[TopicPartition]) -> None:
        """The revocation is over, drained or not."""
        for name in names:
            partition = self._partitions.get(name)
            if partition is not None:
                self._forget(partition, Outcome.HANDED_BACK)

    def _forget(self, partition: Partition, outcome: Outcome) -> None:
        partition.tenure = Tenure.GONE
        del self._partitions[partition.name]
        self._hand_back_waiting(partition, outcome)
        for _, deliveries in partition.awaiting:  # at most once: settled, never run. Possible by choice
            for delivery in deliveries:
                delivery.step(Event.LEAVE)
                self._over(delivery, Outcome.DROPPED)
        partition.awaiting.clear()
        self._end_ownership(partition)

    def _hand_back_waiting(self, partition: Partition, outcome: Outcome) -> None:
        lane = partition.lane
        waiting = [*lane.returned, *lane.waiting]
        lane.returned.clear()
        lane.waiting.clear()
        for delivery in waiting:
            delivery.step(Event.LEAVE)
            self._over(delivery, outcome)
        for delivery in [d for d in self._suspects if d.partition is partition]:
            self._suspects.remove(delivery)
            self._give_back(delivery)
        for delivery in [d for d in self._unsettled if d.partition is partition]:
            self._unsettled.remove(delivery)
            self._leave_unsettled(delivery)

    def _end_ownership(self, partition: Partition) -> None:
        """An ownership is over when the partition is not ours and none of its handlers runs (hole 11)."""
        if partition.held or partition.unfinished or self._talk is None:
            return
        for number in partition.ownerships:
            self._talk.end(number)
        partition.ownerships.clear()

    def stop(self, error: BaseException | None = None) -> None:
        """Drain: no intake, what runs ends. The first error is the reason that the user is told."""
        self.error = self.error or error
        if not self.stopping:
            self.stopping = True
            for partition in self._partitions.values():
                partition.tenure = Tenure.LEAVING
                self._pause(partition)
                self._hand_back_waiting(partition, Outcome.HANDED_BACK)

    def drained(self, names: Sequence[TopicPartition] | None = None) -> bool:
        """Whether nothing of these partitions (of any, if None) is unfinished and the store knows all of it."""
        if names is None:
            unfinished = self.unfinished
        else:
            unfinished = sum(p.unfinished for name in names if (p := self._partitions.get(name)) is not None)
        return not unfinished and (self._talk is None or self._talk.silent or not self._talk.pending())

    # -------------------------------------------------------------------------------------------------------- messages

    def on_delivered(
        self, message: Message, name: TopicPartition, digest: bytes | None, payload: object, defect: Defect | None
    ) -> None:
        self.counters.add("deliveries")
        partition = self._partitions.get(name)
        if partition is None or not partition.held:
            self.counters.add(Outcome.DROPPED if partition is None else Outcome.HANDED_BACK)
            return
        delivery = Delivery(message, partition, digest if self._talk else None, payload, defect)
        partition.frontier.deliver(message.offset, message.leader_epoch)
        partition.unfinished += 1
        self.unfinished += 1
        if partition.unfinished >= self.rules.buffer:
            self._pause(partition)
        partition.lane.waiting.append(delivery)
        self._list(partition.lane)

    def _pause(self, partition: Partition) -> None:
        if not partition.paused:
            partition.paused = True
            self._effects.pause.append(partition.name)

    def _resume(self, partition: Partition) -> None:
        if partition.paused and not self._all_paused and not self.stopping and partition.held:
            partition.paused = False
            self._effects.resume.append(partition.name)

    # ----------------------------------------------------------------------------------------------------------- lanes

    def _list(self, lane: Lane) -> None:
        """Put a lane that can go on where it will be found: among the ready ones, or in the timer."""
        if lane.listed or not lane.waiting or (self.rules.exclusive and lane.open):
            return
        if lane.partition.tenure is not Tenure.OWNED:
            return
        lane.listed = True
        if lane.due_ms > self._now_ms:
            self._timer.add(lane.due_ms, lane)
        else:
            self._ready.append(lane)

    def _unlist(self, lane: Lane) -> None:
        lane.listed = False
        self._list(lane)

    def _on_due(self) -> None:
        for item in self._timer.take_due(self._now_ms):
            if isinstance(item, Lane):
                self._unlist(item)
            elif item.phase is Phase.PUBLISHING:
                self._effects.publish.append(item)
            elif item.phase is Phase.UNSETTLED and item.partition.held:
                self._unsettled.append(item)
            elif item.phase is Phase.UNSETTLED:
                self._leave_unsettled(item)

    def _opened(self, lane: Lane, count: int) -> None:
        if not lane.open:
            self._open_lanes += 1
        lane.open += count
        self.room -= count

    def _closed(self, lane: Lane, returned: Delivery | None = None) -> None:
        """One message of the lane's open group has ended, or came back."""
        lane.open -= 1
        if returned is not None:
            lane.returned.append(returned)
        if not lane.open:
            self._open_lanes -= 1
        if not lane.open or not self.rules.exclusive:
            lane.put_back()
            self._list(lane)

    def _has_room(self) -> bool:
        return self._open_lanes < self.rules.concurrency if self.rules.exclusive else self.room > 0

    def _choose(self) -> list[list[Delivery]]:
        """Take the next group of each ready lane while there is room; start at once those that need no claim."""
        chosen = []
        for _ in range(len(self._ready)):
            if not self._has_room():
                break
            lane = self._ready.popleft()
            lane.listed = False
            if lane.partition.tenure is not Tenure.OWNED or not lane.waiting or (self.rules.exclusive and lane.open):
                continue
            group = self._take_group(lane)
            if group and group[0].defect is not None:
                self._on_defect(group[0], group[0].defect)
            elif group and group[0].digest is None:
                self._start_unprotected(lane, group)
            elif group:
                for delivery in group:
                    delivery.step(Event.CLAIM)
                chosen.append(group)
            self._list(lane)
        return chosen

    def _take_group(self, lane: Lane) -> list[Delivery]:
        """A prefix of what waits (hole 15): of one kind, and none whose key is in flight in this process."""
        waiting, keys = lane.waiting, self._keys
        head = waiting[0]
        if head.digest is not None and head.digest in keys:
            keys.wait(head.digest, lane)
            lane.listed = True
            return []
        limit = lane.partition.pace.group_size
        if head.defect is not None:
            limit = 1
        elif not self.rules.exclusive:
            limit = min(limit, self.room)
        group: list[Delivery] = []
        while waiting and len(group) < limit:
            delivery = waiting[0]
            digest = delivery.digest
            if group and (delivery.defect is not None or (digest is None) != (head.digest is None)):
                break
            if digest is not None:
                if digest in keys:
                    break
                keys.add(digest)
            group.append(waiting.popleft())
        self._opened(lane, len(group))
        return group

    def _free_key(self, delivery: Delivery) -> None:
        if delivery.digest is not None:
            for lane in self._keys.remove(delivery.digest):
                self._unlist(lane)

    # ---------------------------------------------------------------------------------------------------------- starts

    def _start(self, lane: Lane, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            delivery.step(Event.BEGIN)
        if self.rules.exclusive:
            self._effects.groups.append(Group(lane, deliveries))
        else:  # each is ended by the user, in any order
            self._effects.groups.extend(Group(lane, [delivery]) for delivery in deliveries)

    def _start_unprotected(self, lane: Lane, deliveries: list[Delivery]) -> None:
        if self._protects:
            self.counters.add("unprotected", len(deliveries))
        if self._at_most_once:
            for delivery in deliveries:
                delivery.step(Event.SETTLE)
            self._settle_first(lane.partition, deliveries)
        else:
            self._start(lane, deliveries)

    def _settle_first(self, partition: Partition, deliveries: list[Delivery]) -> None:
        """At most once: the offset is committed, and the commit answered, before the handler starts."""
        for delivery in deliveries:
            partition.frontier.settle(delivery.offset)
        partition.awaiting.append((deliveries[-1].offset + 1, deliveries))
        self._commits.urge()

    def _on_defect(self, delivery: Delivery, defect: Defect) -> None:
        if defect.fatal:
            self._closed(delivery.partition.lane, delivery)
            self._stop_for(delivery, defect.reason, defect.error)
        else:
            delivery.error = defect.error
            self._condemn(delivery, defect.reason)

    def _stop_for(self, delivery: Delivery, reason: str, error: BaseException | None) -> None:
        coordinates = f"{delivery.partition.name}@{delivery.offset}"
        stopped = ConsumerStopped(
            f"{coordinates} cannot be settled ({reason}): {_describe(error)}. It is not committed and comes again at "
            f"the next start. To go on past such messages set dead_letter_topic."
        )
        stopped.__cause__ = error
        self._note(Kind.GAVE_UP, delivery.partition, delivery, error)
        self.stop(stopped)

    # ------------------------------------------------------------------------------------------------- handlers' results

    def on_ran(self, group: Group) -> None:
        """Look at the new results of a group, ended or still running."""
        ended = group.ended  # read before the results: what is there when it has ended is all
        for position in range(group.seen, len(group.results)):
            delivery, error = group.deliveries[position], group.results[position]
            group.seen += 1
            if error is None:
                self._on_returned(delivery)
            else:
                self._on_raised(delivery, error)
        if ended:
            if group.seen:
                group.lane.partition.pace.observe(group.seen, group.took_ms)
            self._on_unstarted(group.lane, group.deliveries[group.seen :])

    def _on_returned(self, delivery: Delivery) -> None:
        self.counters.add("processings")
        if delivery.digest is None or self._at_most_once:
            self._end_unprotected(delivery, Outcome.COMPLETED)
        else:
            self._complete(delivery)
            self._ran(delivery)

    def _complete(self, delivery: Delivery) -> None:
        delivery.step(Event.FINISH)
        assert self._talk is not None
        self._talk.complete(delivery)

    def _ran(self, delivery: Delivery) -> None:
        """Its handler has ended: the next of its lane may start, and the next suspect."""
        if self._alone is delivery:
            self._alone = None
        self._closed(delivery.partition.lane)

    def _end_unprotected(self, delivery: Delivery, outcome: Outcome) -> None:
        delivery.step(Event.END)
        if not self._at_most_once:
            delivery.partition.frontier.settle(delivery.offset)
        self._ran(delivery)
        self._over(delivery, outcome)

    def _on_unstarted(self, lane: Lane, deliveries: list[Delivery]) -> None:
        """An earlier one of the group raised, or the hand-out took them back."""
        if not deliveries:
            return
        if self._at_most_once:  # settled already: they can only go on
            self._effects.groups.append(Group(lane, deliveries))
            return
        for delivery in deliveries:
            if delivery.digest is None:
                self._wait_again(delivery)
            else:
                self._give_back(delivery)

    def _wait_again(self, delivery: Delivery) -> None:
        delivery.step(Event.AGAIN)
        if delivery.partition.held:
            self._closed(delivery.partition.lane, delivery)
        else:
            self._closed(delivery.partition.lane)
            delivery.step(Event.LEAVE)
            self._over(delivery, self._unsettled_outcome(delivery.partition))

    def _on_raised(self, delivery: Delivery, error: BaseException) -> None:
        self.counters.add("failures")
        delivery.error = error
        verdict = classify(error)
        if self._at_most_once:
            self._on_raised_at_most_once(delivery, error, verdict)
        elif verdict is Verdict.FATAL:
            self._again(delivery, failed=True)
            self.stop(error)
        elif delivery.partition.tenure is Tenure.GONE:
            self._again(delivery, failed=True, doubt=verdict is Verdict.DOUBT)
        elif verdict is Verdict.DOUBT and self.rules.dead_letter_doubts:
            self._condemn(delivery, "in doubt")
        elif verdict is Verdict.REJECT:
            self._give_up(delivery, _reason_of(error), dead_letter=self.rules.dead_letter_payloads)
        elif delivery.attempts + 1 >= self.rules.attempts:
            reason = f"attempts exhausted ({delivery.attempts + 1})"
            self._give_up(delivery, reason, dead_letter=self.rules.dead_letter_failures)
        else:
            self._retry(delivery, error, doubt=verdict is Verdict.DOUBT)

    def _on_raised_at_most_once(self, delivery: Delivery, error: BaseException, verdict: Verdict) -> None:
        self._note(Kind.SKIPPED, delivery.partition, delivery, error)
        if self.rules.dead_letter_failures and verdict is not Verdict.FATAL:
            self._condemn(delivery, "raised, and at most once")
        else:
            self._end_unprotected(delivery, Outcome.SKIPPED)
        if verdict is Verdict.FATAL:
            self.stop(error)

    def _retry(self, delivery: Delivery, error: BaseException, *, doubt: bool) -> None:
        self.counters.add("retries")
        self._note(Kind.RAISED, delivery.partition, delivery, error)
        jitter = self._entropy / (1 << 53)
        wait_ms = backoff_ms(delivery.attempts + 1, self.rules.backoff_ms, self.rules.backoff_most_ms, jitter)
        delivery.partition.lane.due_ms = self._now_ms + wait_ms
        self._again(delivery, failed=True, doubt=doubt)

    def _again(self, delivery: Delivery, *, failed: bool, doubt: bool = False) -> None:
        if delivery.digest is None:
            delivery.attempts += 1
            self._wait_again(delivery)
        else:
            self._give_back(delivery, failed=failed, doubt=doubt)

    def _give_up(self, delivery: Delivery, reason: str, *, dead_letter: bool) -> None:
        if dead_letter:
            self._note(Kind.GAVE_UP, delivery.partition, delivery, delivery.error)
            self._condemn(delivery, reason)
        else:
            self._again(delivery, failed=True)
            self._stop_for(delivery, reason, delivery.error)

    # ----------------------------------------------------------------------------------------------------- dead letters

    def _condemn(self, delivery: Delivery, reason: str) -> None:
        delivery.step(Event.CONDEMN)
        delivery.reason = reason
        self._effects.publish.append(delivery)

    def on_published(self, delivery: Delivery, error: BaseException | None) -> None:
        """Confirmed by Kafka, or not: then it is published again. A dead letter blocks rather than being dropped."""
        if error is not None:
            self._note(Kind.UNPUBLISHED, delivery.partition, delivery, error)
            self._timer.add(self._now_ms + _PUBLISH_AGAIN_MS, delivery)
            return
        self._note(Kind.DEAD_LETTERED, delivery.partition, delivery, delivery.error, delivery.reason)
        if delivery.digest is None or self._at_most_once:
            self._end_unprotected(delivery, Outcome.DEAD_LETTERED)
        else:
            self._complete(delivery)
            self._ran(delivery)

    # ------------------------------------------------------------------------------------------------ the store's answers

    def on_session(self, session: Session) -> None:
        assert self._talk is not None
        self._talk.on_session(session)
        self.counters.add("sessions")
        self._answered()
        self._note(Kind.SESSION_OPENED, text=f"session {session.number}")

    def on_ownerships(self, ownerships: Sequence[Ownership] | None) -> None:
        assert self._talk is not None
        joining = self._talk.on_ownerships(session_lives=ownerships is not None)
        self._answered()
        if ownerships is None:
            self._on_session_over()
            return
        for partition, ownership in zip(joining, ownerships, strict=True):
            self._on_ownership(partition, ownership)

    def _on_ownership(self, partition: Partition, ownership: Ownership) -> None:
        partition.ownership = ownership
        partition.ownerships.append(ownership.number)
        if partition.claimed_up_to is None:
            partition.claimed_up_to = ownership.claimed_up_to
        if partition.tenure is Tenure.JOINING:
            partition.tenure = Tenure.OWNED
            self._note(Kind.OWNED, partition, text=f"ownership {ownership.number}, epoch {ownership.epoch}")
            self._list(partition.lane)
        else:
            self._end_ownership(partition)

    def on_exchanged(self, reply: ExchangeReply) -> None:
        assert self._talk is not None
        answers = self._talk.on_exchanged(reply)
        self._answered()
        if not answers.session_lives:
            self._on_session_over()
        for delivery, completion in answers.completed:
            self._on_completion(delivery, completion)
        for back in answers.released:
            self._on_released(back)
        for group, grants in answers.claimed:
            if group[0].phase is Phase.CONFIRMING:
                self._on_confirmation(group[0], grants[0], answers)
            else:
                self._on_claimed(group, grants, answers)

    def on_silence(self, error: BaseException) -> None:
        """The store gave no definite answer. Fail closed: nothing is claimed, everything is paused, polling goes on."""
        assert self._talk is not None
        if not self._all_paused:
            self._note(Kind.STORE_SILENT, error=error)
            self._all_paused = True
            for partition in self._partitions.values():
                self._pause(partition)
        self.counters.add("store_silences")
        self._talk.on_silence(self._now_ms)

    def on_refusal(self, error: BaseException) -> None:
        """The store answered that repeating will not help: stop. Everything unsettled stays uncommitted."""
        self.stop(error)
        self.on_silence(error)

    def _answered(self) -> None:
        self.counters.add("store_calls")
        if self._all_paused:
            self._all_paused = False
            self._note(Kind.STORE_BACK)
            for partition in self._partitions.values():
                if partition.unfinished < self.rules.buffer:
                    self._resume(partition)

    def _on_session_over(self) -> None:
        """A lapsed session is over: a new one is opened, and everything that had not started is claimed again."""
        self._note(Kind.SESSION_OVER)
        for partition in self._partitions.values():
            partition.ownership = None
            partition.ownerships.clear()
            if partition.tenure is Tenure.OWNED:
                partition.tenure = Tenure.JOINING
        suspects, self._suspects = list(self._suspects), deque()
        for delivery in suspects:
            self._give_back(delivery)

    # -------------------------------------------------------------------------------------------------- claims answered

    def _on_claimed(self, group: list[Delivery], grants: Sequence[ClaimAnswer], answers: Answers) -> None:
        lane = group[0].partition.lane
        starting: list[Delivery] = []
        blocked = not answers.session_lives
        for delivery, answer in zip(group, grants, strict=True):
            grant = answer.grant
            if grant is Grant.ACQUIRED or grant is Grant.RECLAIMED:
                self._granted(delivery, answer, answers)
                if blocked or not self._may_start(delivery):
                    self._give_back(delivery)
                elif self._is_spent(delivery):
                    blocked = not self.rules.dead_letter_failures
                elif delivery.doubt and self.rules.dead_letter_doubts:
                    self._condemn(delivery, "in doubt")
                elif delivery.suspect and not delivery.alone:
                    self._suspects.append(delivery)
                    blocked = True
                else:
                    starting.append(delivery)
            elif grant is Grant.DUPLICATE:
                self._on_duplicate(delivery)
            else:
                blocked = True
                self._on_refused(delivery, grant)
        if starting:
            self._start_granted(lane, starting)

    def _granted(self, delivery: Delivery, answer: ClaimAnswer, answers: Answers) -> None:
        delivery.step(Event.GRANTED)
        delivery.session, delivery.call = answers.session.number, answers.call
        delivery.attempts, delivery.fence = answer.attempts, answer.fence
        delivery.suspect = answer.suspect
        delivery.refusals = 0
        if answer.doubt and not delivery.doubt:
            delivery.doubt = True
            self.counters.add("in_doubt")
            self._note(Kind.IN_DOUBT, delivery.partition, delivery)

    def _may_start(self, delivery: Delivery) -> bool:
        assert self._talk is not None
        return delivery.partition.tenure is Tenure.OWNED and self._talk.trusted(self._now_ms)

    def _is_spent(self, delivery: Delivery) -> bool:
        """Every attempt is used up, so it killed its process each time: give up without running it once more."""
        if delivery.attempts < self.rules.attempts:
            return False
        self._leave_alone(delivery)
        reason = f"attempts exhausted ({delivery.attempts}), its process ended each time"
        if self.rules.dead_letter_failures:
            self._condemn(delivery, reason)
        else:
            self._give_back(delivery)
            self._stop_for(delivery, reason, None)
        return True

    def _start_granted(self, lane: Lane, deliveries: list[Delivery]) -> None:
        if not self._at_most_once:
            self._start(lane, deliveries)
            return
        assert self._talk is not None
        for delivery in deliveries:
            delivery.step(Event.RECORD)
            self._talk.complete(delivery)

    def _on_duplicate(self, delivery: Delivery) -> None:
        delivery.step(Event.DUPLICATE)
        known = delivery.partition.claimed_up_to
        seen_before = known is not None and delivery.offset <= known
        self._leave_alone(delivery)
        self._free_key(delivery)
        delivery.partition.frontier.settle(delivery.offset)
        self._closed(delivery.partition.lane)
        self._over(delivery, Outcome.REDELIVERY if seen_before else Outcome.REPEAT)

    def _on_refused(self, delivery: Delivery, grant: Grant) -> None:
        """BUSY, STALE, SUPERSEDED, GONE or SKIPPED: not ours now. The lane waits; other lanes go on."""
        delivery.step(Event.REFUSED)
        self._leave_alone(delivery)
        self._free_key(delivery)
        partition = delivery.partition
        if grant is Grant.BUSY or grant is Grant.STALE:
            self.counters.add("busy")
            delivery.refusals += 1
            partition.lane.due_ms = self._now_ms + _busy_ms(delivery.refusals)
        elif grant is not Grant.SKIPPED and partition.tenure is Tenure.OWNED:
            self._on_superseded(partition)
        self._return(delivery)

    def _return(self, delivery: Delivery) -> None:
        """Back to the head of its lane or, if the partition is not ours any more, back to Kafka."""
        partition = delivery.partition
        if partition.held:
            self._closed(partition.lane, delivery)
        else:
            self._closed(partition.lane)
            delivery.step(Event.LEAVE)
            self._over(delivery, self._unsettled_outcome(partition))

    def _on_superseded(self, partition: Partition) -> None:
        """Refused: pause, poll, and if Kafka still says it is ours, take a higher epoch (hole 9)."""
        self._note(Kind.SUPERSEDED, partition)
        partition.tenure = Tenure.JOINING
        partition.take_due_ms = self._now_ms + _SUPERSEDED_MS

    # ---------------------------------------------------------------------------------------- completions and releases

    def _on_completion(self, delivery: Delivery, completion: Completion) -> None:
        if completion is Completion.FENCED:
            self._on_fenced(delivery)
            return
        if completion is Completion.FORGOTTEN:
            self.counters.add("forgotten")
            self._note(Kind.FORGOTTEN, delivery.partition, delivery)
        elif completion is Completion.DOUBLED:
            self.counters.add("doubled")
            self._note(Kind.DOUBLED, delivery.partition, delivery)
        delivery.step(Event.WRITTEN)
        self._free_key(delivery)
        if delivery.phase is Phase.SETTLING:
            self._on_recorded(delivery)
            return
        delivery.partition.frontier.settle(delivery.offset)
        self._over(delivery, Outcome.DEAD_LETTERED if delivery.reason else Outcome.COMPLETED)

    def _on_recorded(self, delivery: Delivery) -> None:
        """At most once, with a store: done is written; now the commit, then the run."""
        self._leave_alone(delivery)
        self._settle_first(delivery.partition, [delivery])

    def _on_fenced(self, delivery: Delivery) -> None:
        self.counters.add("fenced")
        recording = delivery.phase is Phase.RECORDING
        delivery.step(Event.REFUSED)
        if recording:
            self._leave_alone(delivery)
            self._free_key(delivery)
            self._return(delivery)
            return
        self._note(Kind.FENCED, delivery.partition, delivery)
        if delivery.partition.held:
            self._timer.add(self._now_ms + _BUSY_FIRST_MS, delivery)
        else:
            self._leave_unsettled(delivery)

    def _leave_unsettled(self, delivery: Delivery) -> None:
        delivery.step(Event.LEAVE)
        self._free_key(delivery)
        self._over(delivery, self._unsettled_outcome(delivery.partition))

    def _on_confirmation(self, delivery: Delivery, answer: ClaimAnswer, answers: Answers) -> None:
        """Claimed again after it was fenced: on a grant it completes without running (hole 13)."""
        if answer.grant is Grant.DUPLICATE:
            delivery.step(Event.DUPLICATE)
            self.counters.add("doubled")
            self._note(Kind.DOUBLED, delivery.partition, delivery)
            self._free_key(delivery)
            delivery.partition.frontier.settle(delivery.offset)
            self._over(delivery, Outcome.DEAD_LETTERED if delivery.reason else Outcome.COMPLETED)
        elif answer.grant is Grant.ACQUIRED or answer.grant is Grant.RECLAIMED:
            delivery.step(Event.GRANTED)
            delivery.session, delivery.call = answers.session.number, answers.call
            assert self._talk is not None
            self._talk.complete(delivery)
        else:
            delivery.step(Event.REFUSED)
            if answer.grant in (Grant.SUPERSEDED, Grant.GONE) and delivery.partition.tenure is Tenure.OWNED:
                self._on_superseded(delivery.partition)
            if delivery.partition.held:
                delivery.refusals += 1
                self._timer.add(self._now_ms + _busy_ms(delivery.refusals), delivery)
            else:
                self._leave_unsettled(delivery)

    def _give_back(self, delivery: Delivery, *, failed: bool = False, doubt: bool = False) -> None:
        delivery.step(Event.GIVE_BACK)
        self._leave_alone(delivery)
        assert self._talk is not None
        self._talk.give_back(GiveBack(delivery, failed=failed, doubt=doubt))

    def _on_released(self, back: GiveBack) -> None:
        delivery = back.delivery
        delivery.step(Event.RELEASED)
        delivery.alone = False
        self._free_key(delivery)
        self._return(delivery)

    def _leave_alone(self, delivery: Delivery) -> None:
        delivery.alone = False
        if self._alone is delivery:
            self._alone = None

    # -------------------------------------------------------------------------------------------------------- outcomes

    def _unsettled_outcome(self, partition: Partition) -> Outcome:
        return Outcome.DROPPED if partition.tenure is Tenure.GONE else Outcome.HANDED_BACK

    def _over(self, delivery: Delivery, outcome: Outcome) -> None:
        assert delivery.phase is Phase.OVER, delivery.phase
        assert delivery.outcome is None
        delivery.outcome = outcome
        self.counters.add(outcome)
        partition = delivery.partition
        partition.unfinished -= 1
        self.unfinished -= 1
        if partition.paused and partition.unfinished * 2 <= self.rules.buffer:
            self._resume(partition)
        if not partition.unfinished:
            self._end_ownership(partition)

    # ---------------------------------------------------------------------------------------------------------- commits

    def on_committed(self, results: Sequence[CommitResult]) -> None:
        """Kafka's answer to the last commit."""
        self._commits.on_answered(self._now_ms)
        for result in results:
            partition = self._partitions.get(result.mark.partition)
            if result.verdict == "ok":
                self.counters.add("commits")
                if partition is not None:
                    partition.committed = max(result.mark.offset, partition.committed or 0)
                    self._start_awaiting(partition)
                continue
            self.counters.add("commits_refused")
            self._note(Kind.COMMIT_REFUSED, partition, text=f"{result.mark.partition}: {result.reason}")
            if result.verdict == "stop":
                self.stop(ConsumerStopped(f"Kafka refused to commit {result.mark.partition}: {result.reason}"))

    def _start_awaiting(self, partition: Partition) -> None:
        committed = partition.committed or 0
        starting: list[Delivery] = []
        while partition.awaiting and partition.awaiting[0][0] <= committed:
            _, deliveries = partition.awaiting.pop(0)
            starting += deliveries
        if starting:
            self._start(partition.lane, starting)

    # ---------------------------------------------------------------------------------------------------------- decide

    def decide(self, *, commit: bool = True) -> Effects:
        """What to do now. `commit=False`: no commit can be sent at the moment."""
        if self._timer.due(self._now_ms):
            self._on_due()
        if self._talk is None:
            self._choose()
        else:
            self._effects.store = self._next_call(self._talk)
        if commit and (self._talk is None or self._talk.trusted(self._now_ms)):
            self._effects.commit = self._commits.next(self._now_ms, self._partitions.values(), self._talk)
        effects, self._effects = self._effects, Effects()
        return effects

    def commit_last(self) -> list[CommitMark]:
        """The frontiers of what is revoked, or of everything when the process ends, whatever is on its way."""
        if self._talk is not None and not self._talk.trusted(self._now_ms):
            return []
        return self._commits.last(self._partitions.values(), self._talk)

    def _next_call(self, talk: Correspondence) -> StoreCall | None:
        if talk.away:
            return talk.repeat(self._now_ms)
        if talk.session is None:
            return talk.open(self._now_ms, self._entropy)
        joining = [
            partition
            for partition in self._partitions.values()
            if partition.tenure is Tenure.JOINING and partition.take_due_ms <= self._now_ms
        ]
        if joining:
            return talk.take(self._now_ms, joining)
        claims: list[list[Delivery]] = []
        if talk.trusted(self._now_ms) and not self.stopping:
            claims = [*self._choose(), *self._choose_confirmations(), *self._choose_suspect()]
        return talk.exchange(self._now_ms, claims)

    def _choose_confirmations(self) -> list[list[Delivery]]:
        chosen = [d for d in self._unsettled if d.partition.tenure is Tenure.OWNED]
        self._unsettled = [d for d in self._unsettled if d.partition.tenure is not Tenure.OWNED]
        for delivery in chosen:
            delivery.step(Event.CLAIM)
        return [[delivery] for delivery in chosen]

    def _choose_suspect(self) -> list[list[Delivery]]:
        """One suspect at a time per process, so that a message that kills its process is found exactly (hole 17)."""
        if self._alone is not None:
            return []
        for delivery in self._suspects:
            if delivery.partition.tenure is Tenure.OWNED and delivery.partition.lane.open == 1:
                self._suspects.remove(delivery)
                self._alone = delivery
                delivery.alone = True
                delivery.step(Event.CLAIM)
                return [[delivery]]
        return []

    def next_due_ms(self) -> int | None:
        """The next moment at which time alone makes something due."""
        dues = [self._timer.next_due_ms(), self._commits.due_ms]
        if self._talk is not None:
            dues.append(self._talk.next_due_ms())
        known = [due for due in dues if due is not None]
        return min(known) if known else None

    # ----------------------------------------------------------------------------------------------------------- others

    def _pace(self, topic: str) -> Pace:
        pace = self._paces.get(topic)
        if pace is None:
            pace = self._paces[topic] = Pace(self.rules.group_ms, self.rules.group_limit)
        return pace

    def _note(
        self,
        kind: Kind,
        partition: Partition | None = None,
        delivery: Delivery | None = None,
        error: BaseException | None = None,
        text: str = "",
    ) -> None:
        self._effects.notes.append(
            Note(
                kind,
                topic_partition=partition.name if partition else None,
                offset=delivery.offset if delivery else None,
                attempt=delivery.attempts + 1 if delivery else None,
                error=error,
                text=text,
            )
        )


def _busy_ms(refusals: int) -> int:
    return min(_BUSY_FIRST_MS << min(refusals - 1, 10), _BUSY_MOST_MS)


def _reason_of(error: BaseException) -> str:
    return "undecodable payload" if isinstance(error, MessageError) else "rejected"


def _describe(error: BaseException | None) -> str:
    """Our own errors never quote a payload; others are named by their type only."""
    if error is None:
        return "no error"
    return str(error) if isinstance(error, MessageError) else type(error).__name__
