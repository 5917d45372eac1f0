"""How much of each measure a quick, a usual and a full run has."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMMANDS", "SIZES", "Size"]

COMMANDS = {"quick": "make bench-quick", "usual": "make bench", "full": "make bench-full"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much. What is empty or zero is left out.

    Attributes:
        messages, rounds: of the table that compares contenders.
        peers: whether those from PyPI are among them.
        again: rounds of the other tables.
        handlers_ms: times of a handler.
        remembered: keys that are known before a run.
        partitions: of a topic.
        handlers: in an app, each with a topic of its own.
        latency_messages: at 100 a second.
        paces: messages a second, at a steady pace, for so many seconds.
        backlogs: messages that wait while a handler is slow.
        done_keys: whose memory in Redis is weighed, at each tenth power and half of one up to it.
        turnover_s: for how long keys come and expire.
        order_messages: for the table of orders.
        kills: of each row of the table of kills.
    """

    messages: int
    rounds: int
    peers: bool = False
    again: int = 0
    handlers_ms: tuple[float, ...] = ()
    remembered: tuple[int, ...] = ()
    partitions: tuple[int, ...] = ()
    handlers: tuple[int, ...] = ()
    latency_messages: int = 0
    paces: tuple[int, ...] = ()
    pace_s: float = 4.0
    backlogs: tuple[int, ...] = ()
    done_keys: int = 0
    turnover_s: int = 0
    order_messages: int = 0
    kills: int = 0


SIZES = {
    "quick": Size(150_000, 1, again=1, handlers_ms=(1,), latency_messages=300, done_keys=100_000, order_messages=5_000),
    "usual": Size(
        300_000,
        5,
        peers=True,
        again=3,
        handlers_ms=(0, 0.1, 1, 5),
        remembered=(10_000, 100_000, 1_000_000),
        partitions=(1, 12, 100),
        handlers=(1, 20),
        latency_messages=400,
        paces=(100, 1_000, 5_000, 20_000),
        backlogs=(10_000, 100_000, 1_000_000),
        done_keys=1_000_000,
        turnover_s=60,
        order_messages=40_000,
        kills=5,
    ),
    "full": Size(
        1_000_000,
        7,
        peers=True,
        again=4,
        handlers_ms=(0, 0.1, 0.3, 1, 3, 5, 10, 20),
        remembered=(10_000, 100_000, 1_000_000, 10_000_000),
        partitions=(1, 12, 100),
        handlers=(1, 20),
        latency_messages=1_500,
        paces=(100, 1_000, 5_000, 20_000),
        backlogs=(10_000, 100_000, 1_000_000),
        done_keys=10_000_000,
        turnover_s=120,
        order_messages=60_000,
        kills=12,
    ),
}
