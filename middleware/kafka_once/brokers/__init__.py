"""Brokers: Kafka by confluent-kafka, and a cluster in memory that behaves like it."""
