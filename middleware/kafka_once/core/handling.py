"""What becomes of a message when its handler ended: completed, tried again, dead-lettered, or the reason to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.delivery import Event, step_all
from kafka_once.core.events import Kind, Outcome
from kafka_once.core.lane import Group
from kafka_once.core.partition import Tenure
from kafka_once.core.retries import Verdict, backoff_ms, classify
from kafka_once.core.standing import note_sign_of_life

if TYPE_CHECKING:
    from kafka_once.core.delivery import Delivery
    from kafka_once.core.desk import Desk

__all__ = ["Handling"]

_PUBLISH_AGAIN_MS = 500
_UNIT = 1 << 53  # entropy is a whole number below it


class Handling:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rules = desk.rules

    def on_results(self, group: Group) -> None:
        """Look at the new results of a group that runs; by now it may have ended, which `on_ran` is told of."""
        errors = group.results[group.seen :]
        if errors:
            self._desk.watch.went_on(group)
            self._on_new(group, errors)

    def on_ran(self, group: Group) -> None:
        """A group has ended: told once, by who ran it. A mark on the group, looked at instead, would be found twice."""
        self._desk.watch.over(group)
        errors = group.results[group.seen :]
        if errors:
            self._on_new(group, errors)
        if group.seen:
            group.lane.partition.pace.observe(group.seen, group.took_ms)
        if group.seen < len(group.deliveries):
            self._on_unstarted(group)

    def _on_new(self, group: Group, errors: list[BaseException | None]) -> None:
        deliveries = group.deliveries[group.seen : group.seen + len(errors)]
        group.seen += len(errors)
        last = errors[-1]  # only the last one can have raised
        if last is None:
            self._on_returned(deliveries)
        else:
            self._on_returned(deliveries[:-1])
            self._on_raised(deliveries[-1], last)

    def _unclaimed(self, delivery: Delivery) -> bool:
        """No claim is to be completed or released after its run: it has none, or was settled before."""
        return delivery.digest is None or delivery.settled

    def _on_returned(self, deliveries: list[Delivery]) -> None:
        if not deliveries:
            return
        desk = self._desk
        desk.counters.add("processings", len(deliveries))
        if self._unclaimed(deliveries[0]):  # as all of a group are, or none
            self._end(deliveries, Outcome.COMPLETED)
        else:
            desk.complete(deliveries)
            desk.ran(deliveries)

    def _end(self, deliveries: list[Delivery], outcome: Outcome) -> None:
        step_all(deliveries, Event.END)
        self._desk.ran(deliveries)
        if deliveries[0].settled:
            self._desk.over(deliveries, outcome)
        else:
            self._desk.settle(deliveries, outcome)

    def _on_unstarted(self, group: Group) -> None:
        """An earlier one of the group raised, or the hand-out took them back."""
        unstarted = group.deliveries[group.seen :]
        if self._desk.at_most_once and group.lane.partition.tenure is not Tenure.GONE:
            self._desk.begin(unstarted, claimed=False)  # settled already: they can only go on
            return
        for delivery in unstarted:
            if delivery.settled:
                self._end([delivery], Outcome.SKIPPED)
            elif delivery.digest is None:
                self._wait_again(delivery)
            else:
                self._desk.give_back(delivery)

    def _wait_again(self, delivery: Delivery) -> None:
        delivery.step(Event.AGAIN)
        self._desk.return_(delivery)

    # -------------------------------------------------------------------------------------------------------- it raised

    def _on_raised(self, delivery: Delivery, error: BaseException) -> None:
        self._desk.counters.add("failures")
        note_sign_of_life(delivery.partition, delivery.offset, self._desk.now_ms)
        delivery.error = error
        verdict = classify(error)
        if self._desk.at_most_once:
            self._on_raised_at_most_once(delivery, error, verdict)
        elif verdict is Verdict.FATAL:
            self._again(delivery)
            self._desk.stop(error)
        elif verdict is Verdict.ABANDONED:
            self._again(delivery, failed=False, doubt=True)
        elif delivery.partition.tenure is Tenure.GONE:
            self._again(delivery, doubt=verdict is Verdict.DOUBT)
        elif verdict is Verdict.DOUBT:
            self._on_doubt(delivery, error)
        elif verdict is Verdict.REJECT:
            self._give_up(delivery, "undecodable payload", self._rules.dead_letter_payloads)
        elif delivery.attempts + 1 >= self._rules.attempts:
            reason = f"attempts exhausted ({delivery.attempts + 1})"
            self._give_up(delivery, reason, self._rules.dead_letter_failures)
        else:
            self._retry(delivery, error)

    def _on_doubt(self, delivery: Delivery, error: BaseException) -> None:
        """The doubt goes into the store first, which lists it; the next claim then says what the policy makes of it."""
        desk, rules = self._desk, self._rules
        last = delivery.attempts + 1 >= rules.attempts
        if delivery.digest is None:  # nobody to list it; the message itself says so
            delivery.doubt = True
            if rules.dead_letter_doubts:
                desk.condemn(delivery, "in doubt")
            elif last:
                self._give_up(delivery, f"attempts exhausted ({delivery.attempts + 1})", rules.dead_letter_failures)
            else:
                self._retry(delivery, error)
        elif rules.dead_letter_doubts or (last and rules.dead_letter_failures):
            self._again(delivery, doubt=True)
        elif last:
            self._again(delivery, failed=False, doubt=True)
            desk.stop_for(delivery, f"attempts exhausted ({delivery.attempts + 1})", error)
        else:
            self._retry(delivery, error, doubt=True)

    def _on_raised_at_most_once(self, delivery: Delivery, error: BaseException, verdict: Verdict) -> None:
        self._desk.note(Kind.SKIPPED, delivery.partition, delivery, error)
        if self._rules.dead_letter_failures and verdict is not Verdict.FATAL:
            self._desk.condemn(delivery, "raised, and at most once")
        else:
            self._end([delivery], Outcome.SKIPPED)
        if verdict is Verdict.FATAL:
            self._desk.stop(error)

    def _retry(self, delivery: Delivery, error: BaseException, *, doubt: bool = False) -> None:
        desk, rules = self._desk, self._rules
        desk.counters.add("retries")
        desk.note(Kind.RAISED, delivery.partition, delivery, error)
        wait_ms = backoff_ms(delivery.attempts + 1, rules.backoff_ms, rules.backoff_most_ms, desk.entropy / _UNIT)
        delivery.lane.due_ms = desk.now_ms + wait_ms
        self._again(delivery, doubt=doubt)

    def _again(self, delivery: Delivery, *, failed: bool = True, doubt: bool = False) -> None:
        """Another attempt may follow, here or with another member."""
        if delivery.digest is None:
            delivery.attempts += 1 if failed else 0
            self._wait_again(delivery)
        else:
            self._desk.give_back(delivery, failed=failed, doubt=doubt)

    def _give_up(self, delivery: Delivery, reason: str, dead_letter: bool) -> None:
        if dead_letter:
            self._desk.note_giving_up(delivery, delivery.error)
            self._desk.condemn(delivery, reason)
        else:  # not counted: with a handler that was mended, the next start tries it once more
            self._again(delivery, failed=False)
            self._desk.stop_for(delivery, reason, delivery.error)

    # ----------------------------------------------------------------------------------------------------- dead letters

    def on_published(self, delivery: Delivery, error: BaseException | None) -> None:
        """Confirmed by Kafka, or not: then it is published again. A dead letter blocks rather than being dropped."""
        desk = self._desk
        if error is not None:
            desk.note(Kind.UNPUBLISHED, delivery.partition, delivery, error)
            desk.lanes.timer.add(desk.now_ms + _PUBLISH_AGAIN_MS, delivery)
            return
        desk.note(Kind.DEAD_LETTERED, delivery.partition, delivery, text=delivery.reason)
        if self._unclaimed(delivery):
            self._end([delivery], Outcome.DEAD_LETTERED)
        else:
            desk.complete([delivery])
            desk.ran([delivery])
