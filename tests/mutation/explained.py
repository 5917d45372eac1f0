"""Mutants that no test can notice, and why. One that is killed, or is no mutant any more, is an error.

A key is the mutant's name: module, function, the line as it is, the line as it would be.
"""
# ruff: noqa: E501

from __future__ import annotations

__all__ = ["EXPLAINED"]

_NARROWED = "says to the type checker what is so already: a claim has a digest, an ownership its place in the log"
_SAME_LENGTH = "an assertion: the store answers each question once"
_PAST = "any time that is past: the clock of a machine that has started stands behind it"
_GROWS = "the number of a call only has to grow: nobody counts the calls by it"
_OPENED = "nobody reads it before the session is opened, which sets it to a later time"

EXPLAINED: dict[str, str] = {
    "assignment.py Assignment._take_frontier_back: if partition.rewinds and partition.ownership is not None and offset is not None: → if ((partition.rewinds) and (partition.ownership is not None)):": _NARROWED,
    "correspondence.py Correspondence.__init__: self._last_call = 0 → self._last_call = 1": _GROWS,
    "correspondence.py Correspondence.__init__: self._renew_due_ms = 0 → self._renew_due_ms = 1": _OPENED,
    "correspondence.py Correspondence.__init__: self._trusted_until_ms = -1 → self._trusted_until_ms = (1)": _PAST,
    "correspondence.py Correspondence.__init__: self._trusted_until_ms = -1 → self._trusted_until_ms = -2": _PAST,
    "correspondence.py Correspondence.exchange: self._last_call += 1 → self._last_call += 2": _GROWS,
    "correspondence.py Correspondence.on_exchanged: answers.completed = list(zip(sent.completes, reply.completes[: len(sent.completes)], strict=True)) → answers.completed = list(zip(sent.completes, reply.completes[: len(sent.completes)], strict=False))": _SAME_LENGTH,
    "correspondence.py Correspondence.on_exchanged: answers.held = list(zip(sent.held, reply.claims[:position], strict=True)) → answers.held = list(zip(sent.held, reply.claims[:position], strict=False))": _SAME_LENGTH,
    "correspondence.py Correspondence._lapse: self._trusted_until_ms = -1 → self._trusted_until_ms = (1)": _PAST,
    "correspondence.py Correspondence._lapse: self._trusted_until_ms = -1 → self._trusted_until_ms = -2": _PAST,
    "correspondence.py Correspondence.take: self._last_call += 1 → self._last_call += 2": _GROWS,
    'correspondence.py _release_ask: delivery.digest or b"", → ((delivery.digest)),': _NARROWED,
    'correspondence.py _held_ask: return ClaimAsk(delivery.digest or b"", ownership.number, delivery.offset, alone=delivery.alone, held=True) → return ClaimAsk(((delivery.digest)), ownership.number, delivery.offset, alone=delivery.alone, held=True)': _NARROWED,
    "watch.py Watch._on_overdue: group.begin_before_ms = 0 # what stands behind it in its group comes back → group.begin_before_ms = 1 # what stands behind it in its group comes back": _PAST,
}
