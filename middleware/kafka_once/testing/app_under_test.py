"""Your app in a test: send messages, wait until they are settled, look at what became of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from pydantic_core import to_json

from kafka_once.app import App
from kafka_once.core.events import Outcome
from kafka_once.errors import ConfigurationError
from kafka_once.member import Adapters
from kafka_once.message import Coordinates, Message
from kafka_once.observers import Observer

__all__ = ["AppUnderTest", "Place"]

Headers = Sequence[tuple[str, bytes | None]]

_PATIENCE_S = 20.0
_NOT_SETTLED = {Outcome.HANDED_BACK, Outcome.DROPPED}

# What a test should not wait for.
_QUICK = {"backoff": "1ms", "backoff_max": "20ms", "commit_every": "20ms", "report_every": None, "health_port": None}


class Place(Protocol):
    """A Kafka and a store for one app."""

    adapters: Adapters | None
    settings: Mapping[str, Any]

    def create_topic(self, topic: str, partitions: int) -> str:
        """Make it, and return the name it has here."""
        ...

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None
    ) -> Coordinates:
        """Append a record to a topic of that name here; return when it stands there."""
        ...

    def records(self, topic: str) -> list[Message]:
        """Everything that stands in a topic of that name here."""
        ...


class AppUnderTest(AbstractContextManager["AppUnderTest"]):
    """Your app's handlers at work in another place; `MemoryApp` and the fixture `once_app` make it.

    As a context manager it starts the handlers and stops them. What stops the app by itself is raised by `settle`.

    Args:
        app: yours, not started; it is not changed.
        place: where it runs.
        partitions: of each topic.
        settings: what shall be different, by name. Waits are short unless you say otherwise here.
    """

    def __init__(self, app: App, place: Place, partitions: int, settings: Mapping[str, Any]) -> None:
        self._place = place
        self._partitions = partitions
        self._names: dict[str, str] = {}
        self._sent: list[tuple[str, bytes | None, bytes | None, Headers]] = []
        self._awaited: set[Coordinates] = set()
        self._outcomes = _Outcomes()
        self._app = self._twin_of(app, {**_QUICK, "instance_id": None, **place.settings, **settings})

    def _twin_of(self, app: App, settings: dict[str, Any]) -> App:
        self._topics = list(app.topics)
        for topic in self._topics:
            if not topic.startswith("^"):
                self._name(topic)
        dead = self._dead_letter_topic = settings.get("dead_letter_topic", app.settings.dead_letter_topic)
        if dead is not None:
            settings["dead_letter_topic"] = self._name(dead)
        return app.twin(settings, topics=self._names, observers=[self._outcomes], adapters=self._place.adapters)

    def _name(self, topic: str) -> str:
        if topic not in self._names:
            self._names[topic] = self._place.create_topic(topic, self._partitions)
        return self._names[topic]

    def __enter__(self) -> Self:
        self._app.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.stop()
        told = error is not None or self._outcomes.told_why
        try:
            ended = self._app.join(_PATIENCE_S)
        except Exception:
            if not told:
                raise
            return
        if not ended and not told:
            raise AssertionError(f"the app has not ended within {_PATIENCE_S:g} s")

    # ------------------------------------------------------------------------------------------------------- sending

    def send(
        self,
        topic: str,
        value: object = None,
        *,
        key: bytes | str | None = None,
        headers: Mapping[str, str | bytes] | Headers = (),
        partition: int | None = None,
    ) -> Coordinates:
        """Produce a message.

        Args:
            topic: one that a handler is registered for (by name, or by a pattern).
            value: bytes and text as they are; None is a tombstone; anything else as JSON (pydantic's).
            key: the record key.
            headers: by name, or as pairs.
            partition: which one. Default: the key chooses.

        Returns:
            where it stands, for `outcome_of`.
        """
        record = (topic, _as_bytes(key), _as_payload(value), _as_headers(headers))
        self._sent.append(record)
        return self._produce(*record, partition)

    def repeat(self) -> list[Coordinates]:
        """Send everything again that was sent so far, as an unsure producer does: same keys, new coordinates."""
        return [self._produce(*record, None) for record in list(self._sent)]

    def _produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None
    ) -> Coordinates:
        if topic not in self._names and not any(each.startswith("^") for each in self._topics):
            raise ConfigurationError("topic", topic, f"no handler is registered for it; there are {self._topics}")
        coordinates = self._place.produce(self._name(topic), key, value, headers, partition)
        self._awaited.add(coordinates)
        return coordinates

    # ------------------------------------------------------------------------------------------------------- looking

    def settle(self, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until everything that was sent is settled.

        Raises:
            KafkaOnceError: the app has stopped by itself.
            AssertionError: something is not settled within the time-out.
        """
        if self._outcomes.wait_for(self._awaited, timeout_s, self._app):
            return
        missing = sorted(map(str, self._awaited - self._outcomes.settled()))
        raise AssertionError(f"not settled within {timeout_s:g} s: {', '.join(missing[:10])}")

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many deliveries ended in which outcome; `Outcome.COMPLETED` and its text are equal."""
        return Counter(self._outcomes.by_coordinates().values())

    def outcome_of(self, coordinates: Coordinates) -> Outcome | None:
        """What became of the message that stands there; None if nothing yet."""
        return self._outcomes.by_coordinates().get(coordinates)

    def stats(self) -> dict[str, int]:
        """The app's counters."""
        return self._app.stats()

    def dead_letters(self) -> list[Message]:
        """What stands in the app's dead-letter topic, with headers that say why."""
        if self._dead_letter_topic is None:
            raise ConfigurationError("dead_letter_topic", None, "the app has none")
        return self._place.records(self._names[self._dead_letter_topic])


class _Outcomes(Observer):
    """Keeps the last outcome of each message, and wakes who waits for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._outcomes: dict[Coordinates, Outcome] = {}
        self.told_why = False

    def on_outcome(self, message: Message, outcome: Outcome) -> None:
        with self._changed:
            self._outcomes[message.coordinates()] = outcome
            self._changed.notify_all()

    def by_coordinates(self) -> dict[Coordinates, Outcome]:
        with self._changed:
            return dict(self._outcomes)

    def settled(self) -> set[Coordinates]:
        with self._changed:
            return {where for where, outcome in self._outcomes.items() if outcome not in _NOT_SETTLED}

    def wait_for(self, awaited: set[Coordinates], timeout_s: float, app: App) -> bool:
        """Whether they are settled in time. Raises what the app stopped with."""
        slices = max(1, int(timeout_s / 0.05))
        for _ in range(slices):
            with self._changed:
                if self._changed.wait_for(lambda: awaited <= self.settled(), timeout_s / slices):
                    return True
            self.told_why = True  # if the next line raises
            if app.join(0):
                return awaited <= self.settled()
            self.told_why = False
        return False


def _as_bytes(text: bytes | str | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


def _as_payload(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else to_json(value)


def _as_headers(headers: Mapping[str, str | bytes] | Headers) -> Headers:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, _as_bytes(value)) for name, value in pairs]
