"""Writes what was measured into docs/performance.md, between its markers, and draws the plots beside it.

python -m bench.report build/bench-full.json
python -m bench.report build/profile.json         # of `python -m bench.profile --json`: where the time goes
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.costs import costs_of
from bench.plots import Line, Plot
from bench.results import Results
from bench.sizes import COMMANDS
from bench.tables import Measure, as_table
from bench.targets import targets_table

__all__ = ["PAGE", "PLOTS", "budget", "figures", "filled", "plots"]

ROOT = Path(__file__).parents[1]
PAGE, PLOTS = ROOT / "docs/performance.md", ROOT / "docs/plots"
_COSTS_FROM = {"redis-memory", "redis-calls", "pace", "handler-times"}
_IN_ORDER = 4  # partitions of the table of handlers' times


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args().file
    told = json.loads(file.read_text())
    text = PAGE.read_text()
    if "layers" in told:
        PAGE.write_text(filled(text, "budget", budget(told)))
        print(f"{PAGE}: the budget")
        return 0
    results = Results.read(file)
    PLOTS.mkdir(exist_ok=True)
    drawn = dict(plots(results))
    for name, plot in drawn.items():
        (PLOTS / f"{name}.svg").write_text(plot.as_svg())
    text = filled(text, "targets", f"{_heading(results)}\n\n{targets_table(results)}")
    PAGE.write_text(filled(text, "figures", figures(results, drawn)))
    if _COSTS_FROM.issubset(results.measures):
        print(f"for middleware/kafka_once/cli/planning.py: {costs_of(results)}")
    print(f"{PAGE}: targets and {len(results.measures)} tables; {PLOTS}: {', '.join(drawn)}")
    return 0


def filled(text: str, name: str, content: str) -> str:
    """The page with this between its markers. Raises ValueError if it has none of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{content}\n{end}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"the page has {count} places for {name!r}")
    return page


def figures(results: Results, drawn: dict[str, Plot]) -> str:
    """All tables, each with the command that makes it, and the plots where they belong."""
    parts = [_heading(results)]
    for measure in results.measures.values():
        parts += [f"### {measure.title}", _made_by(results.command, measure), measure.note, measure.as_markdown()]
        parts += [_shown(name, plot) for name, plot in drawn.items() if _PLOT_OF[name] == measure.name]
    return "\n\n".join(parts)


def budget(told: dict[str, Any]) -> str:
    """The layers of a profile."""
    run, total = told["run"], sum(told["layers"].values())
    heading = (
        f"Measured by `python -m bench.profile --json build/profile.json`: {run['messages_per_s']:,.0f} messages/s, "
        f"{run['cpu_us']:.1f} µs of client CPU for a message."
    )
    layers = sorted(told["layers"].items(), key=lambda layer: -layer[1])
    lines = [[name, f"{us:.2f}", f"{us / total:.0%}"] for name, us in layers if us / total >= 0.005]
    return f"{heading}\n\n{as_table(['layer', 'µs per message', 'share'], lines)}"


def _heading(results: Results) -> str:
    return f"Measured by `{results.command}`: {results.machine}."


def _made_by(command: str, measure: Measure) -> str:
    size = next(size for size, whole in COMMANDS.items() if whole == command)
    return f"`python -m bench --size {size} --only {measure.name}`; runs of each row: {measure.runs_of_a_row()}"


_PLOT_OF = {"throughput": "handler-times", "memory": "redis-memory"}


def _shown(name: str, plot: Plot) -> str:
    names = ", ".join(line.name for line in plot.lines)
    return f"![{plot.title}: {plot.y_name} against {plot.x_name}; {names}](plots/{name}.svg)"


def plots(results: Results) -> Iterator[tuple[str, Plot]]:
    """By their files' names."""
    if "handler-times" in results.measures:
        yield "throughput", _throughput_plot(results.measures["handler-times"])
    if "redis-memory" in results.measures:
        yield "memory", _memory_plot(results.measures["redis-memory"])


def _throughput_plot(measure: Measure) -> Plot:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in measure.rows:
        contender = row.name.split(", ")[1]
        points.setdefault(contender, []).append((row.median("handler_ms"), row.median("messages_per_s")))
    times = [ms for ms, _ in next(iter(points.values())) if ms]
    bound = Line("4 lanes ÷ the time", [(ms, _IN_ORDER * 1000 / ms) for ms in times], dashed=True)
    lines = [Line(name, points[name]) for name in ("effectively_once", "poll_loop") if name in points]
    return Plot("What a handler's time leaves", "the handler's time, ms", "messages/s", [*lines, bound], steps=True)


def _memory_plot(measure: Measure) -> Plot:
    ours = [(row.median("keys"), row.median("keys") * row.median("bytes") / 2**20) for row in measure.rows]
    by_hand = [
        (row.median("keys"), row.median("keys") * row.median("by_hand_bytes") / 2**20)
        for row in measure.rows
        if row.values("by_hand_bytes")
    ]
    lines = [Line("kafka-once", ours), Line("SET with a TTL, by hand", by_hand)]
    return Plot("What remembered keys take in Redis", "remembered keys", "MiB", lines)


if __name__ == "__main__":
    sys.exit(main())
