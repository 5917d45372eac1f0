"""What the demo shows: a live table while it runs (plain lines where there is no terminal), and the result."""

import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kafka_once import Semantics
from kafka_once.testing.campaign.campaign import Progress
from kafka_once.testing.campaign.promises import Verdict

LINE_EVERY_S = 2.0


class Screen:
    """The table of where each semantics stands."""

    def __init__(self, console: Console, title: str, kills: Mapping[Semantics, int]) -> None:
        self._console = console
        self._title = title
        self._kills = kills
        self._progress: dict[Semantics, Progress] = {}
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._line_due_s = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            self._console.print(self._title, highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, semantics: Semantics, progress: Progress) -> None:
        """Show how far it is."""
        before = self._progress.get(semantics, Progress())
        self._progress[semantics] = replace(progress)
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif progress.kills != before.kills or time.monotonic() >= self._line_due_s:
            self._line_due_s = time.monotonic() + LINE_EVERY_S
            self._console.print(self._line(semantics, progress), highlight=False, soft_wrap=True)

    def _line(self, semantics: Semantics, progress: Progress) -> str:
        cells = zip(COLUMNS, self._cells(semantics, progress), strict=True)
        return f"{semantics.value:16} " + "  ".join(f"{name} {cell:>6}" for name, cell in cells)

    def _cells(self, semantics: Semantics, progress: Progress) -> list[str]:
        return [
            f"{progress.deliveries:,}",
            f"{progress.processings:,}",
            f"{progress.skipped:,}",
            f"{progress.kills}/{self._kills[semantics]}",
            f"{progress.in_doubt:,}",
            f"{progress.lag:,}",
        ]

    def _table(self) -> Table:
        table = Table(title=self._title, title_justify="left")
        table.add_column("semantics")
        for name in COLUMNS:
            table.add_column(name, justify="right")
        for semantics in self._kills:
            progress = self._progress.get(semantics)
            cells = self._cells(semantics, progress) if progress else ["–"] * len(COLUMNS)
            table.add_row(semantics.value, *cells)
        return table


COLUMNS = ("deliveries", "processings", "duplicates skipped", "kills", "in doubt", "lag")


def show_result(console: Console, verdicts: Mapping[Semantics, Verdict]) -> None:
    """The semantics side by side, as the ledger tells it; what that means; what was promised and not kept."""
    table = Table(title="What the external ledger says (payments)", title_justify="left")
    table.add_column("")
    for semantics, verdict in verdicts.items():
        table.add_column(f"{semantics.value}\n{len(verdict.kills)} × kill -9", justify="right")
    for name in ROWS:
        table.add_row(name, *(_cell(name, verdict) for verdict in verdicts.values()))
    console.print(table)
    for name, meaning in ROWS.items():
        console.print(f"{name}: {meaning}", highlight=False)
    for semantics, verdict in verdicts.items():
        for sentence in verdict.broken:
            console.print(f"BROKEN under {semantics.value}: {sentence}", style="red", highlight=False)
    if not any(verdict.broken for verdict in verdicts.values()):
        console.print("Every promise was kept.", style="green", highlight=False)


ROWS = {
    "lost": "never made; at_most_once commits a message before it runs, and the kill came in between.",
    "run again after a crash": "made twice; its process died after the effect and before that was recorded.",
    "… of these, not reported": "nobody is told; effectively_once lists every one (kafka-once in-doubt).",
    "repeats processed": "the producer sent it twice and it was made twice; only a memory of keys prevents that.",
}


def _cell(name: str, verdict: Verdict) -> str:
    values = {
        "lost": verdict.lost,
        "run again after a crash": verdict.run_again,
        "… of these, not reported": verdict.run_again_unreported,
        "repeats processed": verdict.repeats_processed,
    }
    return f"{values[name]:,}"
