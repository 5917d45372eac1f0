"""What was to be reached, and whether this run did: computed from its medians, never typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.kills import BY_HAND
from bench.latency import PING
from bench.orders import OURS, PYRALLEL
from bench.process_memory import name_of
from bench.results import Results
from bench.sizes import SIZES
from bench.tables import as_table

__all__ = ["TARGETS", "Target", "targets_table"]

Figure = Callable[[Results], float | None]
_FLAT = 0.8  # "flat within 20 %": the slowest row against the fastest
_OURS = "effectively_once"


@dataclass(frozen=True, slots=True)
class Target:
    """`figure` is to be at least, or at most, `bound`, which may be a figure of the same run."""

    what: str
    figure: Figure
    bound: float | Figure
    at_least: bool = True
    digits: int = 2
    unit: str = ""

    def shown(self, results: Results) -> list[str]:
        """What, target, measured, reached."""
        value = self.figure(results)
        bound = self.bound(results) if callable(self.bound) else self.bound
        sign = "≥" if self.at_least else "≤"
        if value is None or bound is None:
            return [self.what, "–" if bound is None else f"{sign} {self._text(bound)}", "–", "not measured"]
        reached = value >= bound if self.at_least else value <= bound
        return [
            self.what,
            f"{sign} {self._text(bound)}",
            self._text(value),
            "reached" if reached else "**not reached**",
        ]

    def _text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}{self.unit}"


def targets_table(results: Results) -> str:
    return as_table(["what", "target", "measured", ""], [target.shown(results) for target in TARGETS])


# --------------------------------------------------------------------------------------------------- how they are found


def _of(measure: str, row: str, figure: str) -> Figure:
    return lambda results: results.median(measure, row, figure)


def _ratio(one: Figure, other: Figure) -> Figure:
    def figure(results: Results) -> float | None:
        upper, lower = one(results), other(results)
        return None if upper is None or not lower else upper / lower

    return figure


def _difference(one: Figure, other: Figure) -> Figure:
    def figure(results: Results) -> float | None:
        more, less = one(results), other(results)
        return None if more is None or less is None else more - less

    return figure


def _plus(one: Figure, more: float) -> Figure:
    return _difference(one, lambda _: -more)


def _rate(contender: str) -> Figure:
    return _of("throughput", contender, "messages_per_s")


def _flat(name: str) -> Figure:
    """The slowest row's rate over the fastest one's."""

    def figure(results: Results) -> float | None:
        measure = results.measures.get(name)
        rates = [] if measure is None else [row.median("messages_per_s") for row in measure.rows if row.runs]
        return min(rates) / max(rates) if len(rates) > 1 else None

    return figure


def _most(measure: str, figure: str, rows: Callable[[str], bool] = lambda _: True) -> Figure:
    """The most of any run."""

    def most(results: Results) -> float | None:
        found = results.measures.get(measure)
        values = [] if found is None else [v for row in found.rows if rows(row.name) for v in row.values(figure)]
        return max(values, default=None)

    return most


def _keys(results: Results) -> float | None:
    return results.median("redis-memory", "1,000,000 keys", "bytes")


def _turnover(results: Results) -> float | None:
    """The last row against the third one, by which as much is held as ever will be."""
    measure = results.measures.get("turnover")
    if measure is None:
        return None
    mib = [row.median("mib") for row in measure.rows]
    return mib[-1] / mib[2]


def _faster_pyrallel(results: Results) -> float | None:
    rates = [results.median("orders", name, "messages_per_s") for name in PYRALLEL]
    return max((rate for rate in rates if rate is not None), default=None)


_BACKLOGS = SIZES["usual"].backlogs
_CPU = _of("throughput", _OURS, "cpu_us")

TARGETS = [
    Target("effectively_once ÷ the fastest batch loop by hand", _ratio(_rate(_OURS), _rate("batch_check_after")), 1),
    Target("effectively_once ÷ AWS Powertools", _ratio(_rate(_OURS), _rate("powertools")), 25, digits=1),
    Target("effectively_once ÷ the SET NX loop", _ratio(_rate(_OURS), _rate("setnx_loop")), 15, digits=1),
    Target("effectively_once ÷ our at_least_once", _ratio(_rate(_OURS), _rate("at_least_once")), 0.6),
    Target("at_least_once ÷ a bare poll loop", _ratio(_rate("at_least_once"), _rate("poll_loop")), 0.7),
    Target("client CPU per message, all in", _CPU, 14, at_least=False, digits=1, unit=" µs"),
    Target(
        "… of it de-duplication",
        _difference(_CPU, _of("throughput", "at_least_once", "cpu_us")),
        10,
        at_least=False,
        digits=1,
        unit=" µs",
    ),
    Target("Redis CPU per message", _of("throughput", _OURS, "redis_us"), 6, at_least=False, digits=1, unit=" µs"),
    Target(
        "round trips per 1,000 messages",
        _of("throughput", _OURS, "round_trips_per_1000"),
        20,
        at_least=False,
        digits=1,
    ),
    Target("Redis memory per done key, 1,000,000 keys", _keys, 24, at_least=False, unit=" bytes"),
    Target("Redis memory as keys expire, the end ÷ the full height", _turnover, 1.2, at_least=False),
    Target("order key, async, limit 100: % of the bound", _of("orders", OURS[1], "of_bound"), 80, digits=0),
    Target("order key, threads, limit 100: % of the bound", _of("orders", OURS[3], "of_bound"), 50, digits=0),
    Target(
        "order key, async ÷ Pyrallel-Consumer", _ratio(_of("orders", OURS[1], "messages_per_s"), _faster_pyrallel), 2
    ),
    Target("order errors", _most("orders", "order_errors"), 0, at_least=False, digits=0),
    Target(
        "latency added at 100 messages/s, p50",
        _of("latency", _OURS, "added_p50_ms"),
        _plus(_of("latency", PING, "p50_ms"), 0.5),
        at_least=False,
        unit=" ms",
    ),
    Target(
        "process memory, a backlog of 1,000,000 ÷ one of 100,000",
        _ratio(
            _of("process-memory", name_of(_BACKLOGS[2]), "peak_mib"),
            _of("process-memory", name_of(_BACKLOGS[1]), "peak_mib"),
        ),
        1.2,
        at_least=False,
    ),
    Target("remembered keys: the slowest row ÷ the fastest", _flat("remembered"), _FLAT),
    Target("partitions: the slowest row ÷ the fastest", _flat("partitions"), _FLAT),
    Target("handlers in an app: the slowest row ÷ the fastest", _flat("handlers"), _FLAT),
    Target(
        "kill -9: run again and not told, most of any kill",
        _most("kills", "untold", lambda name: name != BY_HAND),
        0,
        at_least=False,
        digits=0,
    ),
]
