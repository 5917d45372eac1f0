"""docs/faults.md: every fault has a row, every row a test that is there or a reason, and how many are open is said."""

import re

import pytest

from tests.tidy.documents import ROOT, TEST, missing_tests

PAGE = (ROOT / "docs/faults.md").read_text()
FAMILIES = {"A": 23, "B": 37, "C": 32, "D": 25, "E": 19, "F": 19, "G": 13, "H": 20}

_ROW = re.compile(r"^\| ([A-Z]\d\d) \| (.+?) \| (.+) \|$", re.MULTILINE)
_CAMPAIGN = re.compile(r"every `make (storm|chaos)`")
_REASON = re.compile(r"\*\*(Not here|Not covered yet):\*\* \S.{15,}")


def rows(page: str) -> dict[str, str]:
    """Id → what shows it. Each id once."""
    found = [(match[1], match[3]) for match in _ROW.finditer(page)]
    assert len({name for name, _ in found}) == len(found), "an id has two rows"
    return dict(found)


def test_every_fault_has_a_row() -> None:
    wanted = {f"{family}{number:02}" for family, count in FAMILIES.items() for number in range(1, count + 1)}

    assert set(rows(PAGE)) == wanted


@pytest.mark.parametrize("name", rows(PAGE))
def test_it_is_shown_by_a_test_or_a_campaign_or_a_reason_stands_there(name: str) -> None:
    shown = rows(PAGE)[name]

    assert TEST.search(shown) or _CAMPAIGN.search(shown) or _REASON.search(shown)
    assert missing_tests(shown) == []
    assert shown.count("::") == len(TEST.findall(shown))  # no test is named in a way that is not looked at


def test_the_number_of_those_not_covered_is_the_one_that_stands_there() -> None:
    uncovered = [name for name, shown in rows(PAGE).items() if "Not covered yet" in shown]

    assert f"**{len(uncovered)} of {sum(FAMILIES.values())}**" in PAGE


def test_a_test_that_is_not_there_is_found() -> None:
    assert missing_tests("`tests/tidy/test_faults.py::test_a_test_that_is_not_there_is_found`") == []
    assert missing_tests("`tests/tidy/test_faults.py::test_nothing` `tests/gone.py::test_it`") == [
        "tests/tidy/test_faults.py::test_nothing",
        "tests/gone.py::test_it",
    ]
    assert not _REASON.search("**Not here:** so")
