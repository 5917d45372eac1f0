"""Where reading a partition starts after an assignment: facts in, decision out. Nothing is delivered before it.

Three parties know where we were: the group's committed offset, the frontier in the store (of this topic, by its id),
and the log itself. First the committed offset is compared with the frontier, one row per case:

| committed | stored frontier | case | starts at |
|---|---|---|---|
| nothing | none | FIRST | what `auto.offset.reset` says |
| nothing | known | OFFSETS_GONE: expired, or deleted | the frontier |
| by us | none, behind, the same | RESUMED: the store hears of a frontier after Kafka | the committed offset |
| by us | ahead | COMMIT_LOST: a lost commit, or a zombie's that came late | the frontier |
| by others | none | ADOPTED: a first start beside a running pipeline | the committed offset |
| by others | the same | RESUMED | the committed offset |
| by others | ahead | RESET_BACK: an operator's reset | the committed offset; the frontier goes back with it |
| by others | behind | RESET_AHEAD: an operator's reset, or somebody else's consumer | the committed offset |
| for an earlier topic of that name | none | TOPIC_RECREATED | the log's start, whatever `auto.offset.reset` says |
| for an earlier topic of that name | known | COMMIT_LOST | the frontier |

By us: with our mark, and the mark names that very offset (core/marks.py). A commit of ours is always a frontier of
definite answers, so it is safe wherever it stands; it can only be too low. If the store gave us an epoch that the mark
carries already, the store forgot: MEMORY_LOST, beside the case above. Then what is found is held against the log:

| position | case | starts at |
|---|---|---|
| before the log's start | MESSAGES_DELETED: retention was faster than we | the log's start |
| behind the log's end, or the client found another log there | LOG_TRUNCATED | nowhere; by policy at the log's start |

What of it stops the consumer is in `_STOPS`. The default stops only where going on could lose a message or run the
whole log again: when the log was truncated, nobody knows which of its messages are new.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, NamedTuple

from kafka_once.core.marks import Mark, read_mark
from kafka_once.core.semantics import ConflictPolicy, StartReset

if TYPE_CHECKING:
    from kafka_once.core.calls import Committed, LogBounds

__all__ = ["Case", "Facts", "Finding", "Start", "Stored", "Whose", "decide", "refuses"]


class Case(StrEnum):
    """What was found. Those that are reported are `Kind`s of the same value."""

    FIRST = auto()
    RESUMED = auto()
    ADOPTED = auto()
    OFFSETS_GONE = auto()
    COMMIT_LOST = auto()
    RESET_BACK = auto()
    RESET_AHEAD = auto()
    TOPIC_RECREATED = auto()
    MEMORY_LOST = auto()
    MESSAGES_DELETED = auto()
    LOG_TRUNCATED = auto()


class Whose(Enum):
    """Who committed the group's offset."""

    NOBODYS = auto()
    OURS = auto()
    OTHERS = auto()
    EARLIER = auto()  # of an earlier topic of that name


class Stored(Enum):
    """The stored frontier, seen from the committed offset; where none counts it is NONE or AHEAD."""

    NONE = auto()
    BEHIND = auto()
    SAME = auto()
    AHEAD = auto()


class _From(Enum):
    RESET = auto()
    COMMITTED = auto()
    FRONTIER = auto()
    LOG_START = auto()


class Facts(NamedTuple):
    """Attributes:
    log: the partition's bounds and the topic's id.
    committed: what the group has committed, None if nothing.
    mark: what our marks begin with.
    frontier: as the store has it (next offset, leader epoch), None if none is stored for this topic.
    epoch: of the ownership that was just taken; 0 without a store.
    earlier_topic: the store knows an earlier topic of that name.
    """

    log: LogBounds
    committed: Committed | None
    mark: str
    frontier: tuple[int, int | None] | None = None
    epoch: int = 0
    earlier_topic: bool = False


class Finding(NamedTuple):
    """Something to report. `times`: how many offsets for MESSAGES_DELETED, else 1."""

    case: Case
    text: str
    times: int


