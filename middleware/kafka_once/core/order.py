"""What runs one after another: three functions that choose the lane of a message. All lanes are alike."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafka_once.message import Message

__all__ = ["LaneName", "Order", "lane_namer"]

LaneName = bytes | int | None  # a record key, an offset, or the whole partition


class Order(StrEnum):
    """Which messages run one after another, in the order in which they stand in their partition."""

    PARTITION = "partition"
    """All messages of a partition."""

    KEY = "key"
    """Messages of a partition with the same record key, by which the producer says what belongs together (an account,
    say); the idempotency key names one work. A message without a record key belongs to nothing, and is a lane of its
    own: Kafka gives such messages no order either."""

    NONE = "none"
    """Nothing: every message is a lane of its own."""


def _of_partition(_message: Message) -> LaneName:
    return None


def _of_record_key(message: Message) -> LaneName:
    return message.offset if message.key is None else message.key


def _of_message(message: Message) -> LaneName:
    return message.offset


_NAMERS: dict[Order, Callable[[Message], LaneName]] = {
    Order.PARTITION: _of_partition,
    Order.KEY: _of_record_key,
    Order.NONE: _of_message,
}


def lane_namer(order: Order) -> Callable[[Message], LaneName]:
    """The function that names the lane of a message within its partition."""
    return _NAMERS[order]
