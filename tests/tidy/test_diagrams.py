"""The pictures are those of their sources, and each stands in the page that tells of it."""

import importlib.util
import re
from xml.etree import ElementTree as ET

import pytest

from tests.tidy.documents import ROOT

FOLDER = ROOT / "docs/diagrams"
SOURCES = sorted(FOLDER.glob("*.mmd"))


@pytest.fixture(scope="module")
def draw():
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.draw


def test_there_is_one_for_each_scenario():
    assert [source.stem for source in SOURCES] == ["busy", "crash", "duplicate", "outage", "success"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_picture_is_drawn_from_its_source(source, draw):
    assert source.with_suffix(".svg").read_text() == draw(source.read_text()), "run: python docs/diagrams/draw.py"


@pytest.mark.parametrize("picture", sorted(FOLDER.glob("*.svg")), ids=lambda picture: picture.stem)
def test_a_picture_is_shown_with_words_for_those_who_cannot_see_it(picture):
    ET.parse(picture)  # well-formed
    page = (ROOT / "docs/journey.md").read_text()
    [words] = re.findall(rf"!\[([^\]]+)\]\(diagrams/{picture.name}\)", page)
    assert len(words) > 40


def test_what_cannot_be_drawn_is_refused(draw):
    with pytest.raises(ValueError, match="loop"):
        draw("sequenceDiagram\nparticipant A as a\nloop every second")
    with pytest.raises(ValueError, match="flowchart"):
        draw("flowchart LR")
