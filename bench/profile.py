"""Where a message's microseconds go: client CPU by thread and by layer, and the functions that cost most.

    python -m bench.profile                                  # effectively_once, a handler that does nothing
    python -m bench.profile --contender at_least_once --messages 300000 --top 40
    python -m bench.profile --handler-ms 1 --settings '{"concurrency": 20}' --json build/profile.json

The same topic is consumed twice. The first run is not looked at: it gives the CPU of each thread, as the kernel counts
it. In the second one py-spy looks from outside, 500 times a second, at what each thread is doing. A sample counts for
the innermost of its functions that is in the table below; the table is of files, so that it outlives a function's name.
A layer's microseconds are its share of the samples of its thread, times what the thread cost in the first run. Samples
of a thread that waits for work are left out: what waiting costs is spread over the rest.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.stage import Stage
from kafka_once.testing.services import start_kafka, start_redis

__all__ = ["LAYERS", "layer_of"]

# The way of a message, and which functions of which files are on it; "" stands for all others of the file.
LAYERS: dict[str, dict[str, tuple[str, ...]]] = {
    "poll": {
        "brokers/kafka.py": ("poll", "_poll_once"),
        "brokers/kafka_client.py": ("",),
        "brokers/kafka_positions.py": ("",),
        "brokers/kafka_assignment.py": ("",),
        "runner.py": ("_receive", "_poll"),
    },
    "key": {"intake.py": ("",), "keys.py": ("",), "key_values.py": ("",), "message.py": ("header",)},
    "digest": {"keys.py": ("digest", "_scope_prefix")},
    "frontier": {
        "core/offsets.py": ("",),
        "core/engine.py": ("on_delivered",),
        "core/partition.py": ("",),
        "core/order.py": ("",),
        "runner.py": ("_deliver",),
    },
    "choose": {
        "core/lanes.py": ("",),
        "core/lane.py": ("",),
        "core/pacing.py": ("",),
        "core/timer.py": ("",),
        "core/engine.py": ("_choose", "_next_calls", "_start_unclaimed"),
    },
    "claim": {
        "core/claiming.py": ("",),
        "core/correspondence.py": ("_claim_asks", "exchange", "_exchange_of"),
        "core/suspects.py": ("",),
    },
    "store call": {
        "stores/redis.py": ("",),
        "stores/redis_pipe.py": ("",),
        "stores/redis_line.py": ("",),
        "stores/redis_wire.py": ("",),
        "stores/sharded.py": ("",),
        "store_link.py": ("",),
        "core/correspondence.py": ("",),
        "core/reminder.py": ("",),
    },
    "hand-off": {
        "executors.py": ("",),
        "handler_loop.py": ("",),
        "handout.py": ("",),
        "inbox.py": ("",),
        "core/desk.py": ("start", "begin"),
        "core/watch.py": ("",),
        "runner.py": ("_run_handlers", "_post_ran", "_on_ran", "_take_inbox"),
    },
    "handler": {"bench/contenders.py": ("handle", "handle_async")},
    "completion": {
        "core/handling.py": ("",),
        "core/claiming.py": ("_on_completion", "_outcome_of", "_on_duplicate"),
        "core/desk.py": ("complete", "settle", "over", "ran", "resume", "_is_half_empty"),
        "core/correspondence.py": ("complete", "on_exchanged"),
    },
    "commit": {
        "core/commits.py": ("",),
        "core/marks.py": ("",),
        "brokers/kafka.py": ("commit", "commit_now"),
        "brokers/kafka_commits.py": ("",),
        "brokers/kafka_commit_codes.py": ("",),
    },
    "the wheel": {
        "runner.py": ("",),
        "core/engine.py": ("",),
        "core/desk.py": ("",),
        "picture.py": ("",),
        "observers.py": ("",),
        "handler_times.py": ("",),
        "boot_clock.py": ("",),
        "core/rules.py": ("",),
    },
    "the looking on": {"app.py": ("",), "member.py": ("",), "view.py": ("",), "bench/contenders.py": ("",)},
}
OTHER = "other"  # no function of the table was there
_THREADS = (  # by the beginning of a thread's name
    ("kafka-once-consumer", "runner"),
    ("kafka-once-handler", "handlers"),
    ("kafka-once-loop", "handlers"),
    ("kafka-once-store", "store"),
    ("MainThread", "main"),
    ("rdk:", "librdkafka"),
)
# Where a thread waits for work. It uses no CPU there, but is often seen there while it waits for its turn to go on.
_WAITS = {"inbox.py:Inbox.wait", "executors.py:_Threads._work"}
_SAMPLES_PER_S = 500
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")


@dataclass(frozen=True, slots=True)
class Profile:
    """CPU in µs per message: by thread, by layer, by function (with its layer)."""

    threads: dict[str, float]
    layers: dict[str, float]
    functions: dict[str, tuple[str, float]]


def main() -> None:
    options = _arguments()
    with start_kafka("apache") as kafka, start_redis("local", config={"appendonly": "no"}) as redis:
        stage = Stage(kafka, redis)
        workload = stage.produce(options.messages, options.partitions)
        task = {"handler_s": options.handler_ms / 1000, "settings": json.loads(options.settings)}
        plain = stage.run(options.contender, workload, **task)
        with tempfile.TemporaryDirectory() as folder:
            samples = Path(folder) / "samples"
            stage.run(options.contender, workload, watched=_looking_on(samples), **task)
            profile = _profile(plain["threads_us"], samples.read_text())
    print(_shown(options, plain, profile))
    if options.json:
        told = {"run": plain, "layers": profile.layers, "threads": profile.threads, "functions": profile.functions}
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(json.dumps(told, indent=1))


def _looking_on(samples: Path) -> list[str]:
    """The command that starts a program and writes to this file what it is doing all the time."""
    spy = str(Path(sys.executable).parent / "py-spy")
    how = ["--nonblocking", "--threads", "--function", "--rate", str(_SAMPLES_PER_S), "--format", "raw"]
    return [spy, "record", *how, "--output", str(samples), "--"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contender", default="effectively_once", help="or at_least_once")
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--handler-ms", type=float, default=0.0, help="how long the handler sleeps (default 0)")
    parser.add_argument("--settings", default="{}", help="of the App, as JSON")
    parser.add_argument("--top", type=int, default=20, help="so many functions are listed (default 20)")
    parser.add_argument("--json", help="write everything to this file, too")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------------ what is counted


def layer_of(stack: list[tuple[str, str]]) -> tuple[str, str]:
    """The layer of a stack of (function, file), outermost first, and the function that decided it."""
    for function, file in reversed(stack):
        for name, files in LAYERS.items():
            for path, functions in files.items():
                if file.endswith(path) and function.split(".")[-1] in functions:
                    return name, f"{path}:{function}"
        for name, files in LAYERS.items():
            for path, functions in files.items():
                if file.endswith(path) and "" in functions:
                    return name, f"{path}:{function}"
    function, file = stack[-1]
    return OTHER, f"{file}:{function}"


def group_of(thread: str) -> str:
    return next((group for beginning, group in _THREADS if thread.startswith(beginning)), OTHER)


def _profile(threads_us: dict[str, float], samples: str) -> Profile:
    threads: Counter[str] = Counter()
    for name, spent_us in threads_us.items():
        threads[group_of(name)] += spent_us
    counted: dict[str, Counter[tuple[str, str]]] = {}
    for line in samples.splitlines():
        text, _, count = line.rpartition(" ")
        thread, stack = _stack_of(text)
        if stack and thread not in ("main", OTHER):  # the main thread only looks on, and imports
            layer, function = layer_of(stack)
            if function not in _WAITS:
                counted.setdefault(thread, Counter())[layer, function] += int(count)
    layers: Counter[str] = Counter()
    functions: dict[str, tuple[str, float]] = {}
    for thread, by_function in counted.items():
        for (layer, function), count in by_function.items():
            us = threads[thread] * count / by_function.total()
            layers[layer] += us
            functions[function] = (layer, us + functions.get(function, ("", 0.0))[1])
    sampled = sum(threads[thread] for thread in counted)
    layers["librdkafka"] = threads["librdkafka"]
    layers["the looking on"] += sum(threads.values()) - sampled - threads["librdkafka"]
    return Profile(dict(threads), dict(layers), functions)


def _stack_of(text: str) -> tuple[str, list[tuple[str, str]]]:
    frames = text.split(";")
    if not frames[0].startswith("thread "):
        return OTHER, []
    _, _, name = frames[0].partition(": ")
    if any("<module>" in frame for frame in frames[1:]):  # it still imports
        return OTHER, []
    stack = [(match["function"], match["file"]) for frame in frames[1:] if (match := _FRAME.match(frame))]
    return group_of(name.strip("'\" ")), stack


# -------------------------------------------------------------------------------------------------------- what is shown


def _shown(options: argparse.Namespace, plain: dict[str, Any], profile: Profile) -> str:
    run = (
        f"{options.contender}, handler {options.handler_ms:g} ms: {plain['messages_per_s']:,.0f} messages/s, "
        f"{plain['cpu_us']:.1f} µs of client CPU and {plain['redis_us']:.1f} µs of Redis per message, "
        f"{plain['round_trips_per_1000']:.1f} round trips per 1,000"
    )
    lines = [
        run,
        "",
        "| thread | µs per message |",
        "|---|---|",
        *(f"| {name} | {us:.2f} |" for name, us in sorted(profile.threads.items(), key=lambda each: -each[1])),
        "",
        "| layer | µs per message | share |",
        "|---|---|---|",
    ]
    total = sum(profile.layers.values())
    order = [*LAYERS, OTHER, "librdkafka"]
    named = sorted(profile.layers.items(), key=lambda each: order.index(each[0]))
    lines += [f"| {name} | {us:.2f} | {us / total:.0%} |" for name, us in named]
    lines += [f"| all | {total:.2f} | |", "", "| function | layer | µs per message |", "|---|---|---|"]
    ranked = sorted(profile.functions.items(), key=lambda each: -each[1][1])[: options.top]
    lines += [f"| {name} | {layer} | {us:.2f} |" for name, (layer, us) in ranked]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
