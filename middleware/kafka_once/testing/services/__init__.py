"""Real servers for the demo and the tests: a Kafka and a Redis, each a context manager.

`start_kafka()` and `start_redis()` take the best that is to be had here (an address from the environment, a container,
a local process, an embedded server) or exactly the kind that is asked for. What they start listens on 127.0.0.1 only
and dies with the process that started it.
"""

from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.kafka import KafkaServer, start_kafka
from kafka_once.testing.services.redis import RedisServer, start_redis
from kafka_once.testing.services.redis_cluster import RedisCluster
from kafka_once.testing.services.redis_sentinel import GuardedRedis

__all__ = [
    "GuardedRedis",
    "KafkaServer",
    "RedisCluster",
    "RedisServer",
    "ServiceUnavailable",
    "start_kafka",
    "start_redis",
]
