"""Sizes, names and habits of the sources."""

import importlib

import pytest

from tests.tidy.documents import ROOT
from tests.tidy.sources import BANNED, all_names, in_order, long_functions, sleeps, sources

LIBRARY = sources("middleware")
FUNCTION_LINES, MODULE_LINES = 60, 400

# Programs that stand for a handler at work, or do something now and then: not tests that wait.
MAY_SLEEP = {"tests/chaos/variants.py", "tests/storm/members.py", "tests/storm/storm.py"}


def test_there_is_something_to_look_at() -> None:
    assert len(LIBRARY) > 50
    assert len(sources("tests")) > 10


def test_no_function_is_longer_than_a_page() -> None:
    long = {
        file.relative_to(ROOT): found for file in LIBRARY if (found := long_functions(file.read_text(), FUNCTION_LINES))
    }

    assert long == {}
    assert long_functions("def f():\n" + "    x = 1\n" * FUNCTION_LINES, FUNCTION_LINES) == [f"f: {FUNCTION_LINES + 1}"]


def test_no_module_is_longer_than_it_can_be_read_at_once() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in LIBRARY}

    assert max(lengths.values()) > 100
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    files = [*LIBRARY, *sources("tests", "examples")]
    names = {part for file in files for part in (*file.relative_to(ROOT).parent.parts, file.stem)}

    assert "claims" in names
    assert names & BANNED == set()


def test_every_list_of_public_names_is_in_order() -> None:
    listed = {file: names for file in LIBRARY if (names := all_names(file.read_text())) is not None}
    wrong = {str(file.relative_to(ROOT)): names for file, names in listed.items() if names != in_order(names)}

    assert len(listed) > 40
    assert wrong == {}
    assert in_order(["b", "Ab", "Cd", "B_X"]) == ["B_X", "Ab", "Cd", "b"]


def test_every_public_name_is_there() -> None:
    missing = []
    for file in LIBRARY:
        names = all_names(file.read_text())
        if names:
            parts = file.relative_to(ROOT / "middleware").with_suffix("").parts
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            missing += [f"{module.__name__}.{name}" for name in names if not hasattr(module, name)]

    assert missing == []


@pytest.mark.parametrize("text", ["import time\ntime.sleep(1)", "from time import sleep as rest\nrest(1)"])
def test_a_sleep_is_found_however_it_is_written(text: str) -> None:
    assert sleeps(text) == [2]


def test_no_test_sleeps() -> None:
    """Wait for a signal, or move the clock."""
    found = {str(file.relative_to(ROOT)): lines for file in sources("tests") if (lines := sleeps(file.read_text()))}

    assert {name: lines for name, lines in found.items() if name not in MAY_SLEEP} == {}
    assert set(found) >= MAY_SLEEP
