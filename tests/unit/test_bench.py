"""The benchmark's own arithmetic: targets, plots, the books of a killed worker, the layers of a profile."""

import re
from xml.etree import ElementTree as ET

import pytest

from bench.costs import costs_of
from bench.kill_worker import BEGAN, ENDED, TOTALS, Life
from bench.plots import Line, Plot
from bench.profile import LAYERS, layer_of
from bench.report import figures, plots
from bench.results import Results
from bench.tables import Measure, Row
from bench.targets import TARGETS
from kafka_once.cli.planning import Costs


def results(**rates):
    rows = [Row(name, [{"messages_per_s": rate} for rate in several]) for name, several in rates.items()]
    columns = (("messages_per_s", "messages/s", 0),)
    return Results("make bench", "a machine", {"throughput": Measure("throughput", "T", "N", columns, rows)})


def told(what, found):
    [target] = [target for target in TARGETS if target.what == what]
    return target.shown(found)[1:]


AGAINST_BY_HAND = "effectively_once ÷ the fastest batch loop by hand"


def test_a_target_is_reached_by_the_medians():
    found = results(effectively_once=[90.0, 110.0, 1_000.0], batch_check_after=[100.0, 100.0, 5_000.0])

    assert told(AGAINST_BY_HAND, found) == ["≥ 1.00", "1.10", "reached"]


def test_a_target_is_missed():
    found = results(effectively_once=[90.0], batch_check_after=[100.0])

    assert told(AGAINST_BY_HAND, found) == ["≥ 1.00", "0.90", "**not reached**"]


def test_a_peer_that_is_not_there_is_not_measured():
    assert told("effectively_once ÷ AWS Powertools", results(effectively_once=[90.0]))[1:] == ["–", "not measured"]


def test_flat_is_the_slowest_against_the_fastest():
    found = results()
    rows = [Row(f"{n} keys", [{"messages_per_s": rate}]) for n, rate in enumerate([100.0, 79.0, 90.0])]
    found.measures["remembered"] = Measure("remembered", "T", "N", (), rows)

    assert told("remembered keys: the slowest row ÷ the fastest", found) == ["≥ 0.80", "0.79", "**not reached**"]


def test_what_was_measured_is_read_back(tmp_path):
    found = results(effectively_once=[90.0, 110.0])
    found.write(tmp_path / "bench.json")

    assert Results.read(tmp_path / "bench.json") == found
    assert found.measures["throughput"].as_markdown().splitlines()[-1] == "| effectively_once | 100 (90–110) |"


def test_the_page_shows_each_table_with_its_command_and_its_plot():
    found = results(effectively_once=[90.0])
    times = [
        Row(f"{ms:g} ms, {name}", [{"handler_ms": ms, "messages_per_s": rate}])
        for ms, name, rate in ((0, "poll_loop", 9e4), (1, "poll_loop", 900), (0, "effectively_once", 8e4))
    ]
    keys = [Row(f"{keys} keys", [{"keys": keys, "bytes": 24.0, "by_hand_bytes": 130.0}]) for keys in (10, 1_000)]
    found.measures["handler-times"] = Measure("handler-times", "Times", "N", (), times)
    found.measures["redis-memory"] = Measure("redis-memory", "Memory", "N", (), keys)
    drawn = dict(plots(found))
    parts = figures(found, drawn).split("\n\n")

    assert parts[0] == "Measured by `make bench`: a machine."
    assert parts[1:3] == ["### T", "`python -m bench --size usual --only throughput`; runs of each row: 1"]
    assert parts[parts.index("### Times") + 4].endswith("](plots/throughput.svg)")
    assert parts[parts.index("### Memory") + 4].endswith("](plots/memory.svg)")
    assert [line.points for line in drawn["throughput"].lines] == [[(0, 8e4)], [(0, 9e4), (1, 900)], [(1, 4_000)]]
    assert drawn["memory"].lines[0].points[1] == pytest.approx((1_000, 24_000 / 2**20))


