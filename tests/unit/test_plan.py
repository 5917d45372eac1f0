"""`kafka-once plan`: exact figures, the store's own rule of windows, and costs that stay near what is measured."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kafka_once.stores
from kafka_once.cli import commands
from kafka_once.cli.planning import Costs, Load, Rule, plan_for

LUA = (Path(kafka_once.stores.__file__).parent / "done_keys.lua").read_text()
PLAIN = Costs(
    key_bytes=20.0,
    bucket_bytes=100.0,
    call_us=50.0,
    message_us_at_keys=((10_000_000, 5.0), (1_000_000_000, 15.0)),
    calls_at_pace=((100, 2.0), (10_000, 0.0)),
    calls_by_handler=((0.0, 0.0), (10.0, 1.0)),
    calls_per_s_most=12_000.0,
)


def test_the_rule_is_that_of_the_script():
    [buckets] = map(int, re.search(r"BUCKETS, PARTS = (\d+), ", LUA).groups())
    figures = map(int, re.search(r"AVERAGE, FULL, GROWTH, WIDEST = (\d+), (\d+), (\d+), (\d+)", LUA).groups())

    assert Rule() == Rule(buckets, *figures)
    assert "last.count >= FULL * BUCKETS * last.width" in LUA, "windows are full by another count"
    assert "math.ceil(last.count / (AVERAGE * BUCKETS))" in LUA, "the width is foreseen in another way"
    assert "return now_ms < window_end(window) + window.remember" in LUA, "windows are looked at for another time"
    assert "if at == 1 or in_sight(window) then" in LUA, "windows stay for another time than Plan reckons"


@pytest.mark.parametrize(
    ("keys", "width"),
    [(0, 1), (1_048_576, 1), (1_048_577, 2), (8_000_000, 8), (268_435_456, 256), (400_000_000, 256)],
)
def test_windows_are_as_wide_as_the_script_makes_them(keys, width):
    assert Rule().width(keys) == width


@pytest.mark.parametrize(
    ("keys", "windows"),
    [
        (1_572_864, 1),
        (1_572_865, 2),
        (5 * 1_572_864, 2),
        (5 * 1_572_864 + 1, 3),
        (341 * 1_572_864, 5),
        (597 * 1_572_864, 6),  # the widest one after another
        (3_024_000_000, 12),
    ],
)
def test_windows_grow_as_the_script_makes_them_grow(keys, windows):
    assert Rule().windows_until(keys) == windows


def test_buckets_are_used_as_digests_fall():
    rule = Rule()

    assert rule.buckets_used(0) == 0
    assert rule.buckets_used(1) == pytest.approx(1, rel=1e-4)
    assert rule.buckets_used(65_536) == pytest.approx(65_536 * 0.632, rel=1e-3)
    assert rule.buckets_used(10_000_000) == pytest.approx(10 * 65_536, rel=1e-3)


def test_a_steady_load_to_the_byte():
    """A thousand keys a second, an hour: 3.6 million are promised; held are twice that."""
    plan = plan_for(Load(1_000, 3_600), costs=PLAIN)

    assert (plan.keys, plan.keys_held, plan.windows, plan.windows_growing) == (3_600_000, 7_200_000, 2, 3)
    assert plan.bytes_held == round(2 * (3_600_000 * 20 + Rule().buckets_used(3_600_000) * 100))
    assert plan.calls_per_s == pytest.approx(1_000)  # in the middle, by the logarithm, between 2 and 0 a message
    assert plan.cpu == pytest.approx((1_000 * 5 + 1_000 * 50) / 1e6)
    assert plan.shards == 1


def test_what_fills_the_widest_window_goes_into_several():
    """1.2 thousand million keys: 402,653,184 fill one."""
    plan = plan_for(Load(1_000, 1_200_000, server_bytes=1e12), costs=PLAIN)
    used = 256 * 65_536 * 1_200_000_000 / 402_653_184

    assert (plan.shards, plan.windows) == (1, 4)
    assert plan.bytes_held == pytest.approx(2 * (1_200_000_000 * 20 + used * 100))


def test_windows_are_those_of_a_shard():
    plan = plan_for(Load(1_000, 1_200_000, server_bytes=4e10), costs=PLAIN)

    assert (plan.shards, plan.windows, plan.windows_growing) == (2, 3, 7)


@pytest.mark.parametrize(
    ("load", "message_us"),
    [
        (Load(20_000, 1), 5.0),
        (Load(20_000, 2_500), 10.0),  # a hundred million held, in the middle of what was measured, by the logarithm
        (Load(20_000, 2_500, server_bytes=2e9), 8.495),  # half of them on each of two
        (Load(20_000, 100_000, server_bytes=1e12), 15.0),
    ],
)
def test_the_more_keys_a_server_holds_the_more_it_takes_for_a_message(load, message_us):
    assert plan_for(load, costs=PLAIN).cpu == pytest.approx(20_000 * message_us / 1e6, rel=1e-3)


def test_repeats_take_no_memory():
    plan = plan_for(Load(1_000, 3_600, repeats=0.25), costs=PLAIN)

    assert (plan.keys, plan.keys_held) == (2_700_000, 5_400_000)
    assert plan.cpu == plan_for(Load(1_000, 3_600), costs=PLAIN).cpu


@pytest.mark.parametrize(
    ("load", "calls_per_s"),
    [
        (Load(50, 60), 100.0),  # below the slowest pace that was measured
        (Load(100, 60), 200.0),
        (Load(20_000, 60), 0.0),
        (Load(20_000, 60, handler_ms=5), 10_000.0),  # each half of its calls: the handler keeps them apart
        (Load(20_000, 60, handler_ms=30), 12_000.0),  # one process does not make more
        (Load(20_000, 60, handler_ms=30, processes=2), 20_000.0),
        (Load(20_000, 60, processes=200), 40_000.0),  # each process has few
    ],
)
def test_round_trips(load, calls_per_s):
    assert plan_for(load, costs=PLAIN).calls_per_s == pytest.approx(calls_per_s)


def test_handlers_at_once_are_what_comes_in_while_one_runs():
    assert plan_for(Load(5_000, 60, handler_ms=5)).handlers_at_once == 25


@pytest.mark.parametrize(
    ("load", "shards"),
    [
        (Load(1_000, 3_600, server_bytes=400_000_000), 1),  # of 196 MB
        (Load(1_000, 3_600, server_bytes=200_000_000), 2),  # a quarter stays free
        (Load(20_000, 60, handler_ms=10, processes=2), 3),  # 20,000 × 55 µs: 1.1 cores, half a core for each
    ],
)
def test_shards_are_advised_by_memory_and_by_cpu(load, shards):
    assert plan_for(load, costs=PLAIN).shards == shards


def test_digests_are_long_enough():
    assert plan_for(Load(5_000, 7 * 86_400)).mistaken == pytest.approx(6_048_000_000**2 / 2**129)


# -------------------------------------------------------------------------------------------------------- the command


def call(*arguments):
    return CliRunner().invoke(commands, ["plan", *arguments])


def test_as_json_it_is_the_plan():
    options = ["--rate", "300000/m", "--remember-for", "7d", "--repeats", "20", "--handler-time", "5ms"]
    shown = call(*options, "--processes", "4", "--memory", "64GB", "--json")

    load = Load(5_000, 7 * 86_400, 0.2, 5.0, 4, 64 * 2**30)
    assert json.loads(shown.stdout) == asdict(plan_for(load))


def test_for_people():
    shown = call("--rate", "5000/s", "--remember-for", "7d", "--handler-time", "5ms", "--processes", "5").stdout
    rows = [line.strip().split("  ", 1) for line in shown.splitlines()]

    assert rows[0] == ["3,024,000,000", "keys remembered for certain"]
    assert rows[1][0] == "6,048,000,000"
    assert "those of 2 × remember_for, in 2 windows, up to 6 while they grow at first" in rows[1][1]
    assert rows[-3][0] == "25.0"
    assert "5.0 in each process" in rows[-3][1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rate", "5000"], "--rate='5000': write messages per time"),
        (["--rate", "0/s"], "--rate='0/s'"),
        (["--rate", "5/s", "--remember-for", "week"], "--remember-for='week': write a time of 1 s or more"),
        (["--rate", "5/s", "--remember-for", "0s"], "--remember-for='0s'"),
        (["--rate", "5/s", "--memory", "16"], "--memory='16': write a size"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(options, sentence):
    shown = call(*options)

    assert shown.exit_code == 1
    assert sentence in shown.stderr
    assert shown.stderr.count("\n") == 1
