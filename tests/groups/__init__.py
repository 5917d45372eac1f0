"""Scenarios of the consumer group on a real Kafka: a file per theme, real processes, each protocol where it matters."""
