"""How the documentation site is built (`make docs`). Its pages are the Markdown files of the repository as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError

from kafka_once import __all__ as public

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]

project = "kafka-once"
author = "the kafka-once authors"
copyright = "the kafka-once authors; Apache License 2.0"  # noqa: A001  (Sphinx's name)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/site/index"
_OURS = ["docs/*.md", "docs/adr/*.md", "docs/site/*.md"]
include_patterns = ["*.md", *_OURS, "bench/*.md", "examples/*.md", "examples/*/*.md"]
exclude_patterns = [".venv/**", "build/**"]
suppress_warnings = [
    "misc.highlighting_failure",  # examples for readers leave things out: …
    "ref.python",  # two values have a field of the same name, and the text means neither
]

html_theme = "furo"
html_title = "kafka-once"
html_static_path: list[str] = []
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autoclass_content = "class"
default_role = "code"  # docstrings are plain text with names in backticks
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def links_to_folders(_app: Sphinx, docname: str, source: list[str]) -> None:
    """A link to a folder, which a Git host shows with its README, leads to that README; without one it is no link."""
    folder = (ROOT / docname).parent

    def lead(match: re.Match[str]) -> str:
        text, target = match[1], match[2].rstrip("/")
        if not (folder / target).is_dir():
            return match[0]
        return f"[{text}]({target}/README.md)" if (folder / target / "README.md").is_file() else text

    source[0] = re.sub(r"\[([^\]\n]+)\]\(([\w./-]+)\)", lead, source[0])


def reference(_app: Sphinx, docname: str, source: list[str]) -> None:
    """The reference lists what `kafka_once` makes public, so that nothing is forgotten."""
    if docname == "docs/site/reference":
        classes = [name for name in public if name[0].isupper()]
        functions = [name for name in public if not name[0].isupper()]
        blocks = [_directive("autoclass", name) for name in classes]
        blocks += [_directive("autofunction", name) for name in functions]
        source[0] = source[0].replace("@PUBLIC@", "\n\n".join(blocks))


def _directive(kind: str, name: str) -> str:
    options = "" if kind == "autofunction" else "\n:members:\n:show-inheritance:"
    return f"```{{eval-rst}}\n.. {kind}:: kafka_once.{name}{options.replace(chr(10), chr(10) + '   ')}\n```"


def keep_colons(_app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in an attribute's docstring for its type."""
    if what == "attribute":
        lines[:] = [re.sub(r": ", "\N{RATIO} ", line) for line in lines]


def loads_nothing_from_elsewhere(app: Sphinx, error: Exception | None) -> None:
    """The site can be read without a network."""
    if error is None and app.builder.name == "html":
        foreign = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*")
        found = {
            page.name: match[0]
            for page in Path(app.outdir).rglob("*.html")
            if (match := foreign.search(page.read_text()))
        }
        if found:
            raise ExtensionError(f"pages that load something from elsewhere: {found}")


def front_door(app: Sphinx, error: Exception | None) -> None:
    """The site's own first page leads to the one that stands beside this file."""
    if error is None and app.builder.name == "html":
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={root_doc}.html"><title>{project}</title>\n'
        (Path(app.outdir) / "index.html").write_text(page)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", links_to_folders)
    app.connect("source-read", reference)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("build-finished", front_door)
    app.connect("build-finished", loads_nothing_from_elsewhere)
