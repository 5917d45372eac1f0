"""What becomes of a message when the store answered: started, settled as a duplicate, put off, completed.

BUSY, STALE, SUPERSEDED, GONE, SKIPPED, FENCED and silence never settle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.claims import ClaimAnswer, Completion, Grant
from kafka_once.core.delivery import Event, Phase, step_all
from kafka_once.core.events import Kind, Outcome
from kafka_once.core.partition import Tenure
from kafka_once.core.retries import backoff_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kafka_once.core.correspondence import Answers, GiveBack
    from kafka_once.core.delivery import Defect, Delivery
    from kafka_once.core.desk import Desk
    from kafka_once.core.partition import Partition

__all__ = ["Claiming"]

_BUSY_FIRST_MS, _BUSY_MOST_MS = 20, 1_000  # between claims of a key that a living holder has
_SUPERSEDED_MS = 250  # before a higher epoch is taken: long enough for a poll to confirm that the partition is ours


class Claiming:
    """`settle_first` is what at most once does with messages whose done is written: commit, then run."""

    def __init__(self, desk: Desk, settle_first: Callable[[Partition, list[Delivery]], None]) -> None:
        self._desk = desk
        self._rules = desk.rules
        self._settle_first = settle_first
        self._unsettled: list[Delivery] = []  # finished, fenced, and due to be claimed again

    def on_answers(self, answers: Answers) -> None:
        desk = self._desk
        if answers.another_server:
            desk.counters.add("store_changes")
            desk.note(Kind.STORE_CHANGED)
            desk.conversation.reminder.hold(desk.lanes.in_flight())
        self._on_said_again(answers)
        self._on_completions(answers.completed)
        for back in answers.released:
            self._on_released(back)
        trusted = desk.conversation.trusted(desk.now_ms)  # not if the session is over
        for group, grants in answers.claimed:
            if group[0].phase is Phase.CONFIRMING:
                self._on_confirmation(group[0], grants[0], answers)
            else:
                self._on_claimed(group, grants, answers, trusted=trusted)

    def _on_said_again(self, answers: Answers) -> None:
        """Another server was told the last completions, and what is held here (`reminder.py`)."""
        desk = self._desk
        for delivery, answer in answers.held:
            if answer.grant is Grant.ACQUIRED or answer.grant is Grant.RECLAIMED:
                delivery.session, delivery.call = answers.session.number, answers.call
            # else somebody else has it, or the partition is not ours any more: its completion will tell
        forgotten = answers.repeated.count(Completion.FORGOTTEN)
        doubled = sum(each is Completion.DOUBLED or each is Completion.FENCED for each in answers.repeated)
        for name, kind, count in (("forgotten", Kind.FORGOTTEN, forgotten), ("doubled", Kind.DOUBLED, doubled)):
            if count:
                desk.counters.add(name, count)
                desk.note(kind, text=f"{count} of the last completions, told again to another server")

    # ----------------------------------------------------------------------------------------------------------- claims

    def _on_claimed(
        self, group: list[Delivery], grants: Sequence[ClaimAnswer], answers: Answers, *, trusted: bool
    ) -> None:
        starting: list[Delivery] = []
        duplicates: list[Delivery] = []
        session, call = answers.session.number, answers.call
        blocked = not trusted or self._desk.stopping or group[0].partition.tenure is not Tenure.OWNED
        for delivery, (grant, attempts, doubt, suspect, fence) in zip(group, grants, strict=True):
            if grant is Grant.DUPLICATE:
                duplicates.append(delivery)
            elif grant is Grant.ACQUIRED or grant is Grant.RECLAIMED:
                delivery.step(Event.GRANTED)
                delivery.session, delivery.call = session, call
                delivery.attempts, delivery.suspect, delivery.fence = attempts, suspect, fence
                delivery.refusals, delivery.overdue = 0, False
                if doubt:
                    self._note_doubt(delivery)
                ordinary = not (attempts or delivery.doubt or delivery.defect)  # a suspect is in doubt, too
                if not blocked and (ordinary or self._starts(delivery, first=not starting)):
                    starting.append(delivery)
                else:  # behind one that cannot start now, everything of the lane is given back
                    blocked = delivery.phase is not Phase.PUBLISHING
                    if delivery.phase is Phase.READY and not delivery.held:
                        self._desk.give_back(delivery)
            else:
                blocked = True
                self._on_refused(delivery, grant)
        if duplicates:
            self._on_duplicates(duplicates)
        if starting:
            self._start(starting)

    def _note_doubt(self, delivery: Delivery) -> None:
        if not delivery.doubt:
            delivery.doubt = True
            self._desk.counters.add("in_doubt")
            self._desk.note(Kind.IN_DOUBT, delivery.partition, delivery)

    def _starts(self, delivery: Delivery, *, first: bool) -> bool:
        """Whether a granted message starts now. If not, it is dead-lettered, held as a suspect, or to be given back.

        In an exclusive lane a suspect is held only as the `first` of its group: held behind one that starts, it would
        overtake it if that one raised.
        """
        desk, rules = self._desk, self._rules
        if delivery.defect is not None:
            self._on_defect(delivery, delivery.defect)
            return False
        if delivery.attempts >= rules.attempts and rules.dead_letter_failures:
            self._on_spent(delivery)
            return False
        if delivery.doubt and rules.dead_letter_doubts:
            desk.condemn(delivery, "in doubt")
            return False
        if delivery.suspect and not delivery.alone:
            if first or not rules.exclusive:
                delivery.held = True
                desk.suspects.add(delivery)
                desk.lanes.leave_place(delivery.lane)
            return False
        return True

    def _on_defect(self, delivery: Delivery, defect: Defect) -> None:
        if defect.fatal:
            self._desk.stop_for(delivery, defect.reason, defect.error)
        else:
            self._desk.condemn_for(delivery, defect)

    def _on_spent(self, delivery: Delivery) -> None:
        """Every attempt is used up, and its process ended at the last one: dead-letter it without one more run.

        Only if that is the policy. If it is to stop, each start tries once more: somebody may have mended the handler,
        or the process was killed from outside each time.
        """
        ended = ", its process ended each time" if delivery.suspect else ""
        self._desk.condemn(delivery, f"attempts exhausted ({delivery.attempts}){ended}")

    def _start(self, deliveries: list[Delivery]) -> None:
        if not self._desk.at_most_once:
            self._desk.start(deliveries)
            return
        for delivery in deliveries:
            delivery.step(Event.RECORD)
        self._desk.conversation.complete(deliveries)

    def _on_duplicates(self, deliveries: list[Delivery]) -> None:
        """All of one lane."""
        desk = self._desk
        step_all(deliveries, Event.DUPLICATE)
        desk.lanes.free_keys(deliveries)
        desk.ran(deliveries)
        known = deliveries[0].partition.claimed_up_to
        assert known is not None  # they were claimed, so there is an ownership
        redelivered = [d for d in deliveries if d.offset <= known]
        if redelivered:
            desk.settle(redelivered, Outcome.REDELIVERY)
        if len(redelivered) < len(deliveries):
            desk.settle([d for d in deliveries if d.offset > known], Outcome.REPEAT)

    def _on_refused(self, delivery: Delivery, grant: Grant) -> None:
        """Not ours now. The lane waits; other lanes go on."""
        desk, partition = self._desk, delivery.partition
        delivery.step(Event.REFUSED)
        desk.suspects.leave(delivery)
        desk.lanes.free_keys([delivery])
        if grant is Grant.BUSY or grant is Grant.STALE:
            desk.counters.add("busy")
            delivery.refusals += 1
            delivery.lane.due_ms = desk.now_ms + _busy_ms(delivery.refusals)
        elif grant is not Grant.SKIPPED:
            self._on_superseded(partition)
        desk.return_(delivery)

    def _on_superseded(self, partition: Partition) -> None:
        """Refused: pause, poll, and if Kafka still says it is ours, take a higher epoch (hole 9)."""
        if partition.tenure is Tenure.OWNED:
            self._desk.note(Kind.SUPERSEDED, partition)
            partition.tenure = Tenure.JOINING
            partition.take_due_ms = self._desk.now_ms + _SUPERSEDED_MS

    def choose_suspect(self) -> list[list[Delivery]]:
        delivery = self._desk.suspects.choose()
        if delivery is None:
            return []
        delivery.held = False
        self._desk.lanes.take_place(delivery.lane)
        return [[delivery]]

    # ----------------------------------------------------------------------------------------- completions and releases

    def _on_completions(self, completed: Sequence[tuple[Delivery, Completion]]) -> None:
        """What is as usual is settled together, partition by partition."""
        written: dict[Partition, list[Delivery]] = {}
        partition, together = None, []
        for delivery, completion in completed:
            if completion is not Completion.APPLIED or delivery.phase is not Phase.COMPLETING or delivery.reason:
                self._on_completion(delivery, completion)
                continue
            if delivery.partition is not partition:
                partition = delivery.partition
                together = written.setdefault(partition, [])
            together.append(delivery)
        for deliveries in written.values():
            self._on_written(deliveries)

    def _on_written(self, deliveries: list[Delivery]) -> None:
        """All of one partition, and their handlers returned."""
        step_all(deliveries, Event.WRITTEN)
        self._desk.lanes.free_keys(deliveries)
        self._desk.settle(deliveries, Outcome.COMPLETED)

    def _on_completion(self, delivery: Delivery, completion: Completion) -> None:
        desk = self._desk
        if completion is Completion.FENCED:
            self._on_fenced(delivery)
            return
        if completion is Completion.DOUBLED and delivery.phase is Phase.RECORDING:
            self._on_duplicates([delivery])  # at most once, and another session was first: it runs there
            return
        if completion is Completion.FORGOTTEN:
            desk.counters.add("forgotten")
            desk.note(Kind.FORGOTTEN, delivery.partition, delivery)
        elif completion is Completion.DOUBLED:
            desk.counters.add("doubled")
            desk.note(Kind.DOUBLED, delivery.partition, delivery)
        delivery.step(Event.WRITTEN)
        desk.lanes.free_keys([delivery])
        if delivery.phase is Phase.SETTLING:
            desk.suspects.leave(delivery)
            self._settle_first(delivery.partition, [delivery])
        else:
            desk.settle([delivery], _outcome_of(delivery))

    def _on_fenced(self, delivery: Delivery) -> None:
        desk = self._desk
        desk.counters.add("fenced")
        delivery.step(Event.REFUSED)
        if delivery.phase is Phase.WAITING:  # done was to be written before the run, and it never ran
            desk.suspects.leave(delivery)
            desk.lanes.free_keys([delivery])
            desk.return_(delivery)
            return
        desk.note(Kind.FENCED, delivery.partition, delivery)
        self._confirm_later(delivery)

    def _on_released(self, back: GiveBack) -> None:
        if back.runs_on:  # the key is free in the store; here it is in flight until the handler ends
            return
        delivery = back.delivery
        delivery.step(Event.RELEASED)
        delivery.held = False
        self._desk.lanes.free_keys([delivery])
        self._desk.return_(delivery)

    # -------------------------------------------------------------------------------------------- finished, not settled

    def _confirm_later(self, delivery: Delivery) -> None:
        if delivery.partition.held:
            delivery.refusals += 1
            self._desk.lanes.timer.add(self._desk.now_ms + _busy_ms(delivery.refusals), delivery)
        else:
            self._leave_unsettled(delivery)

    def on_confirmation_due(self, delivery: Delivery) -> None:
        if delivery.partition.held:
            self._unsettled.append(delivery)
        else:
            self._leave_unsettled(delivery)

    def choose_confirmations(self) -> list[list[Delivery]]:
        chosen = [d for d in self._unsettled if d.partition.tenure is Tenure.OWNED]
        self._unsettled = [d for d in self._unsettled if d.partition.tenure is not Tenure.OWNED]
        for delivery in chosen:
            delivery.step(Event.CLAIM)
        return [[delivery] for delivery in chosen]

    def _on_confirmation(self, delivery: Delivery, answer: ClaimAnswer, answers: Answers) -> None:
        """Claimed again after it was fenced: on a grant it completes without running (hole 13)."""
        desk = self._desk
        if answer.grant is Grant.DUPLICATE:
            delivery.step(Event.DUPLICATE)
            desk.counters.add("doubled")
            desk.note(Kind.DOUBLED, delivery.partition, delivery)
            desk.lanes.free_keys([delivery])
            desk.settle([delivery], _outcome_of(delivery))
        elif answer.grant is Grant.ACQUIRED or answer.grant is Grant.RECLAIMED:
            delivery.step(Event.GRANTED)
            delivery.session, delivery.call = answers.session.number, answers.call
            desk.conversation.complete([delivery])
        else:
            delivery.step(Event.REFUSED)
            if answer.grant is Grant.SUPERSEDED or answer.grant is Grant.GONE:
                self._on_superseded(delivery.partition)
            self._confirm_later(delivery)

    def hand_back(self, partition: Partition) -> None:
        """The partition is not ours any more: what has not started is given back, what is fenced is left."""
        for delivery in self._desk.suspects.withdraw(partition):
            self._desk.give_back(delivery)
        for delivery in [d for d in self._unsettled if d.partition is partition]:
            self._unsettled.remove(delivery)
            self._leave_unsettled(delivery)

    def on_session_over(self) -> None:
        """A lapsed session is over: what had not started is given back, and claimed again under the next one."""
        for delivery in self._desk.suspects.withdraw():
            self._desk.give_back(delivery)

    def _leave_unsettled(self, delivery: Delivery) -> None:
        self._desk.lanes.free_keys([delivery])
        self._desk.leave(delivery)


def _outcome_of(delivery: Delivery) -> Outcome:
    return Outcome.DEAD_LETTERED if delivery.reason else Outcome.COMPLETED


def _busy_ms(refusals: int) -> int:
    return backoff_ms(refusals, _BUSY_FIRST_MS, _BUSY_MOST_MS, jitter=0.0)
