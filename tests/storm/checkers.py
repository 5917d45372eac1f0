"""One function per promise. Each has the books only, says how often it looked, and what it found.

What is excused is so by a window that docs/guarantees.md names, found in the books of what was done to the processes:
never because the library says so.
"""

from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

from kafka_once.testing.campaign.checker import find_reruns, find_unknown, find_unreported
from tests.storm.books import Books, Run

__all__ = ["CHECKERS", "Finding", "check"]

_MS = 1_000_000
_NEVER_HAPPENS = {
    *("raised", "gave_up", "dead_lettered", "unpublished", "skipped", "unusable", "overdue"),
    *("forgotten", "memory_lost", "store_changed"),
    *("offsets_gone", "reset_back", "reset_ahead", "topic_recreated", "messages_deleted", "log_truncated"),
}
_FAILED_STARTS = 2  # in one storm
_TOLD_NS = 3_000 * _MS  # several heartbeats, for the machine may be busy


class Finding(NamedTuple):
    """`looked`: how often the promise was really looked at; `windows`: how often a named window explained it."""

    promise: str
    looked: int
    violations: list[str]
    windows: int = 0


def nothing_lost(books: Books) -> Finding:
    """Everything that Kafka acknowledged stands in the log and has taken effect; and nothing else has."""
    wrong = [f"lost: {key} at {p}@{o}" for (p, o), key in books.keys.items() if key not in books.effects]
    sent = {(sent.partition, sent.offset): sent.key for sent in books.campaign.sent}
    wrong += [f"acknowledged and not in the log: {key} at {p}@{o}" for (p, o), key in sent.items() - books.keys.items()]
    wrong += [f"took effect and was never sent: {key}" for key in find_unknown(books.campaign)]
    return Finding("nothing is lost", len(books.keys), wrong)


def commits_follow(books: Books) -> Finding:
    """What is committed, as the observer sees it and as members ask for it, had taken effect before."""
    wrong = []
    seen = [(o.partition, o.offset, o.answered_ns, "observed") for o in books.history.observed]
    asked = [(c.partition, c.offset, c.asked_ns, f"asked by {c.life}") for c in books.commits]
    for partition, offset, at_ns, how in seen + asked:
        if books.settled_before(partition, offset) > at_ns:
            first = books.first_unsettled(partition, offset, at_ns)
            wrong.append(f"{partition}: {offset} {how}, and {first} ({books.keys[partition, first]}) was not settled")
    return Finding("only what is settled is committed", len(seen) + len(asked), wrong)


def commits_go_forward(books: Books) -> Finding:
    """Committed offsets go back only if one of the two commits was decided before its sender froze, and sent later."""
    wrong, windows = [], 0
    last: dict[int, int] = {}
    commits = defaultdict(list)
    for commit in books.commits:
        commits[commit.partition, commit.offset].append(commit)
    for seen in books.history.observed:
        before, last[seen.partition] = last.get(seen.partition, -1), seen.offset
        if seen.offset >= before:
            continue
        both = [*commits[seen.partition, before], *commits[seen.partition, seen.offset]]
        if any(
            commit.asked_ns <= seen.answered_ns
            and books.frozen(commit.life, commit.turned_ns, min(commit.answered_ns, seen.answered_ns))
            for commit in both
        ):
            windows += 1
        else:
            senders = ", ".join(sorted({commit.life for commit in both})) or "nobody"
            wrong.append(f"{seen.partition}: from {before} back to {seen.offset}, committed by {senders}")
    return Finding("committed offsets go forward", len(books.history.observed), wrong, windows)


def one_holder(books: Books) -> Finding:
    """Two handlers run for a key at the same time only if the process of one was frozen, or hung, for too long."""
    wrong, windows, looked = [], 0, 0
    by_key: dict[str, list[Run]] = defaultdict(list)
    for run in books.runs:
        by_key[run.start.key].append(run)
    for runs in by_key.values():
        looked += 1
        for earlier, later in combinations(runs, 2):
            if later.start.time_ns >= earlier.ended_ns:
                continue
            if earlier.start.life != later.start.life and _lease_gone(books, earlier, later):
                windows += 1
            else:
                wrong.append(f"{_name(later)} beside {_name(earlier)}")
    return Finding("one holder per key", looked, wrong, windows)


def _lease_gone(books: Books, earlier: Run, later: Run) -> bool:
    """Whether the earlier holder could not renew its lease, or the later one had looked before it froze."""
    lease_ns = books.history.lease_ms * _MS
    began_ns, until_ns = earlier.start.time_ns - lease_ns, later.start.time_ns
    spans = books.could_not_renew(earlier.start.life, began_ns, until_ns)
    unable_ns = sum(min(span.ended_ns, until_ns) - span.began_ns for span in spans)
    # The last renewal is at most a third of a lease old when a freeze begins, or somewhat more on a busy machine.
    return unable_ns >= lease_ns / 2 or books.woke_to_start(later.start) or books.servers_stalled(began_ns, until_ns)


