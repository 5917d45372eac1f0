"""What kafka_once gives to tests: your app in memory, real servers, and what checks stores, brokers and handlers."""

from kafka_once.testing.memory_app import MemoryApp

__all__ = ["MemoryApp"]
