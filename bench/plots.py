"""Draws a plot as SVG: lines with their names at the end, both axes logarithmic or the first one in equal steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "Plot"]

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 190, 48, 60
_COLORS = ("#1f5fa8", "#b3261e", "#5b6570", "#2e7d32")
_GREY, _GRID = "#5b6570", "#dfe3e8"
_OPEN = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" \
height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>"""


@dataclass(frozen=True, slots=True)
class Line:
    """`points`: x and y. Dashed where it is a bound and no measurement."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """`steps`: the first axis shows the values that there are, side by side (so zero can be among them)."""

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    steps: bool = False

    def as_svg(self) -> str:
        middle_y = (_TOP + _HEIGHT - _BOTTOM) / 2
        parts = [
            _OPEN,
            _text(_LEFT, 26, self.title, anchor="start", size=15, weight=600),
            *self._grid(),
            _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 16, self.x_name, color=_GREY),
            f'<g transform="translate(20 {middle_y}) rotate(-90)">{_text(0, 0, self.y_name, color=_GREY)}</g>',
        ]
        ends = self._ends()
        for number, line in enumerate(self.lines):
            parts += self._drawn(line, _COLORS[number % len(_COLORS)], ends[number])
        return "\n".join([*parts, "</svg>", ""])

    # ------------------------------------------------------------------------------------------------------ the places

    def _xs(self) -> list[float]:
        return sorted({x for line in self.lines for x, _ in line.points})

    def _x(self, value: float) -> float:
        xs = self._xs()
        if self.steps:
            share = xs.index(value) / max(1, len(xs) - 1)
        else:
            share = math.log(value / xs[0]) / math.log(xs[-1] / xs[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _decades(self) -> tuple[int, int]:
        ys = [y for line in self.lines for _, y in line.points]
        return math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def _y(self, value: float) -> float:
        low, high = self._decades()
        share = (math.log10(value) - low) / max(1, high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def _ends(self) -> list[float]:
        """Where each line's name stands: at its end, but not on another's."""
        wanted = sorted((self._y(line.points[-1][1]), number) for number, line in enumerate(self.lines))
        places, last = [0.0] * len(self.lines), -math.inf
        for y, number in wanted:
            last = places[number] = max(y + 4, last + 17)
        return places

    # ------------------------------------------------------------------------------------------------------- the parts

    def _grid(self) -> list[str]:
        low, high = self._decades()
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        for power in range(low, high + 1):
            y = self._y(10.0**power)
            parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{_GRID}"/>')
            parts.append(_text(_LEFT - 8, y + 4, _number(10.0**power), anchor="end", color=_GREY))
        marked = [value for value in self._xs() if self.steps or math.log10(value).is_integer()]
        return parts + [_text(self._x(value), bottom + 20, _number(value), color=_GREY) for value in marked]

    def _drawn(self, line: Line, color: str, name_y: float) -> list[str]:
        points = [(self._x(x), self._y(y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 5"' if line.dashed else ""
        parts = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>']
        if not line.dashed:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in points]
        return [*parts, _text(points[-1][0] + 10, name_y, line.name, anchor="start", color=color)]


def _number(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} million"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:g}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", color: str = "#1b1f24", size: int = 13, weight: int = 400
) -> str:
    style = f'text-anchor="{anchor}" fill="{color}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
