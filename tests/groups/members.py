"""Members of a group, each a process of its own, and what an onlooker can see of them."""

import json
import textwrap
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import Producer, TopicPartition

from kafka_once.testing.services import KafkaServer
from tests.integration.programs import Program, programs

PATIENCE_S = 60

# Short enough for a test to outlast, long enough for a busy machine. The broker's own session time-out for
# group.protocol=consumer is 6 s (testing/services/broker_properties.py).
SESSION_S = 4
_CLASSIC = {"session.timeout.ms": SESSION_S * 1000, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 4000}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "eager": {"partition.assignment.strategy": "range", **_CLASSIC},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky", **_CLASSIC},
    "consumer": {"group.protocol": "consumer", "max.poll.interval.ms": 4000},
}

# Each run writes "began" and "ended" into the ledger. SIGUSR1 blocks the consumer's loop, not its handlers, until there
# is a file "go" beside the ledger.
MEMBER = textwrap.dedent(
    """
    import asyncio, json, logging, os, signal, sys, time
    from kafka_once import App, Message, header

    logging.basicConfig(level="INFO", stream=sys.stderr)
    spec = json.loads(sys.argv[1])
    ledger = os.open(spec["ledger"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    app = App(spec["bootstrap"], group=spec["group"], **spec["settings"])

    def note(what, message):
        key = dict(message.headers)["id"].decode()
        line = [what, key, os.getpid(), message.topic, message.partition, message.offset, int(message.in_doubt)]
        os.write(ledger, (json.dumps(line) + "\\n").encode())
        return spec["slow"].get(key, spec["handler_s"])

    def handle(payload: bytes, message: Message) -> None:
        time.sleep(note("began", message))
        note("ended", message)

    async def handle_async(payload: bytes, message: Message) -> None:
        seconds = note("began", message)
        await asyncio.sleep(0 if message.attempt > 1 else seconds)
        note("ended", message)

    def block():
        logging.getLogger("test").info("blocked")
        while not os.path.exists(spec["ledger"] + ".go"):
            time.sleep(0.01)

    key = header("id") if "store" in spec["settings"] else None
    app.handler(*spec["topics"], key=key, **spec["handler"])(handle_async if spec["is_async"] else handle)
    signal.signal(signal.SIGUSR1, lambda *_: app._member._runner._inbox.put(block))
    app.run()
    print(json.dumps(app.stats()), flush=True)
    """
)


class Run(NamedTuple):
    """One line of the ledger."""

    what: str
    key: str
    pid: int
    topic: str
    partition: int
    offset: int
    in_doubt: bool


class Scene:
    """A topic, a group, a ledger, and the members of a test.

    Attributes:
        ledger: what handlers wrote, in order.
    """

    def __init__(self, kafka: KafkaServer, folder: Path, started: list[Program], partitions: int = 4) -> None:
        self.kafka = kafka
        self.partitions = partitions
        self.topic = f"t-{uuid.uuid4().hex[:8]}"
        self.group = f"g-{self.topic}"
        self._ledger = folder / "ledger"
        self._started = started
        kafka.create_topic(self.topic, partitions)

    def member(self, protocol: str, *, handler: dict[str, Any] | None = None, **given: Any) -> Program:
        """Start one. What is given besides is its spec (`handler_s`, `slow`, …) or its settings."""
        spec = {"handler_s": 0.0, "slow": {}, "is_async": False, "topics": [self.topic]}
        spec = {name: given.pop(name, default) for name, default in spec.items()}
        kafka = {**PROTOCOLS[protocol], **given.pop("kafka", {})}
        settings = {"kafka": kafka, "commit_every": "50ms", "drain": "3s", "lease": "2s", **given}
        spec.update(bootstrap=self.kafka.bootstrap, group=self.group, ledger=str(self._ledger), settings=settings)
        program = Program({**spec, "handler": handler or {}}, MEMBER)
        self._started.append(program)
        return program

    def share(self, protocol: str, **given: Any) -> tuple[Program, Program, set[int], set[int]]:
        """Two members that are both at work, with the partitions of each."""
        first = self.member(protocol, **given)
        first.wait_for_log("partition assigned")
        second = self.member(protocol, **given)
        second.wait_for_log("partition assigned")
        for attempt in range(100):  # a rebalance takes more than one round
            keys = [f"share-{attempt}-{number}" for number in range(self.partitions)]
            self.produce(keys)
            self.wait_for(keys)
            places = {(run.pid, run.partition) for run in self.ledger() if run.key in keys}
            firsts = {partition for pid, partition in places if pid == first.pid}
            seconds = {partition for pid, partition in places if pid == second.pid}
            if firsts and seconds:
                return first, second, firsts, seconds
        raise AssertionError("one of them gets no partitions")

    def unblock(self) -> None:
        """Let the loop go on that SIGUSR1 has blocked."""
        self._ledger.with_name("ledger.go").touch()

    def produce(self, keys: Iterable[str], partition: int | None = None, topic: str | None = None) -> None:
        """One message per key, spread over the partitions if none is given."""
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "enable.idempotence": True})
        for number, key in enumerate(keys):
            place = number % self.partitions if partition is None else partition
            producer.produce(topic or self.topic, b"x", key.encode(), place, headers=[("id", key.encode())])
            producer.poll(0)
        assert producer.flush(30) == 0

    def ledger(self, what: str = "ended") -> list[Run]:
        if not self._ledger.exists():
            return []
        lines = [line for line in self._ledger.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [run for run in (Run(*json.loads(line)) for line in lines) if run.what == what]

    def runs(self) -> Counter[str]:
        """How often each key's handler ended."""
        return Counter(run.key for run in self.ledger())

    def wait_for(self, keys: Iterable[str]) -> None:
        wanted = set(keys)
        wait_until(lambda: wanted <= self.runs().keys(), "all of them processed")

    def committed(self) -> list[int]:
        """What the group has committed, per partition; 0 where nothing is."""
        with self._onlooker() as onlooker:
            places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
            return [max(place.offset, 0) for place in onlooker.committed(places, timeout=20)]

    def lag(self) -> int:
        with self._onlooker() as onlooker:
            places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
            ends = [onlooker.get_watermark_offsets(place, timeout=20)[1] for place in places]
            return sum(ends) - sum(max(place.offset, 0) for place in onlooker.committed(places, timeout=20))

    def wait_for_lag_0(self) -> None:
        wait_until(lambda: self.lag() == 0, "lag 0")

    @contextmanager
    def _onlooker(self) -> Iterator[PlainConsumer]:
        settings = {"bootstrap.servers": self.kafka.bootstrap, "group.id": self.group, "enable.auto.commit": False}
        onlooker = PlainConsumer(settings)
        try:
            yield onlooker
        finally:
            onlooker.close()


@contextmanager
def scene(kafka: KafkaServer, folder: Path, partitions: int = 4) -> Iterator[Scene]:
    """Whatever was started in it is killed at its end."""
    with programs() as started:
        try:
            yield Scene(kafka, folder, started, partitions)
        except BaseException:
            for program in started:
                print(f"---- log of {program.pid}", *program.log, sep="\n")
            raise


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    pause = threading.Event()
    for _ in range(int(patience_s * 20)):
        if condition():
            return
        pause.wait(0.05)  # books outside of this process can only be looked at again and again
    raise AssertionError(f"not within {patience_s} s: {what}")


def names(first: int, last: int) -> list[str]:
    return [f"k{number}" for number in range(first, last)]


def once(keys: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(keys, 1))