def second_runs_are_told(books: Books) -> Finding:
    """A key that is begun again is in the list of what is in doubt, and its handler is told so."""
    begun = find_reruns(books.campaign.starts)
    untold = [rerun.later for rerun in begun if not rerun.later.in_doubt]
    late = [start for start in untold if not books.woke_to_start(start)]
    wrong = [
        f"{rerun.later.key} began again in {rerun.later.life}, and is not in the list"
        for rerun in find_unreported(books.campaign, begun)
    ]
    wrong += [f"{start.key} began again in {start.life}, and was not told that it is in doubt" for start in late]
    looked = len({start.key for start in books.campaign.starts})
    return Finding("second runs are told", looked, wrong, len(untold) - len(late))


def second_runs_have_a_cause(books: Books) -> Finding:
    """A key takes effect again only if a process was killed, frozen or hung while it had the key in hand."""
    wrong, windows = [], 0
    for rerun in find_reruns(books.campaign.ledger):
        until_ns = max(entry.time_ns for entry in rerun[:2])
        if any(
            entry.life in books.killed or books.could_not_renew(entry.life, entry.time_ns - 10_000 * _MS, until_ns)
            for entry in rerun[:2]
        ):
            windows += 1
        else:
            wrong.append(f"{rerun.later.key} took effect in {rerun.earlier.life} and again in {rerun.later.life}")
    return Finding("second runs have a cause", len(books.campaign.ledger), wrong, windows)


def in_order(books: Books) -> Finding:
    """A handler begins only when all messages before it in its partition have taken effect, whoever owned it."""
    wrong = []
    for run in books.runs:
        start = run.start
        if books.settled_before(start.partition, start.offset) > start.time_ns:
            first = books.first_unsettled(start.partition, start.offset, start.time_ns)
            wrong.append(f"{_name(run)} began before {start.partition}@{first} had taken effect")
    return Finding("order per partition", len(books.runs), wrong)


def nobody_trespasses(books: Books) -> Finding:
    """Nobody begins a handler in a partition that another member was given since, and still has.

    A process that froze or hung meanwhile has to find out by itself before it begins anything. One that Kafka took for
    dead and that lived is told with its next heartbeat, which takes a moment.
    """
    wrong, windows, looked = [], 0, 0
    for run in books.runs:
        start = run.start
        given = books.given_to_another(start)
        looked += 1
        if given is None:
            continue
        if books.could_not_renew(start.life, given.time_ns, start.time_ns):
            excused = books.woke_to_start(start)
        else:
            excused = start.time_ns - given.time_ns < _TOLD_NS
        if excused:
            windows += 1
        else:
            late_ms = (start.time_ns - given.time_ns) // _MS
            wrong.append(f"{_name(run)} began {late_ms} ms after {given.life} was given the partition")
    return Finding("nobody trespasses", looked, wrong, windows)


def no_false_alarms(books: Books) -> Finding:
    """No member reports what did not happen: nobody reset or deleted anything, the store kept all, nothing raised."""
    told = [event for event in books.campaign.events if event.kind.startswith("note:")]
    wrong = [
        f"{event.life} reported {event.kind.removeprefix('note:')} of {event.number}@{event.offset}"
        for event in told
        if event.kind.removeprefix("note:") in _NEVER_HAPPENS
    ]
    return Finding("no false alarms", len(told), wrong)


def comes_to_rest(books: Books) -> Finding:
    """After the storm all is settled within the bound, members end cleanly, each delivery has an outcome.

    A process that ends before it is a member found a server that did not answer in time: that may happen on a busy
    machine, and is what a supervisor is for. But not often.
    """
    history, campaign = books.history, books.campaign
    members = {event.life for event in campaign.events if event.kind == "assigned"}
    failed = [exit_ for exit_ in campaign.exits if not exit_.asked and exit_.code == 1 and exit_.life not in members]
    wrong = [
        f"{partition}: {campaign.committed.get(partition, 0)} committed, the log ends at {end}"
        for partition, end in history.ends.items()
        if campaign.committed.get(partition, 0) != end
    ]
    if history.settle_s is None:
        wrong.append("not settled within the bound")
    for exit_ in campaign.exits:
        if (exit_.code or not exit_.asked) and (exit_ not in failed or len(failed) > _FAILED_STARTS):
            asked = "after SIGTERM" if exit_.asked else "by itself"
            wrong.append(f"{exit_.life} ended {asked} with exit code {exit_.code}")
    wrong += [
        f"{event.life} ended cleanly with {event.number} deliveries without an outcome"
        for event in campaign.events
        if event.kind == "unaccounted" and event.number
    ]
    return Finding("it comes to rest", len(history.ends) + len(campaign.exits), wrong, len(failed))


def _name(run: Run) -> str:
    start = run.start
    return f"{start.key} at {start.partition}@{start.offset} in {start.life}" + ("" if run.returned else " (cut short)")


CHECKERS: tuple[Callable[[Books], Finding], ...] = (
    nothing_lost,
    commits_follow,
    commits_go_forward,
    one_holder,
    second_runs_are_told,
    second_runs_have_a_cause,
    in_order,
    nobody_trespasses,
    no_false_alarms,
    comes_to_rest,
)


def check(books: Books) -> list[Finding]:
    """What all have found. Under another order than that of the partition nothing is promised of its messages' order
    here: their record keys are the keys of the work."""
    ordered = books.history.order == "partition"
    return [checker(books) for checker in CHECKERS if ordered or checker is not in_order]
