"""docs/correctness.md names what is there: checkers, wrong variants, worlds that can be searched; its example runs."""

import re

from tests.exhaustive.scopes import LONG, QUICK
from tests.simulation.variants import VARIANTS, row_of
from tests.simulation.verdict import CHECKERS
from tests.tidy.documents import ROOT, section

DOCUMENT = (ROOT / "docs/correctness.md").read_text()


def test_every_checker_has_its_promise() -> None:
    named = re.findall(r"`(\w+)` \|$", section(DOCUMENT, "Promises and checkers"), re.MULTILINE)

    assert sorted(named) == sorted(checker.__name__ for checker in CHECKERS)


def test_every_wrong_variant_stands_in_the_table_and_none_escaped() -> None:
    rows = re.findall(r"^\| (\w+) \| (.+) \| (\w+) \| (\d+) \|$", section(DOCUMENT, "The bug bank"), re.MULTILINE)

    assert [name for name, *_ in rows] == [variant.name for variant in VARIANTS]
    assert len(rows) >= 40
    for (name, wrong, _, after), variant in zip(rows, VARIANTS, strict=True):
        assert f"| {name} | {wrong} |" in row_of(variant, None)
        assert variant.first <= int(after) < variant.first + variant.within


def test_every_world_that_is_told_of_can_be_searched() -> None:
    told = re.findall(r"^(\d × .+?) {2,}\d+ states", section(DOCUMENT, "Every schedule of small worlds"), re.MULTILINE)

    assert len(told) > 10
    assert set(told) <= {scope.name for scope in (*QUICK, *LONG)}


def test_the_example_runs() -> None:
    code = re.search(r"```python\n(.+?)```", section(DOCUMENT, "Your own handlers"), re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}

    exec(compile(code[1], "docs/correctness.md", "exec", dont_inherit=True), names)

    assert names["report"].doubled  # type: ignore[attr-defined]
