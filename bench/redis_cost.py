"""What a done key costs on the Redis server: memory, and time of the server per message for claim and completion.

    python bench/redis_cost.py --keys 1000000 --batch 500

Starts a Redis of its own. Figures of memory are those of its allocator: publish them from a server with jemalloc.
"""

import argparse
import os

from kafka_once.core.calls import ClaimAsk, CompleteAsk, Exchange, OwnershipAsk
from kafka_once.ports import Namespace
from kafka_once.stores.redis import RedisStore
from kafka_once.testing.services import start_redis


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=500, help="claims and completions in one call")
    options = parser.parse_args()
    with start_redis(config={"appendonly": "no"}) as server:
        client = server.client(decode_responses=True)
        store = RedisStore(server.url, Namespace("bench", "bench"), lease_ms=60_000)
        session = store.open_session(1)
        [ownership] = store.take_ownerships(session, 1, [OwnershipAsk("t", 0)]) or []
        before = client.info("memory")["used_memory"]
        client.config_resetstat()
        done: list[CompleteAsk] = []
        for number, first in enumerate(range(0, options.keys + options.batch, options.batch), 2):
            size = min(options.batch, options.keys - first)
            claims = [ClaimAsk(os.urandom(16), ownership.number, first + at) for at in range(max(size, 0))]
            store.exchange(Exchange(session, number, completes=done, claims=claims))
            done = [CompleteAsk(claim.digest, session.number) for claim in claims]
        used = client.info("memory")["used_memory"] - before
        micros = client.info("commandstats")["cmdstat_evalsha"]["usec"]
        print(f"Redis {server.version}, {client.info('memory')['mem_allocator']}")
        print(f"{options.keys:,} done keys: {used / options.keys:.1f} bytes each")
        print(f"claim and completion in calls of {options.batch}: {micros / options.keys:.1f} µs of Redis per message")
        store.close()


if __name__ == "__main__":
    main()
