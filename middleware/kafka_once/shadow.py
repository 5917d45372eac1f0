"""Shadow mode: beside a running pipeline, count what would be skipped, and change nothing of it.

The same engine reads the same topics, in a group of its own. So the offsets of the running group are not touched, and
neither are its claims: a namespace is a cluster and a group. In the place of each handler stands one that does nothing;
nothing is dead-lettered, and no message stops it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import SecretStr

from kafka_once.app import App, signals_told
from kafka_once.core.delivery import Defect
from kafka_once.core.semantics import DoubtPolicy, FailurePolicy, KeyPolicy, Semantics
from kafka_once.errors import ConfigurationError, MissingKey, UndecodablePayload
from kafka_once.executors import Handlers
from kafka_once.intake import Intake, Route, Routes
from kafka_once.member import Member
from kafka_once.setting_checks import printable, store_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka_once.message import Message
    from kafka_once.payloads import Decoder
    from kafka_once.settings import Settings

__all__ = ["SUFFIX", "Example", "Shadow"]

log = logging.getLogger("kafka_once")

SUFFIX: Final = ".shadow"

_KEPT: Final = 100_000  # keys and payloads that are compared, the newest of each: 35 MB
_EXAMPLES: Final = 20


class Example(NamedTuple):
    """A message that a person should look at. Coordinates only: `what` is the name of its counter."""

    what: str
    message: str
    first: str


class Shadow:
    """What an app would do, counted. Run once.

    Args:
        app: with its handlers; it is not started, and none of its handlers is called.
        group: the consumer group to read in. Default: the app's, with ".shadow" behind it.
        store: URL of the store to remember keys in. Default: the app's; if it has none, this process's memory.

    Raises:
        ConfigurationError: the group is the app's own, or no handler has a key. Nothing was consumed.
    """

    def __init__(self, app: App, *, group: str | None = None, store: str | None = None) -> None:
        self.beside = app.settings.group
        self.settings = _settings(app.settings, group, store)
        if not any(route.rule.key is not None for route in app._routes):
            raise ConfigurationError("key", None, 'no handler has one, so there is nothing to see: key=header("…")')
        self._tally = _Tally()
        routes = Routes([_shadowed(route, self._tally) for route in app._routes])
        self._member = Member(
            self.settings,
            routes,
            Handlers(routes, self.settings.concurrency),
            exclusive=True,
            adapters=app._adapters,
            intake=_ShadowIntake(routes, self._tally),
        )

    def run(self) -> None:
        """Read until SIGTERM or SIGINT; the counters are logged every `report_every`.

        Raises:
            KafkaOnceError: why it stopped by itself.
        """
        every_ms = self.settings.report_every_ms
        due_s = time.monotonic() + (every_ms or 0) / 1000
        with signals_told(lambda _number: self.stop()):
            self.start()
            while not self.join(1.0):
                if every_ms is not None and time.monotonic() >= due_s:
                    log.info("shadow %s", " ".join(f"{name}={count}" for name, count in self.stats().items()))
                    due_s += every_ms / 1000

    def start(self) -> None:
        """Begin on a thread of its own. What goes wrong is raised by `join`."""
        self._member.start()

    def stop(self) -> None:
        """Stop; safe from any thread and in signal handlers."""
        self._member.stop()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended; False if it has not within the time-out."""
        return self._member.join(timeout_s)

    def stats(self) -> dict[str, int]:
        """What would have happened; docs/shadow.md says what each number means."""
        counters = self._member.view.stats()
        deliveries, repeats, again = (counters[name] for name in ("deliveries", "repeat", "redelivery"))
        return {"deliveries": deliveries, "would_skip": repeats, "read_again": again, **self._tally.counts()}

    def examples(self) -> list[Example]:
        """The first messages that something is wrong with, a few of each kind."""
        return self._tally.examples()


def _settings(app: Settings, group: str | None, store: str | None) -> Settings:
    """The app's, in a group of its own, and with nothing in it that could act on the world."""
    group = app.group + SUFFIX if group is None else group
    try:
        printable(group)
    except ValueError:
        raise ConfigurationError("group", group, "write a name of 1 to 255 printable characters") from None
    if group == app.group or len(group) > 255:
        remedy = "that is the app's own group, whose offsets must not change; choose another"
        raise ConfigurationError("group", group, remedy if group == app.group else "it has more than 255 characters")
    changed: dict[str, Any] = {
        "group": group,
        "instance_id": None,
        "health_port": None,  # the app's own may be served there
        "kafka": {name: value for name, value in app.kafka.items() if name not in ("group.id", "group.instance.id")},
        "semantics": Semantics.EFFECTIVELY_ONCE,
        "dead_letter_topic": None,
        "on_missing_key": KeyPolicy.STOP,
        "on_bad_payload": FailurePolicy.STOP,
        "on_failure": FailurePolicy.STOP,
        "on_doubt": DoubtPolicy.RUN,
    }
    if store is not None or app.store is None:
        changed["store"] = SecretStr(str(store_url(store or "memory://")))
    return app.model_copy(update=changed)