@dataclass(slots=True)
class Start:
    """Attributes:
    case: the row of the first table.
    offset, leader_epoch: where reading starts.
    commit: at once, although nothing was settled here: what was read as committed does not count.
    rewind: the stored frontier goes back to `offset`.
    findings: what to report.
    stop: why not to start at all, with the remedy; empty if it starts.
    """

    case: Case
    offset: int
    leader_epoch: int | None = None
    commit: bool = False
    rewind: bool = False
    findings: tuple[Finding, ...] = ()
    stop: str = ""


_ROWS: dict[tuple[Whose, Stored], tuple[Case, _From]] = {
    (Whose.NOBODYS, Stored.NONE): (Case.FIRST, _From.RESET),
    (Whose.NOBODYS, Stored.AHEAD): (Case.OFFSETS_GONE, _From.FRONTIER),
    (Whose.OURS, Stored.NONE): (Case.RESUMED, _From.COMMITTED),
    (Whose.OURS, Stored.BEHIND): (Case.RESUMED, _From.COMMITTED),
    (Whose.OURS, Stored.SAME): (Case.RESUMED, _From.COMMITTED),
    (Whose.OURS, Stored.AHEAD): (Case.COMMIT_LOST, _From.FRONTIER),
    (Whose.OTHERS, Stored.NONE): (Case.ADOPTED, _From.COMMITTED),
    (Whose.OTHERS, Stored.BEHIND): (Case.RESET_AHEAD, _From.COMMITTED),
    (Whose.OTHERS, Stored.SAME): (Case.RESUMED, _From.COMMITTED),
    (Whose.OTHERS, Stored.AHEAD): (Case.RESET_BACK, _From.COMMITTED),
    (Whose.EARLIER, Stored.NONE): (Case.TOPIC_RECREATED, _From.LOG_START),
    (Whose.EARLIER, Stored.AHEAD): (Case.COMMIT_LOST, _From.FRONTIER),
}

# Not committed at once: what is committed already; and a reset, before the store has taken the frontier back.
_NOT_AT_ONCE = {Case.RESUMED, Case.RESET_BACK}

_STOPS: dict[ConflictPolicy, set[Case]] = {
    ConflictPolicy.SAFE: {Case.LOG_TRUNCATED},
    ConflictPolicy.STOP: {
        Case.RESET_AHEAD,
        Case.TOPIC_RECREATED,
        Case.MEMORY_LOST,
        Case.MESSAGES_DELETED,
        Case.LOG_TRUNCATED,
    },
    ConflictPolicy.GO_ON: set(),
}

# One sentence per case, of the facts that it has, and what a person can do where it may stop.
_TEXTS: dict[Case, str] = {
    Case.OFFSETS_GONE: "the group has no committed offset any more; goes on at the stored frontier {frontier[0]}",
    Case.COMMIT_LOST: "committed is {committed.offset}, the stored frontier is {frontier[0]}: goes on there",
    Case.RESET_BACK: "somebody set the group's offset back from {frontier[0]} to {committed.offset}: goes on there",
    Case.RESET_AHEAD: (
        "somebody committed {committed.offset}, the stored frontier is {frontier[0]}: "
        "what lies between was not settled here"
    ),
    Case.TOPIC_RECREATED: "the topic was deleted and made anew: starts at the new log's start {log.start}",
    Case.MEMORY_LOST: (
        "the commit at {committed.offset} carries our epoch {mark.epoch}, and the store gave us {epoch}: it forgot"
    ),
    Case.MESSAGES_DELETED: "offsets {position} to {before_start} were deleted before they were read",
    Case.LOG_TRUNCATED: (
        "position {position} is not in the log, which goes from {log.start} to {log.end}: it was truncated"
    ),
}

_REMEDIES: dict[Case, str] = {
    Case.RESET_AHEAD: "if that is meant, go on from there; else set the group's offset back. {once}",
    Case.TOPIC_RECREATED: "if that is meant, go on. {once}",
    Case.MEMORY_LOST: "if the store is the right one, go on: what it forgot may run again. {once}",
    Case.MESSAGES_DELETED: "they cannot be brought back from this log. {once}",
    Case.LOG_TRUNCATED: (
        "nobody knows which of its messages are new: set the group's offset to where to go on "
        "(kafka-consumer-groups --reset-offsets), or read the log from its start. {once}"
    ),
}

