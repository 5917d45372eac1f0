"""Which broker the tests run, and how it is set, as a process and as a container: one node, nothing to wait for."""

import re
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")

BROKER_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    # A misspelt topic must be an error, not a new topic.
    "auto.create.topics.enable": "false",
    # One node holds one copy.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Fifty partitions each take a second to make and nothing to test.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # Dead members are noticed within seconds, in both group protocols.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    # A killed broker is let in again only when its last session has lapsed: by default after 9 s.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    # By default 128 MB of the heap.
    "log.cleaner.dedupe.buffer.size": "4194304",
}


def kafka_version() -> str:
    """The version of the broker that pom.xml names."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", POM.read_text())
    assert found, "pom.xml has no <kafka.version>"
    return found[1]
