"""Mutants that no test can notice, and why. One that is killed, or is no mutant any more, is an error.

A key is the mutant's name: module, function, the line as it is, the line as it would be.
"""
# ruff: noqa: E501

from __future__ import annotations

__all__ = ["EXPLAINED"]

_NARROWED = "says to the type checker what is so already: a claim has a digest, an ownership its place in the log"
_SAME_LENGTH = "an assertion: the store answers each question once"
_SHORTCUT = "a shortcut of the usual message: what is left out is asked for all the same, and says the same"
_PAST_THE_MOST = "both are past every limit of a wait: it keeps the integer small"
_PAST = "any time that is past: the clock of a machine that has started stands behind it"
_GROWS = "the number of a call only has to grow: nobody counts the calls by it"
_OPENED = "nobody reads it before the session is opened, which sets it to a later time"
_BY_GRANT = "the grant of its claim writes it, before anything reads it; without a claim nothing reads it"
_BY_PLACE = "a lane takes a place, which writes it, before it leaves one, which reads it"
_BY_TURN = "every turn begins with the time and the random bits, before anything is told or asked"
_NO_KEY = "says to the type checker what is so already: None is no key in flight"
_SET_FIRST = "set before it is looked at: with the start position, and with the first unsettled offset"

EXPLAINED: dict[str, str] = {
    "assignment.py Assignment._take_frontier_back: if partition.rewinds and partition.ownership is not None and offset is not None: → if ((partition.rewinds) and (partition.ownership is not None)):": _NARROWED,
    "correspondence.py Correspondence.__init__: self._last_call = 0 → self._last_call = 1": _GROWS,
    "correspondence.py Correspondence.__init__: self._renew_due_ms = 0 → self._renew_due_ms = 1": _OPENED,
    "claiming.py Claiming._on_claimed: for delivery, (grant, attempts, doubt, suspect, fence) in zip(group, grants, strict=True): → for delivery, (grant, attempts, doubt, suspect, fence) in zip(group, grants, strict=False):": _SAME_LENGTH,
    "claiming.py Claiming._on_claimed: if not blocked and (ordinary or self._starts(delivery, first=not starting)): → if not blocked and (((self._starts(delivery, first=not starting)))):": _SHORTCUT,
    "correspondence.py Correspondence.__init__: self.trusted_until_ms = -1 → self.trusted_until_ms = (1)": _PAST,
    "correspondence.py Correspondence.__init__: self.trusted_until_ms = -1 → self.trusted_until_ms = -2": _PAST,
    "correspondence.py Correspondence.exchange: self._last_call += 1 → self._last_call += 2": _GROWS,
    "correspondence.py Correspondence.on_exchanged: answers.completed = list(zip(sent.completes, reply.completes[: len(sent.completes)], strict=True)) → answers.completed = list(zip(sent.completes, reply.completes[: len(sent.completes)], strict=False))": _SAME_LENGTH,
    "correspondence.py Correspondence.on_exchanged: answers.held = list(zip(sent.held, reply.claims[:position], strict=True)) → answers.held = list(zip(sent.held, reply.claims[:position], strict=False))": _SAME_LENGTH,
    "correspondence.py Correspondence._lapse: self.trusted_until_ms = -1 → self.trusted_until_ms = (1)": _PAST,
    "correspondence.py Correspondence._lapse: self.trusted_until_ms = -1 → self.trusted_until_ms = -2": _PAST,
    "correspondence.py Correspondence.take: self._last_call += 1 → self._last_call += 2": _GROWS,
    'correspondence.py _release_ask: delivery.digest or b"", → ((delivery.digest)),': _NARROWED,
    'correspondence.py _held_ask: return ClaimAsk(delivery.digest or b"", ownership.number, delivery.offset, alone=delivery.alone, held=True) → return ClaimAsk(((delivery.digest)), ownership.number, delivery.offset, alone=delivery.alone, held=True)': _NARROWED,
    "watch.py Watch._on_overdue: group.begin_before_ms = 0 # what stands behind it in its group comes back → group.begin_before_ms = 1 # what stands behind it in its group comes back": _PAST,
    "commits.py Commits.__init__: self._urgent = False → self._urgent = True": "the first look is due at once in any case, and ends the urgency",
    "delivery.py Delivery.__init__: self.session = 0 → self.session = 1": _BY_GRANT,
    "delivery.py Delivery.__init__: self.call = 0 → self.call = 1": _BY_GRANT,
    "delivery.py Delivery.__init__: self.suspect = False → self.suspect = True": _BY_GRANT,
    "desk.py Desk.__init__: self.now_ms = 0 → self.now_ms = 1": _BY_TURN,
    "desk.py Desk.__init__: self.entropy = 0 → self.entropy = 1": _BY_TURN,
    "lane.py Lane.__init__: self.placed = False → self.placed = True": _BY_PLACE,
    "lane.py Lane.__init__: self.turnover = 0.0 → self.turnover = 1.0": _BY_PLACE,
    "lane.py Lane.__init__: self.due_ms = 0 → self.due_ms = 1": _PAST,
    "lane.py Group.__init__: self.since_ms = 0 # when the message that runs now began, as far as the engine has seen → self.since_ms = 1 # when the message that runs now began, as far as the engine has seen": "it is written as soon as the group is handed out, before anything reads it",
    "lanes.py Lanes.__init__: self.now_ms = 0 → self.now_ms = 1": _BY_TURN,
    "lanes.py Lanes.free_keys: for lane in self._keys.remove([delivery.digest for delivery in deliveries if delivery.digest is not None]): → for lane in self._keys.remove([delivery.digest for delivery in deliveries if True]):": _NARROWED,
    "lanes.py Lanes._take_group: if head.digest is not None and head.digest in keys: → if ((head.digest in keys)):": _NO_KEY,
    "lanes.py Lanes._take_group: return [] → return None": "no group, as an empty one is: who asks looks only whether there is something",
    "retries.py backoff_ms: doublings = min(attempts - 1, 30) # 2**30 times anything is past every limit; keeps the integer small → doublings = min(attempts - 1, 31) # 2**30 times anything is past every limit; keeps the integer small": _PAST_THE_MOST,
    "partition.py Partition.__init__: self.rewinds = False → self.rewinds = True": _SET_FIRST,
    "partition.py Partition.__init__: self.take_due_ms = 0 → self.take_due_ms = 1": _PAST,
    "partition.py Partition.__init__: self.alive_ms = 0 → self.alive_ms = 1": _SET_FIRST,
}
