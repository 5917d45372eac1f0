"""Draws the sequence diagrams: each `.mmd` here becomes an `.svg` beside it, which shows everywhere without a network.

The sources are Mermaid, of which this knows what they use: participants, messages (`->>`, `-->>`, `-x` for one that
gets lost), and notes over one participant.

Run it:  python docs/diagrams/draw.py
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
COLUMN, ROW, MARGIN, TOP = 220, 46, 140, 64
BLUE, GREY, AMBER, RED = "#1f5fa8", "#8a94a0", "#fdf3d0", "#b3261e"

MESSAGE = re.compile(r"(\w+)(->>|-->>|-x)(\w+): (.+)")
NOTE = re.compile(r"Note over (\w+): (.+)")
PARTICIPANT = re.compile(r"participant (\w+) as (.+)")


def draw(source: str) -> str:
    """The diagram as SVG. Raises ValueError for a line that it does not know."""
    first, *lines = [line.strip() for line in source.splitlines() if line.strip()]
    if first != "sequenceDiagram":
        raise ValueError(first)
    names: dict[str, str] = {}
    parts: list[str] = []
    y = TOP + ROW
    for line in lines:
        if match := PARTICIPANT.fullmatch(line):
            names[match[1]] = match[2]
            continue
        places = {name: MARGIN + COLUMN * number for number, name in enumerate(names)}
        if match := MESSAGE.fullmatch(line):
            parts.append(_message(places[match[1]], places[match[3]], y, match[4], match[2]))
        elif match := NOTE.fullmatch(line):
            parts.append(_note(places[match[1]], y, match[2]))
        else:
            raise ValueError(line)
        y += ROW
    width, height = 2 * MARGIN + COLUMN * (len(names) - 1), y + 8
    heads = [_participant(MARGIN + COLUMN * number, name, height) for number, name in enumerate(names.values())]
    return "\n".join([_OPEN.format(width=width, height=height), *heads, *parts, "</svg>", ""])


_OPEN = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
font-family="system-ui, sans-serif" font-size="14">
<defs><marker id="head" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="8" markerHeight="8" orient="auto">\
<path d="M0 0 10 5 0 10z" fill="#1f5fa8"/></marker></defs>
<rect width="100%" height="100%" fill="#ffffff"/>"""


def _participant(x: int, name: str, height: int) -> str:
    return (
        f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height - 12}" stroke="{GREY}" stroke-dasharray="3 4"/>\n'
        f'<rect x="{x - 70}" y="16" width="140" height="40" rx="6" fill="#e8f0fa" stroke="{BLUE}"/>\n'
        f'<text x="{x}" y="41" text-anchor="middle" font-weight="600">{escape(name)}</text>'
    )


def _message(start: int, end: int, y: int, text: str, kind: str) -> str:
    step = 1 if end > start else -1
    lost = kind == "-x"
    stop = end - step * (COLUMN // 2 if lost else 2)
    dashes = ' stroke-dasharray="6 4"' if kind == "-->>" else ""
    head = "" if lost else ' marker-end="url(#head)"'
    colour = RED if lost else BLUE
    middle = (start + (stop if lost else end)) // 2
    line = f'<line x1="{start}" y1="{y}" x2="{stop}" y2="{y}" stroke="{colour}" stroke-width="1.5"{dashes}{head}/>'
    cross = f'<path d="M{stop - 6} {y - 6}l12 12m0-12l-12 12" stroke="{RED}" stroke-width="2"/>' if lost else ""
    return f"{_text(middle, y - 7, text)}\n{line}{cross}"


def _note(x: int, y: int, text: str) -> str:
    width = max(110, 8 * len(text) + 16)
    box = (
        f'<rect x="{x - width // 2}" y="{y - 20}" width="{width}" height="28" rx="4" fill="{AMBER}" stroke="#d9b74a"/>'
    )
    return f'{box}\n<text x="{x}" y="{y - 1}" text-anchor="middle">{escape(text)}</text>'


def _text(x: int, y: int, text: str) -> str:
    """On white, for it may cross a line."""
    width = 7 * len(text) + 8
    back = f'<rect x="{x - width // 2}" y="{y - 13}" width="{width}" height="16" fill="#ffffff"/>'
    return f'{back}<text x="{x}" y="{y}" text-anchor="middle">{escape(text)}</text>'


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.mmd")):
        file.with_suffix(".svg").write_text(draw(file.read_text()))
