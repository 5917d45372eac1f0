"""What was measured, as rows of runs; and as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Column", "Measure", "Row", "as_table"]

Column = tuple[str, str, int]
"""A figure of the runs, its heading, and how many digits are shown behind the point."""


@dataclass(slots=True)
class Row:
    """All runs of one thing under one name. Figures are shown as their median with the least and the most."""

    name: str
    runs: list[dict[str, Any]]

    def values(self, figure: str) -> list[float]:
        return [run[figure] for run in self.runs if run.get(figure) is not None]

    def median(self, figure: str) -> float:
        return statistics.median(self.values(figure))

    def shown(self, figure: str, digits: int = 0) -> str:
        values = self.values(figure)
        if not values:
            return "–"
        median = f"{statistics.median(values):,.{digits}f}"
        least, most = f"{min(values):,.{digits}f}", f"{max(values):,.{digits}f}"
        return median if least == most else f"{median} ({least}–{most})"


@dataclass(slots=True)
class Measure:
    """A table.

    Attributes:
        name: by which it is asked for and found again.
        title, note: for people.
        columns: which figures of the runs are shown.
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: list[Row]

    def row(self, name: str) -> Row | None:
        """None if it was not measured: a peer that is not there, a smaller size."""
        return next((row for row in self.rows if row.name == name and row.runs), None)

    def median(self, name: str, figure: str) -> float | None:
        row = self.row(name)
        return None if row is None or not row.values(figure) else row.median(figure)

    def runs_of_a_row(self) -> str:
        counts = sorted({len(row.runs) for row in self.rows})
        return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    def as_markdown(self) -> str:
        heading = ["", *(name for _, name, _ in self.columns)]
        lines = [[row.name, *(row.shown(figure, digits) for figure, _, digits in self.columns)] for row in self.rows]
        return as_table(heading, lines)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Measure:
        columns = tuple((figure, heading, digits) for figure, heading, digits in told["columns"])
        return cls(told["name"], told["title"], told["note"], columns, [Row(**row) for row in told["rows"]])


def as_table(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(line)} |" for line in (heading, *lines)]
    return "\n".join([rows[0], f"|{'---|' * len(heading)}", *rows[1:]])
