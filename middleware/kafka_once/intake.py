"""What comes in: which handler a topic has, and the digest of a message's idempotency key."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kafka_once.core.delivery import Defect
from kafka_once.core.order import Order
from kafka_once.core.semantics import KeyPolicy
from kafka_once.deserializers import is_passing
from kafka_once.errors import ConfigurationError, MissingKey, UndecodablePayload
from kafka_once.keys import Key, digest
from kafka_once.message import Message
from kafka_once.payloads import Decoder
from kafka_once.signatures import HandlerSignature

__all__ = ["Intake", "KeyRule", "Route", "Routes"]


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How keys are found, and what happens to a message without one.

    Attributes:
        key: None where nothing is de-duplicated.
        scope: within which keys are distinct; None: the source topic.
        on_missing: the policy.
        stop_on_bad_payload: the policy for a payload that the key cannot be read from.
        decoder: makes the object that the key is read from; None: the key is read from the message alone.
    """

    key: Key | None
    scope: str | None
    on_missing: KeyPolicy
    stop_on_bad_payload: bool
    decoder: Decoder | None = None

    def extract(self, message: Message) -> bytes:
        """The message's key. Raises what `Key.extract` raises, and what the decoder does."""
        assert self.key is not None
        return self.key.extract(message, None if self.decoder is None else self.decoder.decode(message))


@dataclass(frozen=True, slots=True)
class Route:
    """A handler and its topics. `handler` and `signature` are None where the user's own loop takes the messages.

    `order`: which of its messages run one after another.
    `deadline_ms` is the handler's own; None: what the settings say.
    """

    topics: tuple[str, ...]
    rule: KeyRule
    handler: Callable[..., object] | None = None
    signature: HandlerSignature | None = None
    order: Order = Order.PARTITION
    deadline_ms: int | None = None


class Routes:
    """Topic → route. A topic that begins with ^ is a pattern, as in Kafka; an exact name wins over patterns."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact: dict[str, Route] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for route in routes:
            for topic in route.topics:
                self._add(topic, route)

    def _add(self, topic: str, route: Route) -> None:
        if topic.startswith("^"):
            if "[:" in topic:  # else nobody could look whether it takes our own dead letters in
                raise ConfigurationError("topics", topic, "write its classes out: [0-9] instead of [[:digit:]]")
            try:
                self._patterns.append((re.compile(topic), route))
            except re.error as exc:
                raise ConfigurationError("topics", topic, f"this is no regular expression ({exc})") from None
        elif topic in self._exact:
            raise ConfigurationError("topics", topic, "two handlers want it: one topic has one handler")
        else:
            self._exact[topic] = route

    def topics(self) -> list[str]:
        return [*self._exact, *(pattern.pattern for pattern, _ in self._patterns)]

    def of(self, topic: str) -> Route:
        route = self._exact.get(topic)
        if route is None:
            route = self._exact[topic] = self._match(topic)
        return route

    def _match(self, topic: str) -> Route:
        for pattern, route in self._patterns:
            if pattern.match(topic):
                return route
        raise AssertionError(f"no handler for topic {topic!r}")


class Intake:
    """Finds the digest of each message, and what is wrong with it. `message.idempotency_key` is set on the way.

    A message with a defect is claimed by its coordinates, so that a redelivery does not dead-letter it again.
    """

    def __init__(self, routes: Routes) -> None:
        self._rules: dict[str, KeyRule] = {}
        self._routes = routes

    def read(self, topic: str, messages: Sequence[Message]) -> list[tuple[bytes | None, Defect | None]]:
        """The digest of each message of this topic, None if it is not claimed; and its defect, if any."""
        rule = self._rules.get(topic)
        if rule is None:
            rule = self._rules[topic] = self._routes.of(topic).rule
        if rule.key is None:
            return [(None, None)] * len(messages)
        extract = rule.key.extract if rule.decoder is None else rule.extract
        scope = rule.scope or topic
        found: list[tuple[bytes | None, Defect | None]] = []
        for message in messages:
            try:
                message.idempotency_key = key = extract(message)
            except Exception as error:  # noqa: BLE001  (what is no fault of the message's is raised again)
                found.append(_without_usable_key(message, rule, error))
            else:
                found.append((digest(scope, key), None))
        return found


def _without_usable_key(message: Message, rule: KeyRule, error: Exception) -> tuple[bytes | None, Defect | None]:
    if isinstance(error, MissingKey):
        return _without_key(message, rule, error)
    if isinstance(error, UndecodablePayload):
        defect = Defect("undecodable payload", error, fatal=rule.stop_on_bad_payload)
        return _digest_of_coordinates(message, rule), defect
    if not is_passing(error):
        raise error
    # The schema registry cannot be asked: that is not the message's fault, and no reason to pass it by.
    return _digest_of_coordinates(message, rule), Defect("payload not readable now", error, fatal=True)


def _without_key(message: Message, rule: KeyRule, error: MissingKey) -> tuple[bytes | None, Defect | None]:
    policy = rule.on_missing
    if policy is KeyPolicy.UNPROTECTED:
        return None, None
    by_coordinates = _digest_of_coordinates(message, rule)
    if policy is KeyPolicy.COORDINATES:
        return by_coordinates, None
    return by_coordinates, Defect("no idempotency key", error, fatal=policy is KeyPolicy.STOP)


def _digest_of_coordinates(message: Message, rule: KeyRule) -> bytes:
    scope = f"coordinates:{rule.scope or ''}"  # topic names hold no colon: this scope is nobody else's
    return digest(scope, message.identity().encode())
