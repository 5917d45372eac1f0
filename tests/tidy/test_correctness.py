"""docs/correctness.md names what is there: checkers, wrong variants, worlds that can be searched; its example runs."""

import re

from tests.chaos.crash_points import POINTS
from tests.exhaustive.scopes import LONG, QUICK
from tests.simulation.variants import VARIANTS, row_of
from tests.simulation.verdict import CHECKERS
from tests.tidy.documents import ROOT, TEST, missing_tests, section

DOCUMENT = (ROOT / "docs/correctness.md").read_text()
CONTROLS = (
    "self-fence",
    "epoch",
    "commit of the highest instead of the frontier",
    "commit in `on_lost`",
    "settle on busy",
)


def test_every_checker_has_its_promise() -> None:
    named = re.findall(r"`(\w+)` \|$", section(DOCUMENT, "Promises and checkers"), re.MULTILINE)

    assert sorted(named) == sorted(checker.__name__ for checker in CHECKERS)


def test_every_invariant_has_a_checker_or_a_test() -> None:
    rows = re.findall(r"^\| (I\d+) \| .+? \| (.+) \|$", section(DOCUMENT, "Invariant by invariant"), re.MULTILINE)
    checkers = {checker.__name__ for checker in CHECKERS}

    assert [name for name, _ in rows] == [f"I{number}" for number in range(1, 18)]
    for name, held_by in rows:
        named = set(re.findall(r"`([A-Z]\w+)`", held_by))
        assert named <= checkers, name
        assert named or TEST.search(held_by), name
        assert missing_tests(held_by) == [], name
        assert {variant.name for variant in VARIANTS}.issuperset(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", held_by)), name


def test_every_point_of_death_is_in_the_failure_matrix_with_a_test() -> None:
    rows = re.findall(r"^\| (\w[\w: ]+?) \| .+ \| (`.+`) \|$", section(DOCUMENT, "The failure matrix"), re.MULTILINE)

    assert sorted(point for point, _ in rows) == sorted(POINTS)
    for point, shown in rows:
        assert TEST.search(shown), point
        assert missing_tests(shown) == [], point


def test_every_wrong_variant_stands_in_the_table_and_none_escaped() -> None:
    rows = re.findall(r"^\| (\w+) \| (.+) \| (\w+) \| (\d+) \|$", section(DOCUMENT, "The bug bank"), re.MULTILINE)

    assert [name for name, *_ in rows] == [variant.name for variant in VARIANTS]
    assert len(rows) >= 40
    for (name, wrong, _, after), variant in zip(rows, VARIANTS, strict=True):
        assert f"| {name} | {wrong} |" in row_of(variant, None)
        assert variant.first <= int(after) < variant.first + variant.within


def test_each_protection_and_each_hole_has_what_is_red_without_it() -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", section(DOCUMENT, "Protections switched off"), re.MULTILINE)[1:])
    known = {variant.name for variant in VARIANTS}

    assert [*rows] == [*CONTROLS, *(f"hole {number}" for number in range(1, 19))]
    for off, red in rows.items():
        named = re.findall(r"`([^`]+)`", red)
        tests = {name for name in named if "::" in name}
        assert named, off
        assert missing_tests(red) == [], off
        assert set(named) - tests <= known, off


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
