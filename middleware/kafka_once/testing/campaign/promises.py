"""What a campaign came to, in numbers, and which promises of its semantics are broken."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from kafka_once.core.semantics import Semantics
from kafka_once.testing.campaign import checker
from kafka_once.testing.campaign.attribution import NOBODY, doubts_by_life
from kafka_once.testing.campaign.checker import KillReport, Rerun
from kafka_once.testing.campaign.history import History

__all__ = ["TAKEOVER_P95_S", "Verdict", "broken_bounds", "judge"]

TAKEOVER_P95_S = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of it, as counts.

    Attributes:
        distinct, lost, stuck, doubled, doubled_unreported: keys.
        deliveries: what Kafka's client handed over in all processes, counted where the library takes it.
        processings: effects, that is lines of the ledger.
        run_again: effects after the first of their key that a crash explains: the key is listed in doubt, or it is the
            same message again. `run_again_unreported`: of these, the ones that are not listed.
        repeats_processed: all other effects after the first of their key.
        in_doubt: entries of the library's list.
        broken: a sentence for each promise that was not kept.
    """

    distinct: int
    deliveries: int
    processings: int
    lost: int
    stuck: int
    doubled: int
    doubled_unreported: int
    run_again: int
    run_again_unreported: int
    repeats_processed: int
    in_doubt: int
    kills: list[KillReport]
    takeovers_s: list[float]
    lately_ms: float = checker.LATELY_MS
    broken: list[str] = field(default_factory=list)

    @property
    def kills_at_work(self) -> int:
        return sum(report.at_work for report in self.kills)

    def takeover_s(self, share: float) -> float | None:
        """The time within which that share of the takeovers was done (nearest rank); None without any."""
        if not self.takeovers_s:
            return None
        return self.takeovers_s[math.ceil(share * len(self.takeovers_s)) - 1]


def judge(history: History, semantics: Semantics, lately_ms: float = checker.LATELY_MS) -> Verdict:
    """Count everything, and compare it with what the semantics promises. `lately_ms`: see `checker.examine_kills`."""
    doubled = checker.find_reruns(history.ledger)
    unreported = checker.find_unreported(history, doubled)
    unexplained = [rerun for rerun in unreported if rerun.is_repeat]
    verdict = Verdict(
        distinct=len({sent.key for sent in history.sent}),
        deliveries=sum(event.number for event in history.events if event.kind == "polled"),
        processings=len(history.ledger),
        lost=len(checker.find_lost(history)),
        stuck=len(checker.find_stuck(history)),
        doubled=len(_keys(doubled)),
        doubled_unreported=len(_keys(unreported)),
        run_again=len(doubled) - len(unexplained),
        run_again_unreported=len(unreported) - len(unexplained),
        repeats_processed=len(unexplained),
        in_doubt=len(history.reported),
        kills=checker.examine_kills(history, lately_ms),
        takeovers_s=checker.takeover_times_s(history),
        lately_ms=lately_ms,
    )
    verdict.broken.extend(_broken_everywhere(history, verdict))
    if semantics is not Semantics.AT_MOST_ONCE:
        _must_be_none(verdict.broken, "lost", verdict.lost)
    if semantics is Semantics.EFFECTIVELY_ONCE:
        verdict.broken.extend(_broken_once(history, verdict, doubled))
    return verdict


def _broken_everywhere(history: History, verdict: Verdict) -> list[str]:
    broken: list[str] = []
    _must_be_none(broken, "stuck: not settled at the deadline", verdict.stuck)
    _must_be_none(broken, "ran but were never sent", len(checker.find_unknown(history)))
    for exit_ in history.exits:
        if not exit_.asked:
            broken.append(f"{exit_.life} ended by itself, with exit code {exit_.code}")
        elif exit_.code != 0:
            broken.append(f"{exit_.life} did not end cleanly after SIGTERM: exit code {exit_.code}")
    broken += [
        f"{event.life} ended cleanly with {event.number} deliveries without an outcome"
        for event in history.events
        if event.kind == "unaccounted" and event.number
    ]
    return broken


def _broken_once(history: History, verdict: Verdict, doubled: list[Rerun]) -> list[str]:
    broken: list[str] = []
    _must_be_none(broken, "doubled and not in the list of what was in doubt", verdict.doubled_unreported)
    _must_be_none(broken, "repeats processed", verdict.repeats_processed)
    begun_again = checker.find_reruns(history.starts)
    _must_be_none(broken, "begun again and not in the list", len(_keys(checker.find_unreported(history, begun_again))))
    _must_be_none(
        broken,
        "begun again by a handler that was not told so (message.in_doubt)",
        sum(not rerun.later.in_doubt for rerun in begun_again),
    )
    unheld = doubts_by_life(history)[NOBODY]
    _must_be_none(broken, "reported in doubt though no killed process can have held their claims", len(unheld))
    killed = {kill.life for kill in history.kills}
    _must_be_none(broken, "doubled though nobody was killed", sum(r.earlier.life not in killed for r in doubled))
    return broken


def broken_bounds(verdict: Verdict) -> list[str]:
    """What effectively once promises of each single kill: how much may run again, and how much may be in doubt.

    - What runs again was running, or its completion was on its way.
    - What had begun and is in doubt was running, or its completion was on its way.
    - Nothing else is in doubt but claims on their way: one per lane in all. A claim stands in the store before its
      handler begins, for as long as the answer is on its way; no store can tell that from a handler that has begun.
    """
    return [
        sentence
        for number, report in enumerate(verdict.kills, 1)
        for sentence in _broken_by_kill(verdict, number, report)
    ]


def _broken_by_kill(verdict: Verdict, number: int, report: KillReport) -> list[str]:
    broken = []
    name = f"kill {number} ({report.kill.life})"
    allowed = report.running + report.lately
    what = f"{report.running} were running and {report.lately} had ended within the last {verdict.lately_ms:g} ms"
    if report.again > allowed:
        broken.append(f"{name}: {report.again} ran again, {what}")
    if report.doubt_running + report.doubt_ended > allowed:
        broken.append(f"{name}: {report.doubt_running + report.doubt_ended} that had begun reported in doubt, {what}")
    if report.in_doubt > report.lanes:
        broken.append(f"{name}: {report.in_doubt} reported in doubt, its lanes were {report.lanes}")
    return broken


def _keys(reruns: list[Rerun]) -> set[str]:
    return {rerun.later.key for rerun in reruns}


def _must_be_none(broken: list[str], what: str, count: int) -> None:
    if count:
        broken.append(f"{count} {what}")
