"""What the library reported in doubt: the one thing about a campaign that only its store can tell."""

from __future__ import annotations

import time
from typing import Any

from kafka_once.member import open_store
from kafka_once.ports import Namespace
from kafka_once.settings import Settings
from kafka_once.testing.campaign.history import Reported

__all__ = ["read_reported"]


def read_reported(settings: dict[str, Any], cluster_id: str) -> list[Reported]:
    """The list of an app with these settings, oldest first. The store's clock is the wall's."""
    checked = Settings(**settings)
    store = open_store(checked, Namespace(cluster_id, checked.group))
    to_monotonic_ns = time.monotonic_ns() - time.time_ns()
    try:
        doubts = store.doubts(limit=100_000)
    finally:
        store.close()
    return [Reported(d.partition, d.offset, d.time_ms * 1_000_000 + to_monotonic_ns) for d in reversed(doubts)]
