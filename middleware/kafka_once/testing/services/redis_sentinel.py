"""A Redis with replicas under the eyes of sentinels, as processes of this machine."""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import redis

from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.process import HOST, ServerProcess, free_port
from kafka_once.testing.services.redis import DURABLE, LocalRedis
from kafka_once.testing.services.redis_cluster import wait_until
from kafka_once.testing.services.redis_programs import Argv, wanted_program

SERVICE = "claims"


class GuardedRedis:
    """One primary, its replicas, and sentinels. Leaving its `with` block ends all of them.

    Args:
        program: the server's program; the version that KAFKA_ONCE_TEST_REDIS names, or this machine's own, without it.
        replicas: how many follow the primary.
        sentinels: how many watch; more than half of them agree on a failover.
        config: lines of redis.conf for all servers, over an append-only file.
        password: of the servers.
        sentinel_password: of a sentinel that is the only one.
    """

    def __init__(
        self,
        program: Argv | None = None,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        config: dict[str, str] | None = None,
        password: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self._program = program or wanted_program()
        self._sentinel_password = sentinel_password
        self._stack = ExitStack()
        self._sentinels: list[tuple[int, ServerProcess]] = []
        settings = {**DURABLE, "repl-diskless-sync-delay": "0", **(config or {})}
        if password:
            settings["masterauth"] = password
        try:
            first = self._stack.enter_context(LocalRedis("sentinel", self._program, settings, password))
            self.servers = [first]
            for _ in range(replicas):
                following = {**settings, "replicaof": f"{HOST} {first.port}"}
                self.servers.append(
                    self._stack.enter_context(LocalRedis("sentinel", self._program, following, password))
                )
            for _ in range(sentinels):
                self._watch(first.port, sentinels // 2 + 1, password)
            wait_until(self._is_settled, "the sentinels know each other and the replicas")
        except BaseException:
            self.close()
            raise
        secret = f":{password}@" if password else ""
        places = ",".join(f"{HOST}:{port}" for port, _ in self._sentinels)
        self.url = f"redis+sentinel://{secret}{places}/{SERVICE}/0"
        if sentinel_password:
            self.url += f"?sentinel_password={sentinel_password}"

    def _watch(self, port: int, quorum: int, password: str | None) -> None:
        process = ServerProcess("redis-sentinel")
        self._stack.callback(process.close)
        own_port = free_port()
        conf = process.folder / "sentinel.conf"
        lines = [
            f"bind {HOST}",
            f"port {own_port}",
            f"dir {process.folder}",
            f"sentinel monitor {SERVICE} {HOST} {port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 3000",
            *([f"sentinel auth-pass {SERVICE} {password}"] if password else []),
            *([f"requirepass {self._sentinel_password}"] if self._sentinel_password else []),
        ]
        conf.write_text("\n".join(lines) + "\n")
        process.argv = [*self._program, str(conf), "--sentinel"]
        process.start()
        process.wait_until(lambda: self._answers(own_port), timeout_s=20)
        self._sentinels.append((own_port, process))

    @property
    def primary(self) -> LocalRedis:
        """The server that the sentinels name now."""
        port = int(self._told()["port"])
        return next(server for server in self.servers if server.port == port)

    def fail_over(self, end: Callable[[LocalRedis], None] = LocalRedis.kill) -> LocalRedis:
        """End the primary (kill -9 unless said), wait until another is named, and return the one that ended."""
        ended = self.primary
        end(ended)
        self.wait_for_another(ended)
        return ended

    def wait_for_another(self, ended: LocalRedis) -> None:
        """Wait until the sentinels name another primary than this one."""
        wait_until(lambda: int(self._told()["port"]) != ended.port, "the sentinels name another primary")

    def replicas_follow(self) -> bool:
        """Whether every replica has all that is written by now."""
        primary = self.primary
        written = _replication(primary)["master_repl_offset"]
        told = [_replication(server) for server in self.servers if server is not primary]
        return all(each["master_link_status"] == "up" and each["slave_repl_offset"] >= written for each in told)

    def wait_for_replicas(self) -> None:
        """Wait until they have all that is written by now."""
        wait_until(self.replicas_follow, "the replicas follow")

    def cut_off_replicas(self) -> None:
        """From now on they get nothing of what is written. For servers with a password."""
        primary = self.primary
        for server in self.servers:
            if server is not primary:
                with server.client() as client:
                    client.config_set("masterauth", "none of it")
        with primary.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def end_sentinel(self) -> None:
        """Kill the first sentinel of the URL."""
        self._sentinels[0][1].kill()

    def _told(self) -> dict[str, Any]:
        for port, process in self._sentinels:
            if process.pid is not None:
                with self._ask(port) as client:
                    told: dict[str, Any] = client.sentinel_master(SERVICE)
                    return told
        raise ServiceUnavailable("no sentinel is left")

    def _is_settled(self) -> bool:
        for port, _ in self._sentinels:
            with self._ask(port) as client:
                told = client.sentinel_master(SERVICE)
                others, replicas = int(told["num-other-sentinels"]), int(told["num-slaves"])
                if others < len(self._sentinels) - 1 or replicas < len(self.servers) - 1:
                    return False
                if any(each["is_sdown"] or each["is_disconnected"] for each in client.sentinel_slaves(SERVICE)):
                    return False
        return self.replicas_follow()

    def _ask(self, port: int) -> "redis.Redis":
        return redis.Redis(HOST, port, socket_timeout=5, protocol=2, password=self._sentinel_password)

    def _answers(self, port: int) -> bool:
        try:
            with self._ask(port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def close(self) -> None:
        """End all of it."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _replication(server: LocalRedis) -> dict[str, Any]:
    with server.client() as client:
        told: dict[str, Any] = client.info("replication")
        return told
