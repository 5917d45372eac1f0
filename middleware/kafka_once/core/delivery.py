"""The life of one message here: phase × event → phase. The table is the code; a missing cell is a bug and raises.

    WAITING      in its lane, nothing asked                  CLAIM claiming · BEGIN running · SETTLE settling
                                                             CONDEMN publishing · LEAVE over
    CLAIMING     its key is asked for                        GRANTED ready · DUPLICATE over · REFUSED waiting
    READY        granted, not started                        BEGIN running · RECORD recording · CLAIM claiming (alone)
                                                             CONDEMN publishing · GIVE_BACK releasing
    RECORDING    at most once: done is written before the    WRITTEN settling · REFUSED waiting · DUPLICATE over
                 run
    SETTLING     at most once: the commit is to be answered  BEGIN running · LEAVE over
                 before the run
    RUNNING      in the handler                              FINISH completing · END over · GIVE_BACK releasing
                                                             CONDEMN publishing · AGAIN waiting
    COMPLETING   ended; done is asked                        WRITTEN over · REFUSED unsettled
    UNSETTLED    ended, but another holder had the key       CLAIM confirming · LEAVE over
    CONFIRMING   ended; its key is asked for once more       GRANTED completing · DUPLICATE over · REFUSED unsettled
    PUBLISHING   on its way to the dead-letter topic         FINISH completing · END over
    RELEASING    the claim is given back                     RELEASED waiting
    OVER         has its outcome

A message that ran is never run again here but through RELEASING or AGAIN: from COMPLETING no way leads to RUNNING.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import TYPE_CHECKING

from kafka_once.core.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka_once.core.lane import Lane
    from kafka_once.core.partition import Partition
    from kafka_once.message import Message

__all__ = ["TABLE", "Defect", "Delivery", "Event", "Phase", "step_all"]


class Phase(IntEnum):  # an Enum's hash is Python code, an int's is not: the table is looked up often
    WAITING = auto()
    CLAIMING = auto()
    READY = auto()
    RECORDING = auto()
    SETTLING = auto()
    RUNNING = auto()
    COMPLETING = auto()
    UNSETTLED = auto()
    CONFIRMING = auto()
    PUBLISHING = auto()
    RELEASING = auto()
    OVER = auto()


class Event(IntEnum):
    CLAIM = auto()
    GRANTED = auto()
    DUPLICATE = auto()
    REFUSED = auto()
    RECORD = auto()
    SETTLE = auto()
    WRITTEN = auto()
    BEGIN = auto()
    FINISH = auto()
    END = auto()
    AGAIN = auto()
    CONDEMN = auto()
    GIVE_BACK = auto()
    RELEASED = auto()
    LEAVE = auto()


_P, _E = Phase, Event
_BESIDE_BYTES = 1_700  # that a message takes in memory beside its payload and record key; 800 if it shares its lane

TABLE: dict[Phase, dict[Event, Phase]] = {
    _P.WAITING: {
        _E.CLAIM: _P.CLAIMING,
        _E.BEGIN: _P.RUNNING,
        _E.SETTLE: _P.SETTLING,
        _E.CONDEMN: _P.PUBLISHING,
        _E.LEAVE: _P.OVER,
    },
    _P.CLAIMING: {_E.GRANTED: _P.READY, _E.DUPLICATE: _P.OVER, _E.REFUSED: _P.WAITING},
    _P.READY: {
        _E.BEGIN: _P.RUNNING,
        _E.RECORD: _P.RECORDING,
        _E.CLAIM: _P.CLAIMING,
        _E.CONDEMN: _P.PUBLISHING,
        _E.GIVE_BACK: _P.RELEASING,
    },
    _P.RECORDING: {_E.WRITTEN: _P.SETTLING, _E.REFUSED: _P.WAITING, _E.DUPLICATE: _P.OVER},
    _P.SETTLING: {_E.BEGIN: _P.RUNNING, _E.LEAVE: _P.OVER},
    _P.RUNNING: {
        _E.FINISH: _P.COMPLETING,
        _E.END: _P.OVER,
        _E.GIVE_BACK: _P.RELEASING,
        _E.CONDEMN: _P.PUBLISHING,
        _E.AGAIN: _P.WAITING,
    },
    _P.COMPLETING: {_E.WRITTEN: _P.OVER, _E.REFUSED: _P.UNSETTLED},
    _P.UNSETTLED: {_E.CLAIM: _P.CONFIRMING, _E.LEAVE: _P.OVER},
    _P.CONFIRMING: {_E.GRANTED: _P.COMPLETING, _E.DUPLICATE: _P.OVER, _E.REFUSED: _P.UNSETTLED},
    _P.PUBLISHING: {_E.FINISH: _P.COMPLETING, _E.END: _P.OVER},
    _P.RELEASING: {_E.RELEASED: _P.WAITING},
    _P.OVER: {},
}


class Defect:
    """Why a message cannot be processed as it is: no usable key, or a payload that the key cannot be read from.

    `fatal` says that the policy is to stop the consumer instead of dead-lettering the message.
    """

    __slots__ = ("error", "fatal", "reason")

    def __init__(self, reason: str, error: BaseException, *, fatal: bool) -> None:
        self.reason = reason
        self.error = error
        self.fatal = fatal


class Delivery:
    """One message on its way. `call` and `session` name the exchange that was granted its claim."""

    __slots__ = (
        "alone",
        "attempts",
        "call",
        "defect",
        "digest",
        "doubt",
        "error",
        "fence",
        "held",
        "lane",
        "message",
        "offset",
        "outcome",
        "overdue",
        "partition",
        "phase",
        "reason",
        "refusals",
        "session",
        "settled",
        "size",
        "suspect",
        "tried",
    )

    def __init__(
        self,
        message: Message,
        lane: Lane,
        digest: bytes | None,
        defect: Defect | None = None,
    ) -> None:
        self.message = message
        self.lane = lane
        self.partition: Partition = lane.partition
        self.offset = message.offset
        self.digest = digest  # None: runs unprotected, or without a store
        self.defect = defect
        self.size = _BESIDE_BYTES + len(message.value or b"") + len(message.key or b"")
        self.phase = Phase.WAITING
        self.outcome: Outcome | None = None
        self.session = 0
        self.call = 0
        self.fence = 0
        self.attempts = 0  # finished ones, by the store's count (ours without a store)
        self.doubt = False
        self.settled = False  # at most once: before it runs
        self.suspect = False
        self.alone = False
        self.overdue = False  # its handler runs on, and its claim was given back
        self.held = False  # a suspect whose turn has not come: its claim is held
        self.refusals = 0  # BUSY and the like, in a row
        self.reason = ""  # of its dead letter
        self.tried = 0  # how often until it was given up, the run that has just ended included
        self.error: BaseException | None = None  # the last one its handler raised

    def step(self, event: Event) -> None:
        following = TABLE[self.phase].get(event)
        if following is None:
            raise AssertionError(f"{event.name} in {self.phase.name} for {self.message!r}")
        self.phase = following


def step_all(deliveries: Iterable[Delivery], event: Event) -> None:
    """The same step of several; a call for each would cost more than the step."""
    for delivery in deliveries:
        following = TABLE[delivery.phase].get(event)
        if following is None:
            delivery.step(event)  # which raises
        else:
            delivery.phase = following
