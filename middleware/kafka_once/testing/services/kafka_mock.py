"""librdkafka's mock cluster as a process of its own: a broker that needs nothing installed and checks less than Kafka.

It knows groups, commits and idempotent producers. It knows no transactions and no admin API, keeps about 5 MB a
partition and forgets older messages silently, and forgets everything when its process ends.

    python -m kafka_once.testing.services.kafka_mock --topic payments:6

prints one line of JSON with its address, takes further topics as lines of JSON on stdin, and ends when stdin closes.
"""

import argparse
import ctypes
import json
import select
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

import confluent_kafka
from confluent_kafka import cimpl

from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.kafka import KafkaServer
from kafka_once.testing.services.process import ServerProcess

ANSWER_TIMEOUT_S = 20

_PRODUCER = 0  # of rd_kafka_type_t
_HANDLE, _TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int

# In librdkafka's public headers, but not promised to users of the wheel: each is looked up, and a missing one is named.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "rd_kafka_conf_new": (_HANDLE, ()),
    "rd_kafka_new": (_HANDLE, (_INT, _HANDLE, _TEXT, ctypes.c_size_t)),
    "rd_kafka_err2str": (_TEXT, (_INT,)),
    "rd_kafka_mock_cluster_new": (_HANDLE, (_HANDLE, _INT)),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, (_HANDLE,)),
    "rd_kafka_mock_topic_create": (_INT, (_HANDLE, _TEXT, _INT, _INT)),
}
# Where the library has them: a group that forms at once and misses its dead members within seconds.
_GROUP_TIMES_MS = {
    "rd_kafka_mock_group_initial_rebalance_delay_ms": 0,
    "rd_kafka_mock_set_group_consumer_session_timeout_ms": 6000,
    "rd_kafka_mock_set_group_consumer_heartbeat_interval_ms": 1000,
}


class MockCluster:
    """A mock cluster of one broker inside this process."""

    def __init__(self) -> None:
        # The extension module itself: its handle finds the librdkafka it was linked to, wherever the wheel keeps it.
        self._library = ctypes.CDLL(cimpl.__file__)
        error = ctypes.create_string_buffer(512)
        client = self._call("rd_kafka_new")(_PRODUCER, self._call("rd_kafka_conf_new")(), error, len(error))
        if not client:
            raise ServiceUnavailable(f"librdkafka's mock cluster has no client: {error.value.decode()}")
        self._cluster = self._call("rd_kafka_mock_cluster_new")(client, 1)
        for name, time_ms in _GROUP_TIMES_MS.items():
            if hasattr(self._library, name):
                function = getattr(self._library, name)
                function.restype, function.argtypes = None, (_HANDLE, _INT)
                function(self._cluster, time_ms)

    @property
    def bootstrap(self) -> str:
        """Its address."""
        return str(self._call("rd_kafka_mock_cluster_bootstraps")(self._cluster).decode())

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic; ServiceUnavailable tells why not."""
        code = self._call("rd_kafka_mock_topic_create")(self._cluster, name.encode(), partitions, 1)
        if code:
            reason = self._call("rd_kafka_err2str")(code).decode()
            raise ServiceUnavailable(f"topic {name!r} could not be made: {reason}")

    def _call(self, name: str) -> Callable[..., Any]:
        if not hasattr(self._library, name):
            version = confluent_kafka.libversion()[0]
            raise ServiceUnavailable(f"librdkafka {version} does not export {name}: use kind 'apache' or 'docker'")
        function = getattr(self._library, name)
        function.restype, function.argtypes = _FUNCTIONS[name]
        return function  # type: ignore[no-any-return]


class MockKafka(KafkaServer):
    """The mock cluster in a process of its own, so that everything around it can be killed."""

    kind = "mock"

    def __init__(self) -> None:
        self.version = f"librdkafka {confluent_kafka.libversion()[0]} mock cluster"
        self._process = ServerProcess("kafka-mock", pipes=True)
        self._process.argv = [sys.executable, "-m", "kafka_once.testing.services.kafka_mock"]
        self._run(self._process)

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:  # noqa: ARG002
        """Make a topic; `config` is ignored, the mock has none."""
        orders = self._process.stdin
        orders.write(json.dumps({"topic": name, "partitions": partitions}) + "\n")
        orders.flush()
        answer = self._read()
        if "error" in answer:
            raise ServiceUnavailable(answer["error"])

    def restart(self) -> None:
        """Never: a mock cluster's topics and records are in its process."""
        raise ServiceUnavailable("the mock cluster forgets everything when it ends: ask for kind 'apache'")

    def _answers(self) -> bool:
        self.bootstrap = self._read()["bootstrap"]
        return True

    def _read(self) -> dict[str, str]:
        answers = self._process.stdout
        ready, _, _ = select.select([answers], [], [], ANSWER_TIMEOUT_S)
        line = answers.readline() if ready else ""
        if not line:
            raise ServiceUnavailable(f"the mock cluster does not answer{self._process.log_tail()}")
        answer: dict[str, str] = json.loads(line)
        return answer


def serve(topics: Mapping[str, int], orders: IO[str], answers: IO[str]) -> None:
    """Run a mock cluster, and make the topics asked for in `orders`, until `orders` ends."""

    def answer(**fields: str) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    cluster = MockCluster()
    for name, partitions in topics.items():
        cluster.create_topic(name, partitions)
    answer(bootstrap=cluster.bootstrap, version=confluent_kafka.libversion()[0])
    for line in orders:
        order = json.loads(line)
        try:
            cluster.create_topic(order["topic"], order["partitions"])
        except ServiceUnavailable as error:
            answer(error=str(error))
        else:
            answer(created=order["topic"])


def topic_and_partitions(text: str) -> tuple[str, int]:
    """`payments:6` as ("payments", 6); without a number, one partition."""
    name, _, partitions = text.partition(":")
    return name, int(partitions or 1)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A Kafka mock cluster that lives until its stdin closes.")
    parser.add_argument("--topic", action="append", default=[], type=topic_and_partitions, metavar="NAME:PARTITIONS")
    serve(dict(parser.parse_args().topic), sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
