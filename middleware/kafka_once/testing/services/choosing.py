"""Which kind of a server to start: the one asked for, else the first that works here."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

log = logging.getLogger(__name__)

Server = TypeVar("Server")


class ServiceUnavailable(Exception):
    """A server cannot be had here, with the reason and the remedy; or it cannot do what was asked of it."""


def choose(service: str, starters: Mapping[str, Callable[[], Server]], kind: str | None) -> Server:
    """Start `kind`, or without one the first of `starters` that works. ServiceUnavailable carries every reason."""
    if kind is not None:
        if kind not in starters:
            raise ServiceUnavailable(f"no {service} of kind {kind!r}; there are {', '.join(starters)}")
        return starters[kind]()
    reasons = []
    for name, start in starters.items():
        try:
            return start()
        except ServiceUnavailable as reason:
            log.info("%s of kind %s passed over: %s", service, name, reason)
            reasons.append(f"  {name}: {reason}")
    raise ServiceUnavailable("\n".join([f"no {service} to be had here:", *reasons]))


def from_environment(variable: str, kinds: tuple[str, ...]) -> tuple[str | None, str | None]:
    """(kind, address) that the variable asks for: empty gives neither, one of `kinds` that kind, else an address."""
    value = os.environ.get(variable, "").strip()
    if not value:
        return None, None
    return (value, None) if value in kinds else ("env", value)
