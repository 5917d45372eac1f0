"""Decides everything: what is claimed, started, completed, committed, put off. Performs nothing.

The runner tells what happened (`on_*`) and asks what to do (`decide`), over and over; see runner.py. The journey of a
message is in DESIGN.md; its phases are the table of delivery.py; the answers of the store are the table of claims.py.

Rules for maintainers of the engine's parts:
- A handler that ended always has its completion sent, whatever became of its partition (hole 1).
- Nothing starts and nothing is committed while the lease is not trusted, or after the process stood still for too long.
- What is asked of the engine may come in any order: a callback inside a poll, an answer after its partition is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.assignment import Assignment
from kafka_once.core.claiming import Claiming
from kafka_once.core.commits import Commits
from kafka_once.core.delivery import Defect, Delivery, Event, Phase, step_all
from kafka_once.core.desk import Desk
from kafka_once.core.events import Counters, Kind, Stall
from kafka_once.core.handling import Handling
from kafka_once.core.lane import Group, Lane
from kafka_once.core.partition import Partition, Tenure
from kafka_once.core.rules import Effects, Rules, StoreCall
from kafka_once.core.standing import EngineStatus, engine_status
from kafka_once.errors import ConsumerStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kafka_once.core.calls import (
        CommitMark,
        CommitResult,
        Committed,
        ExchangeReply,
        LogBounds,
        Ownership,
        Session,
    )
    from kafka_once.core.correspondence import Correspondence
    from kafka_once.core.order import Order
    from kafka_once.message import Message, TopicPartition

__all__ = ["Engine"]


class Engine:
    """One consumer. Not safe for threads: everything is called from the runner's.

    `order_of` says the order of a topic, where it is not that of the rules for all of them.
    """

    def __init__(
        self, rules: Rules, counters: Counters | None = None, order_of: Callable[[str], Order] | None = None
    ) -> None:
        self.rules = rules
        self.counters = counters or Counters()
        self._desk = Desk(rules, self.counters)
        self._handling = Handling(self._desk)
        self._claiming = Claiming(self._desk, self._settle_first)
        self._commits = Commits(rules.commit_every_ms, rules.mark)
        self._partitions = Assignment(self._desk, self._claiming, order_of, self._commits.urge)
        self._rejoin_why = ""

    # ---------------------------------------------------------------------------------------------------- looked at

    @property
    def stopping(self) -> bool:
        return self._desk.stopping

    @property
    def error(self) -> BaseException | None:
        """Why it stops by itself."""
        return self._desk.error

    @property
    def unfinished(self) -> int:
        """Deliveries without an outcome, those of lost partitions included."""
        return self._desk.unfinished

    def hungry(self) -> bool:
        """Whether more messages are wanted; see `Assignment.hungry`."""
        return self._partitions.hungry()

    @property
    def slow(self) -> bool:
        """Whether a handler is so slow, or so new to us, that its messages start one by one."""
        return self._partitions.slow

    @property
    def store_is_silent(self) -> bool:
        return self._desk.talk is not None and self._desk.talk.silent

    @property
    def stalls(self) -> Sequence[Stall]:
        """Handlers that run for longer than `stalled_after_ms` now. Another thread may look at any time."""
        return self._desk.watch.stalls

    @property
    def locating(self) -> bool:
        """Whether a partition waits for the answers that say where it starts."""
        return any(partition.held and not partition.located for partition in self._partitions.values())

    def status(self) -> EngineStatus:
        """What people are shown; looked at now and then, and always when the time was told just before."""
        return engine_status(self._desk, self._partitions.values())

    def untold(self) -> Effects:
        """Notes and outcomes that no `decide` has given out; for the very end."""
        return self._desk.take_effects()

    def drained(self, names: Sequence[TopicPartition] | None = None) -> bool:
        """Whether nothing of these partitions (of any, if None) is unfinished and the store knows all of it."""
        unfinished = self._desk.unfinished if names is None else self._partitions.unfinished(names)
        talk = self._desk.talk
        return not unfinished and (talk is None or talk.silent or not talk.pending())

    def awaits_commit(self, names: Sequence[TopicPartition] | None = None) -> bool:
        """Whether a handler of these partitions (of any, if None) waits for the answer to a commit (at most once)."""
        if not self._desk.at_most_once:
            return False
        chosen = self._partitions.values() if names is None else [self._partitions.get(name) for name in names]
        return any(partition is not None and partition.awaiting for partition in chosen)

    def next_due_ms(self) -> int | None:
        """The next moment at which time alone makes something due."""
        talk = self._desk.talk
        dues = [self._desk.lanes.timer.next_due_ms(), self._commits.due_ms, talk.next_due_ms() if talk else None]
        return min((due for due in dues if due is not None), default=None)

    # -------------------------------------------------------------------------------------------- time, room, the end

    def tick(self, now_ms: int, entropy: int) -> None:
        """Called before anything is told or asked: the local monotonic clock, and 53 random bits.

        After a gap that is longer than the group waits everything is lost, before anything else can happen. A stop
        between this look and what is done in the same turn is not seen: check and act are two steps.
        """
        self._desk.tick(now_ms, entropy)
        stalled_ms = self._desk.watch.stalled_ms(now_ms)
        if stalled_ms:
            self._fence_self(stalled_ms)

    def _fence_self(self, stalled_ms: int) -> None:
        """No intake, no commit, nothing starts. What had ended is completed; the group is joined anew."""
        text = f"no turn for {stalled_ms / 1000:.1f} s"
        self.counters.add("self_fenced")
        self._desk.note(Kind.SELF_FENCED, text=text)
        self._partitions.lose_all()
        self._desk.effects.withdraw = True
        self._rejoin_why = text

    def on_rejoined(self) -> None:
        """The old membership is given up."""
        self._rejoin_why = ""

    def offer(self, room: int) -> None:
        """How many deliveries the executor takes now; only where lanes are not exclusive."""
        self._desk.lanes.room = room

    def stop(self, error: BaseException | None = None) -> None:
        """Drain: no intake, what runs ends. The first error is the reason that the user is told."""
        self._desk.stop(error)
        self._partitions.leave_all()

    # ------------------------------------------------------------------------------------------------------ partitions

    def on_assigned(self, names: Sequence[TopicPartition]) -> None:
        """Kafka gave us these. Nothing of them is taken before it was looked up where they start (core/start.py)."""
        self._partitions.on_assigned(names)

    def on_looked_up(self, name: TopicPartition, log: LogBounds, committed: Committed | None) -> None:
        """Where its log begins and ends, and what the group has committed."""
        self._partitions.on_looked_up(name, log, committed)

    def on_passed(self, name: TopicPartition, offset: int) -> None:
        """The log holds nothing below `offset` that was not delivered."""
        partition = self._partitions.get(name)
        if partition is not None:
            partition.frontier.pass_to(offset)

    def on_deleted(self, name: TopicPartition, first: int, behind: int) -> None:
        """Kafka deleted messages before they were read."""
        self._partitions.on_deleted(name, first, behind)

    def on_revoked(self, names: Sequence[TopicPartition]) -> None:
        """Stop the intake; what runs ends. Then the runner waits for `drained`, commits, and tells `on_gone`."""
        self._partitions.on_revoked(names)

    def on_lost(self, names: Sequence[TopicPartition]) -> None:
        """No intake, no commit. Running handlers end and their completions are sent."""
        self._partitions.on_lost(names)

    def on_uncommitted(self, names: Sequence[TopicPartition]) -> None:
        """At most once: a revocation does not wait for a commit that Kafka did not take. What awaits it never runs."""
        self._partitions.leave_unrun(names)

    def on_gone(self, names: Sequence[TopicPartition]) -> None:
        """The revocation is over, drained or not."""
        self._partitions.on_gone(names)

    # -------------------------------------------------------------------------------------------------------- messages

    def on_delivered(
        self, name: TopicPartition, messages: Sequence[Message], keys: Sequence[tuple[bytes | None, Defect | None]]
    ) -> None:
        """Messages of one partition in order, and beside each its digest and what is wrong with it."""
        self._partitions.on_delivered(name, messages, keys)

    def on_results(self, group: Group) -> None:
        """A group has new results, and `on_ran` was not called for it yet."""
        self._handling.on_results(group)

    def on_ran(self, group: Group) -> None:
        """A group has ended. Called once for each."""
        self._handling.on_ran(group)

    def on_published(self, delivery: Delivery, error: BaseException | None) -> None:
        """Kafka's answer to a dead letter."""
        self._handling.on_published(delivery, error)

    # --------------------------------------------------------------------------------------------- the store's answers

    def on_session(self, call: StoreCall, session: Session) -> None:
        self._desk.conversation.on_session(call, session)
        self.counters.add("sessions")
        self._answered()
        self._desk.note(Kind.SESSION_OPENED, text=f"session {session.number}")

    def on_ownerships(self, call: StoreCall, ownerships: Sequence[Ownership] | None) -> None:
        joining = self._desk.conversation.on_ownerships(call, session_lives=ownerships is not None)
        self._answered()
        if ownerships is None:
            self._partitions.on_session_over()
            return
        for partition, ownership in zip(joining, ownerships, strict=False):
            self._partitions.on_ownership(partition, ownership)

    def on_exchanged(self, call: StoreCall, reply: ExchangeReply) -> None:
        answers = self._desk.conversation.on_exchanged(call, reply)
        self._answered()
        if answers is None:
            return
        self._desk.lanes.answered(self._desk.now_ms - answers.sent_ms)
        if answers.lapsed:
            self._partitions.on_session_over()
        self._claiming.on_answers(answers)

    def on_silence(self, error: BaseException) -> None:
        """The store gave no definite answer. Fail closed: nothing is claimed, everything is paused, polling goes on."""
        desk = self._desk
        self.counters.add("store_silences")
        desk.conversation.on_silence(desk.now_ms)
        if not desk.all_paused:
            desk.note(Kind.STORE_SILENT, error=error)
            self._partitions.pause_all()

    def on_refusal(self, error: BaseException) -> None:
        """The store answered that repeating will not help: stop. Everything unsettled stays uncommitted."""
        self.stop(error)
        self.on_silence(error)

    def _answered(self) -> None:
        desk = self._desk
        self.counters.add("store_calls")
        if desk.all_paused:
            desk.note(Kind.STORE_BACK)
            self._partitions.resume_all()

    # --------------------------------------------------------------------------------------------------------- commits

    def on_committed(self, results: Sequence[CommitResult]) -> None:
        """Kafka's answer to a commit."""
        self._commits.on_answered(self._desk.now_ms)
        for result in results:
            partition = self._partitions.get(result.mark.partition)
            if result.verdict == "ok":
                self.counters.add("commits")
                if partition is not None and result.mark.offset <= (partition.frontier.next_offset or 0):
                    partition.committed = committed = max(result.mark.offset, partition.committed or 0)
                    self._start_awaiting(partition, committed)  # else it answers a commit of an earlier assignment
                continue
            self.counters.add("commits_refused")
            self._desk.note(Kind.COMMIT_REFUSED, partition, text=f"{result.mark.partition}: {result.reason}")
            if result.verdict == "stop":
                self.stop(ConsumerStopped(f"Kafka refused to commit {result.mark.partition}: {result.reason}"))

    def _settle_first(self, partition: Partition, deliveries: list[Delivery]) -> None:
        """At most once: the offset is committed, and the commit answered, before the handler starts."""
        for delivery in deliveries:
            partition.frontier.settle(delivery.offset)
            delivery.settled = True
        if partition.tenure is Tenure.GONE:
            for delivery in deliveries:
                self._desk.leave_unrun(delivery)
        else:
            partition.awaiting.append((deliveries[-1].offset + 1, deliveries))
            self._commits.urge()

    def _start_awaiting(self, partition: Partition, committed: int) -> None:
        starting: list[Delivery] = []
        while partition.awaiting and partition.awaiting[0][0] <= committed:
            _, deliveries = partition.awaiting.pop(0)
            starting += deliveries
        if starting:
            self._desk.start(starting)

    def commit_last(self) -> list[CommitMark]:
        """The frontiers of what is revoked, or of everything when the process ends, whatever is on its way."""
        return self._commits.last(self._partitions.values(), self._desk.talk) if self._may_commit() else []

    def _may_commit(self) -> bool:
        """Not in a membership that is to be given up either: what it is assigned meanwhile is lost with it."""
        desk = self._desk
        return not self._rejoin_why and (desk.talk is None or desk.talk.trusted(desk.now_ms))

    # ---------------------------------------------------------------------------------------------------------- decide

    def decide(self) -> Effects:
        """What to do now."""
        desk = self._desk
        self._on_due()
        desk.watch.look()
        if desk.stopping:  # perhaps by ourselves, since the last turn
            self._partitions.leave_all()
        else:
            desk.effects.rejoin = self._rejoin_why
        if desk.talk is None:
            self._choose()
        else:
            desk.effects.calls = self._next_calls(desk.talk)
        if self._may_commit():
            desk.effects.commit = self._commits.next(desk.now_ms, self._partitions.values(), desk.talk)
        return desk.take_effects()

    def _on_due(self) -> None:
        for item in self._desk.lanes.timer.take_due(self._desk.now_ms):
            if isinstance(item, Lane):
                self._desk.lanes.relist(item)
            elif item.phase is Phase.PUBLISHING:
                self._desk.effects.publish.append(item)
            else:
                self._claiming.on_confirmation_due(item)

    def _next_calls(self, talk: Correspondence) -> list[StoreCall]:
        now_ms = self._desk.now_ms
        if not talk.open_to_more():
            return talk.repeat(now_ms)
        if talk.session is None:
            return [talk.open(now_ms, self._desk.entropy)]
        joining = self._partitions.joining(now_ms)
        if joining:
            return [talk.take(now_ms, joining)] if talk.idle else []
        claims: list[list[Delivery]] = []
        if talk.trusted(now_ms) and not talk.reminder.pending():
            claiming = self._claiming
            claims = [*claiming.choose_suspect(), *self._choose(), *claiming.choose_confirmations()]
        call = talk.exchange(now_ms, claims)
        return [] if call is None else [call]

    def _choose(self) -> list[list[Delivery]]:
        """The groups to claim; those that need no claim are started at once."""
        claims = []
        for group in self._desk.lanes.choose():
            head = group[0]
            if head.defect is not None and head.digest is None:
                self._desk.on_defect(head, head.defect)
            elif head.digest is None:
                self._start_unclaimed(group)
            else:
                step_all(group, Event.CLAIM)
                claims.append(group)
        return claims

    def _start_unclaimed(self, deliveries: list[Delivery]) -> None:
        if self._desk.protects:
            self.counters.add("unprotected", len(deliveries))
        if self._desk.at_most_once:
            step_all(deliveries, Event.SETTLE)
            self._settle_first(deliveries[0].partition, deliveries)
        else:
            self._desk.start(deliveries)
