"""What happened in a storm, counted from its books: a storm in which nothing happened shows nothing."""

from collections import Counter
from collections.abc import Iterable

from kafka_once.testing.campaign.checker import find_reruns
from tests.storm.books import Books
from tests.storm.history import Freeze

__all__ = ["ALWAYS", "SOONER_OR_LATER", "count_happenings", "missing"]

# Must happen in every storm, also in a short one.
ALWAYS = (
    "stopped",
    "killed",
    "hung",
    "zombies_woken",
    "rebalances",
    "revoked",
    "lost",
    "sessions_over",
    "repeats_skipped",
)

# Must happen in a long one (or in a campaign of many) besides.
SOONER_OR_LATER = (
    *("killed_frozen", "zombies_at_work", "taken_over", "run_again", "fenced", "busy", "repeats_while_running"),
    *("commits_refused", "windows"),
)

_MS = 1_000_000


def count_happenings(books: Books, deeds: dict[str, int]) -> dict[str, int]:
    """By name: what was done to the processes, what they met, and what that led to.

    "zombies_woken" were frozen for longer than their session; "zombies_at_work" had a handler begun meanwhile.
    "fenced": a handler ended, and another one had the key, or had completed it. "taken_over": entries of the list of
    what is in doubt. "run_again": keys that took effect a second time.
    """
    history, campaign = books.history, books.campaign
    zombies = [f for f in history.freezes if not f.killed and f.woken_ns - f.stopped_ns > history.session_ms * _MS]
    told = Counter(event.kind for event in campaign.events)
    return {
        "messages": len(campaign.sent),
        "repeats": len(campaign.sent) - len({sent.key for sent in campaign.sent}),
        "repeats_while_running": _repeats_while_running(books),
        "deliveries": sum(event.number for event in campaign.events if event.kind == "polled"),
        "processings": len(campaign.ledger),
        **deeds,
        "hung": told["hung"],
        "killed_frozen": sum(freeze.killed for freeze in history.freezes),
        "zombies_woken": len(zombies),
        "zombies_at_work": sum(_was_at_work(books, freeze) for freeze in zombies),
        "rebalances": len({(e.life, e.time_ns) for e in campaign.events if e.kind == "assigned"}),
        "revoked": told["revoked"],
        "lost": told["lost"],
        "sessions_over": told["note:session_over"],
        "self_fenced": told["note:self_fenced"],
        "superseded": told["note:superseded"],
        "taken_over": len(campaign.reported),
        "run_again": len({rerun.later.key for rerun in find_reruns(campaign.ledger)}),
        "fenced": told["note:fenced"] + told["note:doubled"],
        "repeats_skipped": _totals(books, "skipped"),
        "busy": _totals(books, "busy"),
        "commits": told["committed"],
        "commits_refused": told["refused"],
        "looks": history.looks,
        "stalls": len(history.stalls) + told["stalled"] - len(zombies),
    }


def missing(counts: dict[str, int], must: Iterable[str]) -> list[str]:
    """Those of `must` that never happened."""
    return [f"never happened: {name}" for name in must if not counts[name]]


def _was_at_work(books: Books, freeze: Freeze) -> bool:
    return any(
        run.start.life == freeze.life and run.start.time_ns < freeze.stopped_ns and run.ended_ns >= freeze.woken_ns
        for run in books.runs
    )


def _repeats_while_running(books: Books) -> int:
    """Repeats that Kafka acknowledged while a handler ran for their key."""
    spans: dict[str, list[tuple[int, float]]] = {}
    for run in books.runs:
        spans.setdefault(run.start.key, []).append((run.start.time_ns, run.ended_ns))
    return sum(
        began_ns < sent.time_ns < ended_ns
        for sent in books.campaign.sent
        for began_ns, ended_ns in spans.get(sent.key, ())
    )


def _totals(books: Books, kind: str) -> int:
    last = {event.life: event.number for event in books.campaign.events if event.kind == kind}
    return sum(last.values())
