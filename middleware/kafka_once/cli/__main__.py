"""`python -m kafka_once.cli` is `kafka-once`, for where scripts are not on the path."""

from kafka_once.cli import main

main()