def test_costs_are_those_of_the_tables():
    """30,000 keys in 24,072 of 65,536 buckets and a million in all of them, at 20 bytes a key and 60 a bucket."""
    few, many = 20 + 60 * 24_072 / 30_000, 20 + 60 * 65_536 / 1_000_000
    tables = {
        "redis-memory": [
            ("a", {"keys": 30_000, "bytes": few, "redis_us": 6.0}),
            ("b", {"keys": 1_000_000, "bytes": many, "redis_us": 8.0}),
        ],
        "redis-calls": [("1", {"redis_us": 60.0}), ("500", {"redis_us": 5.0})],
        "pace": [
            ("slow", {"per_s": 100, "round_trips_per_1000": 2_000.0, "redis_us": 400.0}),
            ("fast", {"per_s": 1_000, "round_trips_per_1000": 1_500.0, "redis_us": 155.0}),
        ],
        "handler-times": [
            ("1 ms, poll_loop", {"handler_ms": 1.0}),
            ("1 ms, effectively_once", {"handler_ms": 1.0, "round_trips_per_1000": 700.0, "messages_per_s": 2_000.0}),
        ],
    }
    found = results()
    for name, rows in tables.items():
        found.measures[name] = Measure(name, "T", "N", (), [Row(row, [run]) for row, run in rows])

    assert costs_of(found) == Costs(
        20.0, 60, 100, ((30_000, 6.0), (1_000_000, 8.0)), ((100, 2.0), (1_000, 1.5)), ((1.0, 0.7),), 1_500
    )


def test_a_plot_is_drawn_to_scale():
    svg = Plot("T", "keys", "MiB", [Line("a", [(10, 1), (1_000, 100)]), Line("b", [(100, 10)])]).as_svg()
    ET.fromstring(svg)  # well-formed
    circles = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]

    (left, low), (right, high), middle = circles
    assert middle == pytest.approx(((left + right) / 2, (low + high) / 2))  # in the middle of both logarithms
    assert left < right
    assert low > high


# ----------------------------------------------------------------------------------------------- the book of a worker


def key(number):
    return number.to_bytes(16, "little")


def test_a_life_tells_what_it_did_after_what_was_in_doubt():
    life = Life()
    life.add(BEGAN, True, 0, key(1))
    life.add(ENDED, True, 1_000_000, key(1))
    assert not life.worked_for(0.5)
    for number in range(11):
        life.add(BEGAN, False, 10_000_000 + number * 100_000_000, key(number + 2))
        life.add(ENDED, False, 10_000_000 + number * 100_000_000, key(number + 2))

    assert life.in_doubt == {key(1)}
    assert life.worked_for(1.0)
    assert not life.worked_for(1.1)
    assert life.rates()["messages_per_s"] == pytest.approx(12 / 1.009)


def test_a_life_is_not_at_work_while_something_is_in_doubt():
    life = Life()
    life.add(BEGAN, False, 0, key(1))
    life.add(ENDED, False, 1, key(1))
    life.add(ENDED, False, 2_000_000_000, key(2))
    assert life.worked_for(1.0)
    life.add(BEGAN, True, 2_000_000_001, key(3))
    assert not life.worked_for(1.0)


def test_round_trips_are_those_between_the_first_and_the_last_totals():
    life = Life()
    for calls, messages in ((10, 0), (30, 500), (60, 1_000)):
        life.add(TOTALS, False, 0, calls.to_bytes(8, "little") + messages.to_bytes(8, "little"))

    assert life.rates()["round_trips_per_1000"] == 50


# ------------------------------------------------------------------------------------------------------- the profile


@pytest.mark.parametrize(
    ("stack", "layer"),
    [
        ([("_deliver", "runner.py"), ("read", "intake.py"), ("digest", "keys.py")], "digest"),
        ([("_deliver", "runner.py"), ("read", "intake.py"), ("extract", "keys.py")], "key"),
        (
            [("_turn", "kafka_once/runner.py"), ("_choose", "kafka_once/core/engine.py"), ("step", "delivery.py")],
            "choose",
        ),
        ([("run", "threading.py")], "other"),
    ],
)
def test_a_sample_counts_for_the_innermost_function_of_the_table(stack, layer):
    assert layer_of(stack)[0] == layer


def test_every_file_of_the_layers_is_there():
    from tests.tidy.documents import ROOT

    files = {path for layer in LAYERS.values() for path in layer if not path.startswith("bench/")}
    assert [path for path in files if not (ROOT / "middleware/kafka_once" / path).exists()] == []
