"""Apache Kafka as a process of ours: one KRaft node on the loopback interface, from jars and a Java of this machine."""

import base64
import subprocess
import uuid
from collections.abc import Mapping

from kafka_once.testing.services.broker_properties import BROKER_PROPERTIES, kafka_version
from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.kafka import KafkaServer
from kafka_once.testing.services.kafka_jars import find_java, kafka_jars
from kafka_once.testing.services.process import HOST, ServerProcess, free_port

# A broker that starts soon and stays small matters more here than one that gets fast after a minute.
JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
LOGGING = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")

FORMAT_TIMEOUT_S = 60


class ApacheKafka(KafkaServer):
    """The real broker. It keeps its data and its address over `kill` and `restart`."""

    kind = "apache"

    def __init__(self, config: Mapping[str, str]) -> None:
        java = [str(find_java()), *JVM_OPTIONS, *LOGGING, "-cp", f"{kafka_jars()}/*"]
        self.version = f"Apache Kafka {kafka_version()}"
        process = ServerProcess("kafka")
        port, controller_port = free_port(), free_port()
        self.bootstrap = f"{HOST}:{port}"
        properties = {
            **BROKER_PROPERTIES,
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "log.dirs": str(process.folder / "data"),
            **config,
        }
        file = process.folder / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        format_data([*java, "kafka.tools.StorageTool", "format", "-c", str(file), "-t", cluster_id()])
        process.argv = [*java, "kafka.Kafka", str(file)]
        self._run(process)


def format_data(command: list[str]) -> None:
    """Give the data folder its cluster id; a broker starts on no other."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    if run.returncode != 0:
        reason = (run.stdout + run.stderr)[-2000:]
        raise ServiceUnavailable(f"Kafka's data folder could not be formatted:\n{reason}")


def cluster_id() -> str:
    """A new cluster id in Kafka's own form: 16 random bytes, base64 for URLs."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # Kafka's tools take a leading dash for an option.
    return cluster_id() if text.startswith("-") else text
