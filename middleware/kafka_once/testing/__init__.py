"""What kafka_once gives to tests: your app in memory, real servers, and what checks stores, brokers and handlers."""

from kafka_once.testing.handler_proofs import assert_idempotent, crash_at_every_step, deliver_twice
from kafka_once.testing.memory_app import MemoryApp

__all__ = ["MemoryApp", "assert_idempotent", "crash_at_every_step", "deliver_twice"]
