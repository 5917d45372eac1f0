"""What becomes of *your* handler's effects when its process dies at each step, or when everything comes twice.

All of it in this process, in memory, with the engine and the runner of production: no server is needed, and a handler
takes a second or two.

    def test_no_charge_is_lost_or_doubled() -> None:
        charges = []
        report = crash_at_every_step(lambda payment: charges.append(payment["id"]), PAYMENTS,
                                     probe=lambda: charges, key=field("id"), payload=dict)
        assert not report.lost
        assert not report.doubled_untold
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka_once.app import App
from kafka_once.brokers.memory import MemoryBroker
from kafka_once.brokers.memory_cluster import MemoryCluster
from kafka_once.errors import KafkaOnceError
from kafka_once.keys import KeyLike
from kafka_once.member import Adapters
from kafka_once.message import Message
from kafka_once.ports import Namespace
from kafka_once.signatures import HandlerSignature
from kafka_once.stores.memory import MemoryState, MemoryStore
from kafka_once.testing.mortal import Died, MortalBroker, MortalStore, Steps, mortal_handler

__all__ = ["CrashReport", "CrashStep", "assert_idempotent", "crash_at_every_step", "deliver_twice"]

Payload = bytes | str | dict[str, Any] | list[Any]
Probe = Callable[[], Iterable[Hashable]]

_TOPIC, _GROUP = "messages", "proof"
_LEASE_S = 5
_MOST_STEPS = 2_000
_SETTINGS = {"lease": _LEASE_S, "commit_every": 0.01, "drain": 1, "backoff": 0.001, "backoff_max": 0.01}


@dataclass(frozen=True, slots=True)
class CrashStep:
    """One crash, and what it did to the effects.

    Attributes:
        name: where the process died: "before the claim", "after the handler", ...
        lost: effects that an undisturbed run has and this one has not.
        doubled: effects that this one has more often.
        told: whether a later run of the handler was told `message.in_doubt`.
    """

    name: str
    lost: Counter[Hashable]
    doubled: Counter[Hashable]
    told: bool


@dataclass(slots=True)
class CrashReport:
    """Every step, in order."""

    steps: list[CrashStep] = field(default_factory=list)

    @property
    def lost(self) -> list[CrashStep]:
        """The steps at which an effect was lost."""
        return [step for step in self.steps if step.lost]

    @property
    def doubled(self) -> list[CrashStep]:
        """The steps at which an effect happened twice. For an effect that takes no part in the claim those are
        "after the handler" and "before the completion": the effect has happened, and nobody knows."""
        return [step for step in self.steps if step.doubled]

    @property
    def doubled_untold(self) -> list[CrashStep]:
        """Those of them at which the handler was not told that it may have run before: never, if the key is right."""
        return [step for step in self.doubled if not step.told]


def crash_at_every_step(
    handler: Callable[..., Any],
    messages: Sequence[Payload],
    probe: Probe,
    *,
    key: KeyLike,
    reset: Callable[[], None] | None = None,
    within_s: float = 30.0,
    **settings: Any,
) -> CrashReport:
    """Run the handler on these messages again and again; each time its process dies one step later and another goes on.

    Args:
        handler: as for `App.handler`.
        messages: payloads; what is not bytes or str is sent as JSON.
        probe: all effects so far, one entry for each; asked before and after each run.
        key: where the idempotency key stands, as for `App.handler`.
        reset: called before each run, for effects that remember (a row that is there already is no new effect).
        within_s: how long one run may take, in seconds. Default 30.
        settings: of the `App`, such as `on_doubt`.

    Returns:
        What each crash did to the effects, compared with a run without one.

    Raises:
        TimeoutError: a run did not settle: the handler does not end, or raises each time. The text names the step.
        ConfigurationError: the handler, its key or a setting does not fit.
    """
    report = CrashReport()
    wanted, _ = _effects_of(handler, messages, probe, None, key, reset, within_s, settings)
    for number in range(_MOST_STEPS):
        steps = Steps(number)
        effects, told = _effects_of(handler, messages, probe, steps, key, reset, within_s, settings)
        if not steps.dead:
            return report
        report.steps.append(CrashStep(steps.name, wanted - effects, effects - wanted, told))
    raise TimeoutError(f"more than {_MOST_STEPS} steps: use fewer messages")


def deliver_twice(
    handler: Callable[..., Any],
    messages: Sequence[Payload],
    probe: Probe,
    *,
    key: KeyLike,
    reset: Callable[[], None] | None = None,
    within_s: float = 30.0,
    **settings: Any,
) -> Counter[Hashable]:
    """Send every message twice, as a producer does that was not answered, and compare with sending it once.

    Returns:
        The effects that the repeats added; empty if the key says what the work is.

    Raises:
        TimeoutError, ConfigurationError: as `crash_at_every_step`.
    """
    once, _ = _effects_of(handler, messages, probe, None, key, reset, within_s, settings)
    twice, _ = _effects_of(handler, [*messages, *messages], probe, None, key, reset, within_s, settings)
    return twice - once


def assert_idempotent(
    handler: Callable[..., Any], message: Payload, state: Callable[[], Any], *, times: int = 2
) -> None:
    """Run a handler that is declared idempotent on one message several times: the state is the same from the first on.

    Args:
        handler: as for `App.handler`.
        message: its payload; what is not bytes or str is sent as JSON.
        state: what the handler changes, as a value that can be compared.
        times: how often it runs. Default 2.

    Raises:
        AssertionError: the state changed again: the handler is not idempotent, and needs a key.
    """
    signature = HandlerSignature.of(handler)
    seen: list[Any] = []
    for number in range(times):
        returned = handler(*signature.arguments(Message(_TOPIC, 0, number, value=_encoded(message))))
        if inspect.isawaitable(returned):
            asyncio.run(_wait_for(returned))
        seen.append(_copy(state()))
    if any(later != seen[0] for later in seen[1:]):
        raise AssertionError(f"{signature.name} is not idempotent: the state was {seen[0]!r}, then {seen[-1]!r}")


async def _wait_for(returned: Any) -> None:
    await returned


def _copy(state: Any) -> Any:
    """The state as it is now, also if it is a live collection."""
    return state.copy() if hasattr(state, "copy") else state


def _encoded(payload: Payload) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return (payload if isinstance(payload, str) else json.dumps(payload)).encode()


def _effects_of(
    handler: Callable[..., Any],
    messages: Sequence[Payload],
    probe: Probe,
    steps: Steps | None,
    key: KeyLike,
    reset: Callable[[], None] | None,
    within_s: float,
    settings: dict[str, Any],
) -> tuple[Counter[Hashable], bool]:
    """The effects of one run, and whether a handler was told that it is in doubt."""
    if reset is not None:
        reset()
    before = Counter(probe())
    world = _World(handler, messages, key, {**_SETTINGS, **settings}, time.monotonic() + within_s)
    if steps is not None:
        world.live(steps)
        world.bury()
    told = False
    if steps is None or steps.dead:
        told = world.live(Steps())["in_doubt"] > 0
    return Counter(probe()) - before, told


class _World:
    """A log, a group and a store, in which one process lives after another."""

    def __init__(
        self,
        handler: Callable[..., Any],
        messages: Sequence[Payload],
        key: KeyLike,
        settings: dict[str, Any],
        until_s: float,
    ) -> None:
        self._handler = handler
        self._key = key
        self._settings = settings
        self._until_s = until_s
        self._count = len(messages)
        self._state = MemoryState()
        self._later_ms = 0
        self._settled = threading.Event()
        self._members: list[MemoryBroker] = []
        self._cluster = MemoryCluster()
        self._cluster.create_topic(_TOPIC)
        for payload in messages:
            self._cluster.produce(_TOPIC, value=_encoded(payload))

    def live(self, steps: Steps) -> dict[str, int]:
        """One process, until it dies or everything is settled; its counters."""
        app = App("memory", group=_GROUP, store="memory://", adapters=self._adapters(steps), **self._settings)
        app.handler(_TOPIC, key=self._key)(mortal_handler(self._handler, steps))
        app.start()
        self._look()  # a commit may have been the last thing that the one before did
        try:
            while not steps.dead and not self._settled.wait(0.01):
                if app.join(0) or time.monotonic() > self._until_s:
                    raise TimeoutError(f"the messages were not settled in time; counters: {app.stats()}")
            app.stop()
            app.join(max(self._until_s - time.monotonic(), 1.0))
        except (KafkaOnceError, Died):
            if not steps.dead:  # the dead have nothing to say
                raise
        finally:
            app.stop()
        return app.stats()

    def bury(self) -> None:
        """The group misses the dead, and its lease lapses."""
        for member in self._members:
            self._cluster.expire(member)
        self._later_ms += _LEASE_S * 1000 + 1

    def _adapters(self, steps: Steps) -> Adapters:
        def broker(_settings: object) -> MortalBroker:
            inner = MemoryBroker(self._cluster, _GROUP)
            self._members.append(inner)
            return MortalBroker(inner, steps, self._look)

        def store(_settings: object, namespace: Namespace) -> MortalStore:
            return MortalStore(
                MemoryStore(namespace, _LEASE_S * 1000, clock_ms=self._clock_ms, state=self._state), steps
            )

        return Adapters(broker=broker, store=store)

    def _clock_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._later_ms

    def _look(self) -> None:
        committed = self._cluster.committed(_GROUP)
        if sum(position.offset for position in committed.values()) >= self._count:
            self._settled.set()
