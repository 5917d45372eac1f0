"""docs/performance.md shows nothing that no command made: each figure names its own."""

import re
from xml.etree import ElementTree as ET

import pytest

from bench import __main__ as bench
from bench.report import PAGE, PLOTS, filled
from bench.sizes import SIZES
from bench.targets import TARGETS
from kafka_once.cli.planning import Costs, Rule
from tests.tidy.documents import ROOT

TEXT = PAGE.read_text()
PLANNED = [name for name, _, _ in bench.plan(None, SIZES["full"], None)]


def part(name, text=TEXT):
    [found] = re.findall(f"<!-- {name}: begin -->\n(.*?)\n<!-- {name}: end -->", text, re.DOTALL)
    return found


def tables(text):
    """Each heading with the line that stands under it."""
    return re.findall(r"^### (.+)\n\n(.*)$", text, re.MULTILINE)


def commandless(text):
    return [heading for heading, line in tables(text) if not names_its_command(line)]


def names_its_command(line):
    match = re.fullmatch(r"`python -m bench --size ([a-z]+) --only ([a-z-]+)`; runs of each row: \d+(?: to \d+)?", line)
    return match is not None and match[1] in SIZES and match[2] in PLANNED


def test_each_table_names_the_command_that_made_it():
    assert len(tables(part("figures"))) >= 10
    assert commandless(part("figures")) == []


def test_a_table_without_its_command_is_found():
    assert commandless("### A\n\n`python -m bench --size full --only kills`; runs of each row: 12") == []
    assert commandless("### A\n\n| figure |") == ["A"]
    assert commandless("### A\n\n`python -m bench --size full --only nothing`; runs of each row: 12") == ["A"]
    assert commandless("### A\n\n`python -m bench --only kills`; runs of each row: 12") == ["A"]  # of the usual size


@pytest.mark.parametrize("name", ["targets", "figures"])
def test_the_run_is_named_with_date_machine_and_versions(name):
    heading = part(name).splitlines()[0]

    assert re.match(r"Measured by `make bench(-full)?`: \d{4}-\d\d-\d\d · \d+ cores, ", heading)
    assert re.search(r"Python 3\S*, confluent-kafka \S+, redis-py \S+ · Kafka .+, Redis .+", heading)


def test_the_budget_names_the_command_that_made_it():
    assert part("budget").startswith("Measured by `python -m bench.profile --json build/profile.json`: ")


def test_the_versions_of_the_peers_are_told():
    pinned = [peer.split("==")[1] for peer in bench.PEERS]

    assert [version for version in pinned if version not in TEXT.split("## Measured")[0]] == []


def test_every_target_is_told_with_what_became_of_it():
    lines = [line for line in part("targets").splitlines() if line.startswith("| ")][1:]

    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [target.what for target in TARGETS]
    assert all(line.split(" | ")[-1].strip("| *") in ("reached", "not reached", "not measured") for line in lines)


def cell(heading, row, column):
    """The first number of a cell."""
    lines = [line.strip("| ").split(" | ") for line in part("figures").split(f"### {heading}\n")[1].splitlines()]
    names = next(line for line in lines if len(line) > 1)
    [cells] = [line for line in lines if line[0] == row]
    return float(cells[names.index(column) - len(names)].split(" ")[0].replace(",", ""))


_REDIS_US = "Redis CPU µs per claim and completion"


def test_what_is_planned_with_is_near_what_is_shown():
    """Within a factor of two: what is measured depends on the day; it must not be that of an earlier version."""
    costs, keys = Costs(), 1_000_000
    bytes_each = costs.key_bytes + costs.bucket_bytes * Rule().buckets_used(keys) / keys
    shown = {
        "bytes": (bytes_each, cell("Redis memory per remembered key", "1,000,000 keys", "bytes per done key")),
        **{
            per_s: (calls * 1000, cell("At a steady pace", f"{per_s:,} messages/s", "round trips/1,000"))
            for per_s, calls in costs.calls_at_pace[:3]
        },
        **{
            f"{keys:,} keys": (us, cell("Redis memory per remembered key", f"{keys:,} keys", _REDIS_US))
            for keys, us in costs.message_us_at_keys
            if keys <= 1_000_000  # what `make bench` has, too
        },
    }

    assert {what: pair for what, pair in shown.items() if not 0.5 < pair[0] / pair[1] < 2} == {}


def test_each_plot_is_shown_with_words_for_those_who_cannot_see_it():
    shown = re.findall(r"!\[([^\]]+)\]\(plots/([\w-]+\.svg)\)", part("figures"))

    assert sorted(name for _, name in shown) == sorted(file.name for file in PLOTS.glob("*.svg"))
    assert len(shown) >= 2
    for words, name in shown:
        ET.parse(PLOTS / name)  # well-formed
        assert len(words) > 40


def test_the_site_has_the_page():
    index = (ROOT / "docs/site/index.md").read_text()
    shown = {file for pattern in re.findall(r"^(\.\./.+)$", index, re.MULTILINE) for file in glob(pattern)}

    assert PAGE in shown
    assert "docs/performance.md" in (ROOT / "README.md").read_text()


def glob(pattern):
    name = pattern.removeprefix("../")
    return [
        file.resolve() for file in (ROOT / "docs").glob(name.removeprefix("../") + ".md") if "../../" not in pattern
    ]


def test_a_page_is_filled_between_its_markers_only():
    page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb"

    assert filled(page, "x", r"new \1") == "a\n<!-- x: begin -->\nnew \\1\n<!-- x: end -->\nb"
    with pytest.raises(ValueError, match="0 places for 'y'"):
        filled(page, "y", "new")