_ONCE = 'Start once with on_position_conflict="go_on" to do so'


def decide(facts: Facts, reset: StartReset, policy: ConflictPolicy) -> Start:
    """Where to start, what to report, and whether to start at all."""
    case, source = _ROWS[_whose(facts), _stored(facts)]
    if source is _From.RESET and reset is StartReset.ERROR:
        remedy = 'commit one for the group, or set kafka={"auto.offset.reset": "earliest"}'
        return Start(case, facts.log.start, stop=f"the group has no offset, and auto.offset.reset is error: {remedy}")
    offset, leader_epoch = _place(facts, source, reset)
    start = Start(case, offset, leader_epoch, commit=case not in _NOT_AT_ONCE, rewind=case is Case.RESET_BACK)
    found = [(case, 1)] if case in _TEXTS else []
    if _forgot(facts):
        found.append((Case.MEMORY_LOST, 1))
        start.commit = not start.rewind  # under the store's own epoch, so that it is told once
    if source is _From.COMMITTED or source is _From.FRONTIER:
        found += _hold_against_log(start, facts.log)
    _report(start, facts, found, offset, policy)
    return start


def refuses(policy: ConflictPolicy, case: Case) -> bool:
    """Whether the policy stops the consumer at this."""
    return case in _STOPS[policy]


def _mark_of(facts: Facts) -> Mark | None:
    if facts.committed is None:
        return None
    mark = read_mark(facts.mark, facts.committed.metadata)
    return mark if mark is not None and mark.offset == facts.committed.offset else None


def _whose(facts: Facts) -> Whose:
    if facts.committed is None:
        return Whose.EARLIER if facts.earlier_topic and facts.frontier is None else Whose.NOBODYS
    mark = _mark_of(facts)
    if mark is None:
        return Whose.OTHERS
    both_told = bool(mark.topic_id and facts.log.topic_id)
    return Whose.EARLIER if both_told and mark.topic_id != facts.log.topic_id else Whose.OURS


def _stored(facts: Facts) -> Stored:
    if facts.frontier is None:
        return Stored.NONE
    if facts.committed is None or _whose(facts) is Whose.EARLIER:
        return Stored.AHEAD
    frontier, committed = facts.frontier[0], facts.committed.offset
    if frontier > committed:
        return Stored.AHEAD
    return Stored.SAME if frontier == committed else Stored.BEHIND


def _place(facts: Facts, source: _From, reset: StartReset) -> tuple[int, int | None]:
    if source is _From.COMMITTED:
        assert facts.committed is not None
        return facts.committed.offset, facts.committed.leader_epoch
    if source is _From.FRONTIER:
        assert facts.frontier is not None
        return facts.frontier
    at_end = source is _From.RESET and reset is StartReset.LATEST
    return (facts.log.end if at_end else facts.log.start), None


def _forgot(facts: Facts) -> bool:
    """An epoch only grows: one that a commit carries was given out before."""
    if _whose(facts) is not Whose.OURS:
        return False
    mark = _mark_of(facts)
    assert mark is not None
    return 0 < facts.epoch <= mark.epoch


def _hold_against_log(start: Start, log: LogBounds) -> list[tuple[Case, int]]:
    before = log.start - start.offset
    truncated = log.diverged or start.offset > log.end
    if before <= 0 and not truncated:
        return []
    start.offset, start.leader_epoch = log.start, None
    if truncated:  # the stored frontier belongs to a log that is no more
        start.rewind = start.commit = True
        return [(Case.LOG_TRUNCATED, 1)]
    start.commit = not start.rewind
    return [(Case.MESSAGES_DELETED, before)]


def _report(start: Start, facts: Facts, found: list[tuple[Case, int]], position: int, policy: ConflictPolicy) -> None:
    values = facts._asdict() | {"mark": _mark_of(facts), "position": position, "before_start": facts.log.start - 1}
    start.findings = tuple(Finding(case, _TEXTS[case].format_map(values), count) for case, count in found)
    for finding in start.findings:
        if refuses(policy, finding.case) and not start.stop:
            start.stop = f"{finding.text}. {_REMEDIES[finding.case].format(once=_ONCE)}"
