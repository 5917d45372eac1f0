"""The campaign of `make chaos`: real Kafka, real Redis, kill -9 of processes at work. See kafka_once.testing.campaign."""
