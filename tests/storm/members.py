"""The members of the group and what is done to them. Not all of them are there all the time."""

import os
import signal
import time
from typing import Self

from kafka_once.testing.campaign.history import Exit, Kill
from kafka_once.testing.campaign.workers import Program, Slot
from tests.storm.deck import Deed
from tests.storm.history import Freeze

__all__ = ["Members"]

_STOP_S = 60


class _Member(Slot):
    """`state`: "down", "up", "frozen" or "stopping" (it was sent SIGTERM and has not ended yet)."""

    def __init__(self, name: str, program: Program) -> None:
        super().__init__(name, program)
        self.state = "down"
        self.frozen_ns = 0
        self.wake_ns = 0
        self.stop_ns = 0

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)  # not reaped yet, so the pid is still its own


class Members:
    """Up to `count` processes. Leaving the `with` block kills what still runs.

    One member is always left alone: a group of which nobody works shows nothing.

    Attributes:
        began: lives that are known to be members; only those are frozen or stopped.
        deeds: how often each was done.
    """

    def __init__(self, count: int, program: Program) -> None:
        self.kills: list[Kill] = []
        self.exits: list[Exit] = []
        self.freezes: list[Freeze] = []
        self.began: set[str] = set()
        self.deeds = {"started": 0, "stopped": 0, "killed": 0, "frozen": 0, "woken": 0, "hung": 0}
        self._members = [_Member(f"worker-{number}", program) for number in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.end()

    def lives(self, state: str = "up") -> list[str]:
        """The lives that are in this state."""
        return [member.life for member in self._members if member.state == state]

    def working(self) -> list[str]:
        """The lives that are members and not frozen."""
        return [life for life in self.lives() if life in self.began]

    # ---------------------------------------------------------------------------------------------------- single deeds

    def do(self, deed: Deed, favourites: frozenset[str] = frozenset()) -> bool:
        """Do it to the first whom it fits, of `favourites` first; whether there was one."""
        chosen = [self._members[number] for number in deed.whom]
        chosen.sort(key=lambda member: member.life not in favourites)
        for member in chosen:
            if self._fits(deed.kind, member):
                if deed.kind == "start":
                    self._start(member)
                elif deed.kind == "kill":
                    self._kill(member)
                elif deed.kind == "stop":
                    self._stop(member)
                elif deed.kind == "hang":
                    member.signal(signal.SIGUSR1)
                    self.deeds["hung"] += 1
                else:
                    self._freeze(member, deed.freeze_s)
                return True
        return False

    def _fits(self, kind: str, member: _Member) -> bool:
        if kind == "start":
            return member.state == "down"
        if kind == "kill" and member.state == "frozen":
            return True
        alone = set(self.working()) <= {member.life}
        return member.state == "up" and not alone and (kind == "kill" or member.life in self.began)

    def start(self, at_least: int) -> None:
        """Start as many as are missing."""
        for member in self._members:
            running = sum(other.state in {"up", "frozen"} for other in self._members)
            if member.state == "down" and running < at_least:
                self._start(member)

    def _start(self, member: _Member) -> None:
        member.start()
        member.state = "up"
        self.deeds["started"] += 1

    def _kill(self, member: _Member) -> None:
        kill = Kill(member.life, time.monotonic_ns())
        code = member.kill()
        if code == -signal.SIGKILL:
            self.kills.append(kill)
            self.deeds["killed"] += 1
        else:
            self.exits.append(Exit(member.life, code, asked=False))
        if member.state == "frozen":
            self.freezes.append(Freeze(member.life, member.frozen_ns, time.monotonic_ns(), killed=True))
        member.state = "down"

    def _stop(self, member: _Member) -> None:
        member.signal(signal.SIGTERM)
        member.state, member.stop_ns = "stopping", time.monotonic_ns()
        self.deeds["stopped"] += 1

    def _freeze(self, member: _Member, freeze_s: float) -> None:
        member.frozen_ns = time.monotonic_ns()
        member.signal(signal.SIGSTOP)
        member.wake_ns = member.frozen_ns + int(freeze_s * 1e9)
        member.state = "frozen"
        self.deeds["frozen"] += 1

    def _wake(self, member: _Member) -> None:
        member.signal(signal.SIGCONT)
        self.freezes.append(Freeze(member.life, member.frozen_ns, time.monotonic_ns()))
        member.state = "up"
        self.deeds["woken"] += 1

    # -------------------------------------------------------------------------------------------------- as time goes on

    def look(self) -> None:
        """Wake those whose time has come; see who has ended."""
        for member in self._members:
            if member.state == "frozen":
                if time.monotonic_ns() >= member.wake_ns:
                    self._wake(member)
            elif member.process is not None and member.state != "down":
                self._look_at_end(member)

    def _look_at_end(self, member: _Member) -> None:
        assert member.process is not None
        code = member.process.poll()
        asked = member.state == "stopping"
        if code is None and asked and time.monotonic_ns() > member.stop_ns + _STOP_S * 1e9:
            code = member.kill()
        if code is not None:
            self.exits.append(Exit(member.life, code, asked=asked))
            member.state = "down"

    def wake_all(self) -> None:
        """The storm is over."""
        for member in self._members:
            if member.state == "frozen":
                self._wake(member)

    def stop_all(self) -> None:
        """SIGTERM to all; return when they have ended. One that still starts would not know it yet: it is killed."""
        for member in self._members:
            if member.state == "up":
                if member.life in self.began:
                    self._stop(member)
                else:
                    self._kill(member)
        while any(member.state != "down" for member in self._members):
            self.look()
            time.sleep(0.02)
