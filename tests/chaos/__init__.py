"""The campaign of `make chaos`: kill -9 on a real Kafka and a real Redis. See kafka_once.testing.campaign."""
