"""The text in a commit's metadata that says that it is ours, for which topic, under which ownership, at which offset.

The offset is in it because tools that set a group's offsets may keep the metadata that they found: such a commit is the
operator's, not ours. The epoch is in it because a store that gives out an epoch which a commit already carries has
forgotten; 0 means that no store stood behind the commit. The topic's id is in it because commits go by a topic's name:
one that was sent while the topic was deleted and made anew must not count for the new one.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Mark", "read_mark"]


class Mark(NamedTuple):
    """`topic_id` is empty where the broker tells none, `epoch` is 0 without a store."""

    topic_id: str
    epoch: int
    offset: int

    def text(self, name: str) -> str:
        """The metadata for a commit. ASCII (D25); `name` is what the namespace's marks begin with."""
        return f"{name}:{self.topic_id}:{self.epoch}:{self.offset}"


def read_mark(name: str, metadata: str) -> Mark | None:
    """The mark in a commit's metadata, None if the commit is not ours."""
    if not name or not metadata.startswith(f"{name}:"):
        return None
    topic_id, _, rest = metadata[len(name) + 1 :].partition(":")
    epoch, _, offset = rest.partition(":")
    if not (epoch.isdecimal() and offset.isdecimal()):
        return None
    return Mark(topic_id, int(epoch), int(offset))
