"""The oldest libraries that are tested are the oldest that are allowed."""

import re
import tomllib

from tests.tidy.documents import ROOT


def test_what_is_tested_as_the_oldest_is_what_the_package_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["metrics"], *extras["tracing"]]
    allowed = dict(re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", each).groups() for each in asked)
    tested = dict(re.findall(r"^([\w-]+)==([\d.]+)\.\*$", (ROOT / "tests/oldest.txt").read_text(), re.MULTILINE))

    assert len(tested) > 5
    assert tested == allowed | {"click": "8.2"}  # typer asks for it, not we