def _shadowed(route: Route, tally: _Tally) -> Route:
    assert route.signature is not None
    tried = _Tried(route.signature.decoder, tally, keyed=route.rule.key is not None)
    signature = replace(route.signature, is_async=False, decoder=tried)
    rule = replace(route.rule, on_missing=KeyPolicy.STOP)  # so that the intake is told; nothing stops
    return replace(route, rule=rule, handler=_nothing, signature=signature)


def _nothing(*_: object) -> None:
    """Stands for every handler."""


class _Tried:
    """Decodes as the handler's decoder does, to see whether it can. What has no key was counted by the intake."""

    def __init__(self, decoder: Decoder, tally: _Tally, *, keyed: bool) -> None:
        self._decoder = decoder
        self._tally = tally
        self._keyed = keyed

    def decode(self, message: Message) -> object:
        if self._keyed and message.idempotency_key is None:
            return None
        try:
            self._decoder.decode(message)
        except UndecodablePayload:
            self._tally.add("undecodable", message)
        else:
            self._tally.add("would_process", message)
        return None


class _ShadowIntake(Intake):
    """Reads keys as ever; a message without one is counted and passed on without a claim."""

    def __init__(self, routes: Routes, tally: _Tally) -> None:
        super().__init__(routes)
        self._tally = tally

    def read(self, topic: str, messages: Sequence[Message]) -> list[tuple[bytes | None, Defect | None]]:
        read = super().read(topic, messages)
        return [self._told(message, *found) for message, found in zip(messages, read, strict=True)]

    def _told(
        self, message: Message, digest: bytes | None, defect: Defect | None
    ) -> tuple[bytes | None, Defect | None]:
        fresh = self._tally.is_fresh(message)
        if defect is not None and isinstance(defect.error, MissingKey | UndecodablePayload):
            if fresh:
                self._tally.add("missing_keys" if isinstance(defect.error, MissingKey) else "undecodable", message)
            return None, None
        if fresh and digest is None:
            self._tally.add("unprotected", message)
        elif fresh and digest is not None and defect is None:
            self._tally.compare(digest, message)
        return digest, defect


@dataclass(slots=True)
class _Seen:
    payload: bytes
    place: str
    time_ms: int | None


class _Tally:
    """What the engine has no counter for. Called by the consumer's thread, and by those of the handlers."""

    NAMES = (
        "would_process",
        "missing_keys",
        "undecodable",
        "unprotected",
        "other_payload",
        "same_payload_other_key",
        "longest_gap_ms",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(self.NAMES, 0)
        self._examples: dict[str, list[Example]] = {}
        self._read_up_to: dict[tuple[str, int], int] = {}
        self._keys: dict[bytes, _Seen] = {}
        self._payloads: dict[bytes, str] = {}

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def examples(self) -> list[Example]:
        with self._lock:
            return [example for kind in self._examples.values() for example in kind]

    def is_fresh(self, message: Message) -> bool:
        """False for one that Kafka gives us a second time, after a rebalance. Called once for each delivery."""
        partition = (message.topic, message.partition)
        if message.offset <= self._read_up_to.get(partition, -1):
            return False
        self._read_up_to[partition] = message.offset
        return True

    def add(self, what: str, message: Message) -> None:
        with self._lock:
            self._counts[what] += 1
            if what in ("missing_keys", "undecodable"):
                self._show(what, str(message.coordinates()), "")

    def compare(self, digest: bytes, message: Message) -> None:
        """Is this a repeat, and does it look like one? Is this a payload that has come under another key?"""
        payload = blake2b(message.value or b"", digest_size=12).digest()
        place = str(message.coordinates())
        with self._lock:
            seen = self._keys.get(digest)
            if seen is not None:
                self._compare_with(seen, payload, place, message.timestamp_ms)
                return
            _keep(self._keys, digest, _Seen(payload, place, message.timestamp_ms))
            if not message.value:
                return
            if payload in self._payloads:
                self._counts["same_payload_other_key"] += 1
                self._show("same_payload_other_key", place, self._payloads[payload])
            else:
                _keep(self._payloads, payload, place)

    def _compare_with(self, seen: _Seen, payload: bytes, place: str, time_ms: int | None) -> None:
        if seen.payload != payload:
            self._counts["other_payload"] += 1
            self._show("other_payload", place, seen.place)
        if seen.time_ms is not None and time_ms is not None:
            self._counts["longest_gap_ms"] = max(self._counts["longest_gap_ms"], time_ms - seen.time_ms)

    def _show(self, what: str, place: str, first: str) -> None:
        examples = self._examples.setdefault(what, [])
        if len(examples) < _EXAMPLES:
            examples.append(Example(what, place, first))


def _keep(kept: dict[Any, Any], name: object, value: object) -> None:
    """Remember the newest; the oldest goes."""
    kept[name] = value
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]
