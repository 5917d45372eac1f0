"""A Redis Cluster of processes of this machine."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.process import HOST, free_port
from kafka_once.testing.services.redis import DURABLE, LocalRedis
from kafka_once.testing.services.redis_programs import Argv, wanted_program

_BUS = 10_000  # a node's own port is its clients' port and this


class RedisCluster:
    """Primaries that share the slots, and replicas. Leaving its `with` block ends all of them.

    Args:
        program: the server's program; the version that KAFKA_ONCE_TEST_REDIS names, or this machine's own, without it.
        primaries: at least three, or no failover finds a majority.
        replicas: of each primary.
    """

    def __init__(self, program: Argv | None = None, *, primaries: int = 3, replicas: int = 0) -> None:
        self._program = program or wanted_program()
        self._stack = ExitStack()
        settings = {
            **DURABLE,
            "cluster-enabled": "yes",
            "cluster-node-timeout": "1000",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",  # a replica is shown once it has heard from its primary
        }
        try:
            self.nodes = [self._start(settings) for _ in range(primaries * (1 + replicas))]
            self._join(primaries)
            for at, replica in enumerate(self.nodes[primaries:]):
                _ask(replica, "CLUSTER REPLICATE", _id_of(self.nodes[at % primaries]))
            wait_until(lambda: self._is_settled(primaries, replicas), "the cluster is whole")
        except BaseException:
            self.close()
            raise
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def _start(self, settings: dict[str, str]) -> LocalRedis:
        port = free_port()
        while port + _BUS > 32_000:  # the bus's port must not be given to an outgoing connection either
            port = free_port()
        return self._stack.enter_context(LocalRedis("cluster", self._program, settings, port=port))

    def _join(self, primaries: int) -> None:
        for at, node in enumerate(self.nodes):
            _ask(node, "CLUSTER SET-CONFIG-EPOCH", at + 1)
            if at < primaries:
                slots = range(*(REDIS_CLUSTER_HASH_SLOTS * each // primaries for each in (at, at + 1)))
                _ask(node, "CLUSTER ADDSLOTS", *slots)
            for other in self.nodes[:at]:
                _ask(node, "CLUSTER MEET", HOST, other.port)
        wait_until(self._all_know_all, "all nodes know each other")

    def _all_know_all(self) -> bool:
        return all(_state(node)["cluster_known_nodes"] == str(len(self.nodes)) for node in self.nodes)

    def _is_settled(self, primaries: int, replicas: int) -> bool:
        if not all(_state(node)["cluster_state"] == "ok" for node in self.nodes):
            return False
        lines = _ask(self.nodes[0], "CLUSTER SLOTS")
        return len(lines) == primaries and all(len(line) == 3 + replicas for line in lines)

    def owner_of(self, key: str) -> LocalRedis:
        """The node that serves the key now."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.pid is None:
                continue
            for begin, end, (_, port, *_), *_ in _ask(node, "CLUSTER SLOTS"):
                if begin <= slot <= end:
                    return next(each for each in self.nodes if each.port == port)
        raise ServiceUnavailable(f"nobody serves {key}")

    def fail_over(self, key: str) -> LocalRedis:
        """Kill the owner of the key, wait until another node serves it, and return the one that was killed."""
        ended = self.owner_of(key)
        ended.kill()
        wait_until(lambda: self.owner_of(key) is not ended, "a replica takes over")
        return ended

    def move(self, key: str, between: Callable[[], None] = lambda: None) -> None:
        """Move the key's slot to another primary, key by key; `between` is called when half of them have moved."""
        slot, source = key_slot(key.encode()), self.owner_of(key)
        target = next(node for node in self.primaries() if node is not source)
        _ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", _id_of(source))
        _ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", _id_of(target))
        keys = _ask(source, "CLUSTER GETKEYSINSLOT", slot, 100_000)
        self._migrate(source, target, keys[: len(keys) // 2])
        between()
        while keys := _ask(source, "CLUSTER GETKEYSINSLOT", slot, 100_000):
            self._migrate(source, target, keys)
        for node in (target, source, *self.primaries()):
            _ask(node, "CLUSTER SETSLOT", slot, "NODE", _id_of(target))

    @staticmethod
    def _migrate(source: LocalRedis, target: LocalRedis, keys: list[bytes]) -> None:
        if keys:
            _ask(source, "MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)

    def primaries(self) -> list[LocalRedis]:
        """Those that serve slots, or could."""
        return [node for node in self.nodes if node.pid is not None and b"master" in _ask(node, "ROLE")]

    def close(self) -> None:
        """End all of it."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_until(met: Callable[[], bool], what: str) -> None:
    """Ask again and again. ServiceUnavailable after a minute."""
    deadline = time.monotonic() + 60
    while not met():
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"never came: {what}")
        time.sleep(0.05)


def _ask(node: LocalRedis, command: str, *arguments: object) -> Any:
    with redis.Redis(HOST, node.port, socket_timeout=20, protocol=2) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command.split(), *arguments)


def _id_of(node: LocalRedis) -> str:
    return str(_ask(node, "CLUSTER MYID").decode())


def _state(node: LocalRedis) -> dict[str, str]:
    text: str = _ask(node, "CLUSTER INFO").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
