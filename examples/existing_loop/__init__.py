"""A plain confluent-kafka loop, before and after two changed lines; see README.md."""
