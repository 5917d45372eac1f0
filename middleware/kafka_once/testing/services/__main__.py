"""Start a Kafka and a Redis, print their addresses, and keep them until Ctrl-C.

python -m kafka_once.testing.services --kafka apache --redis embedded --topic payments:6
"""

import argparse
import signal
import sys

from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.kafka import start_kafka
from kafka_once.testing.services.kafka_mock import topic_and_partitions
from kafka_once.testing.services.redis import start_redis


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m kafka_once.testing.services", description=start_both.__doc__)
    parser.add_argument("--kafka", help="env, docker, apache or mock; by default the first that works")
    parser.add_argument("--redis", help="env, docker, local or embedded; by default the first that works")
    parser.add_argument("--topic", action="append", default=[], type=topic_and_partitions, metavar="NAME:PARTITIONS")
    options = parser.parse_args()
    # Ended by SIGTERM, the servers end in good order too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        start_both(options.kafka, options.redis, dict(options.topic))
    except ServiceUnavailable as reason:
        sys.exit(f"kafka-once: {reason}")
    except KeyboardInterrupt:
        pass


def start_both(kafka_kind: str | None, redis_kind: str | None, topics: dict[str, int]) -> None:
    """Start a Kafka and a Redis, print their addresses, and keep them until Ctrl-C."""
    with start_redis(redis_kind) as redis_server, start_kafka(kafka_kind) as kafka:
        for name, partitions in topics.items():
            kafka.create_topic(name, partitions)
        print(f"KAFKA_BOOTSTRAP={kafka.bootstrap}   # {kafka.kind}: {kafka.version}")
        print(f"REDIS_URL={redis_server.url}   # {redis_server.kind}: {redis_server.version}")
        print("Ctrl-C ends both.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
