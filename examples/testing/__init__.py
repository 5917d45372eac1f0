"""How an app is tested: in memory, and on a real Kafka and Redis; see README.md."""
