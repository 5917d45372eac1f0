"""What other threads may see of one app: its counters, how things stand, whether all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_once.core.events import Counters
from kafka_once.health import Bounds, Health, Sighting, judge

if TYPE_CHECKING:
    from kafka_once.handler_times import HandlerTimes
    from kafka_once.picture import Picture, Status
    from kafka_once.settings import Settings

__all__ = ["View"]

_LOOP_S = 30.0  # the loop turns many times a second; calls into Kafka's client may hold it up for a few


class View:
    """Made with an app, filled by its member. Every method may be called from any thread at any time."""

    def __init__(self, settings: Settings) -> None:
        loop_s = max(_LOOP_S, settings.drain_ms / 1000 + 10)  # leaving the group may take the whole drain
        stalled_s = (
            settings.red_after.total_seconds() + settings.backoff_max_ms / 1000
        )  # a message in back-off is not stuck
        self._bounds = Bounds(loop_s, stalled_s)
        self.group = settings.group
        self.counters = Counters()
        self.started = False
        self.ended = False
        self.error: BaseException | None = None
        self.picture: Picture | None = None

    def stats(self) -> dict[str, int]:
        return self.counters.as_dict()

    def status(self) -> Status | None:
        """The last picture, at most a fraction of a second old while the loop turns; None before the first."""
        return None if self.picture is None else self.picture.status

    def still_s(self) -> float | None:
        """Since the loop's last turn; None before the first, and when it has ended."""
        return None if self.picture is None or self.ended else self.picture.still_s()

    def handler_times(self) -> HandlerTimes | None:
        return None if self.picture is None else self.picture.handler_times

    def health(self) -> Health:
        """What is wrong now."""
        status = self.status()
        engine = None if status is None else status.engine
        return judge(Sighting(self.started, self.ended, self.error, self.still_s(), engine), self._bounds)
