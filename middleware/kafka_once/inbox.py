"""Where other threads leave what they have for the runner, and where the runner waits for it, or for a socket."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable

__all__ = ["Inbox"]

Item = Callable[[], None]


class Inbox:
    """`put` from any thread, also in a signal handler; everything else from the runner's.

    Attributes:
        items: what is there, the oldest first; the runner takes it out.
    """

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self._asleep = False
        self._reader, self._writer = socket.socketpair()  # works with select on every system
        for end in (self._reader, self._writer):
            end.settimeout(0)
        self._bell = self._reader.fileno()
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._watched = -1

    def put(self, item: Item) -> None:
        self.items.append(item)
        if self._asleep:
            self._asleep = False  # before it rings: who finds it awake relies on a bell that was rung or is about to be
            try:
                self._writer.send(b"\0")
            except BlockingIOError:
                return  # full of wake-ups already
            except OSError:
                return  # closed: nobody waits any more

    def empty(self) -> bool:
        return not self.items

    def wait(self, timeout_s: float, descriptor: int = -1) -> None:
        """Until there is an item, or something to read at the descriptor, or the time is over."""
        self._asleep = True
        try:
            if self.items:  # put between our last look and the flag
                return
            self._watch(descriptor)
            ready = self._poll.poll(max(0, int(timeout_s * 1000 + 0.999)))
        finally:
            self._asleep = False
        if any(rung == self._bell for rung, _ in ready):
            self._empty_the_bell()

    def _watch(self, descriptor: int) -> None:
        """poll(2) goes by the number, so a connection made anew under the same number is watched as well."""
        if descriptor != self._watched:
            if self._watched >= 0:
                self._poll.unregister(self._watched)
            self._watched = descriptor
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)

    def _empty_the_bell(self) -> None:
        try:
            while len(self._reader.recv(4096)) == 4096:
                continue
        except BlockingIOError:
            return

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
