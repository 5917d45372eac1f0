"""Reads the project's documents: code blocks, tables, links, headings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "ROOT",
    "TEST",
    "Link",
    "anchors",
    "broken_links",
    "code_block",
    "documents",
    "first_column",
    "links",
    "missing_tests",
    "section",
]

ROOT = Path(__file__).parents[2]

TEST = re.compile(r"`((?:tests|middleware)/[\w/]+\.py)::(test_\w+)`")

_FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


class Link(NamedTuple):
    document: Path
    target: str


def documents() -> list[Path]:
    """Every Markdown file that ships."""
    return sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("tests/**/*.md")]
    )


def code_block(text: str, name: str) -> str:
    """The Python block that stands behind the marker of that name."""
    found = re.findall(rf"<!-- example: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert len(found) == 1, f"{len(found)} examples are called {name}"
    return str(found[0])


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert match, f"there is no heading {heading!r}"
    return match[1]


def first_column(text: str) -> list[str]:
    """The code in the first cell of each table row: `name`, or several."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def links(document: Path) -> Iterator[Link]:
    """The links of a document that point into the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", document.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield Link(document, target)


def anchors(text: str) -> set[str]:
    """The names of all headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """The targets that lead nowhere."""
    return [link.target for link in links(document) if not _leads_somewhere(link)]


def _leads_somewhere(link: Link) -> bool:
    path, _, anchor = link.target.partition("#")
    file = (link.document.parent / path).resolve() if path else link.document
    if not file.exists():
        return False
    return not anchor or (file.is_file() and anchor in anchors(file.read_text()))


def missing_tests(text: str) -> list[str]:
    """The tests that are named and not there."""
    return [f"{file}::{name}" for file, name in TEST.findall(text) if not _is_there(ROOT / file, name)]


def _is_there(file: Path, name: str) -> bool:
    return file.exists() and re.search(rf"^ *(?:async )?def {name}\(", file.read_text(), re.MULTILINE) is not None
