"""Where settings are said: in the code, else in environment variables, else in a TOML file. The same names everywhere.

    code           App(lease="10s", kafka={"sasl.password": …})
    environment    KAFKA_ONCE_LEASE=10s   KAFKA_ONCE_KAFKA__SASL_PASSWORD=…
    file           lease = "10s"          [kafka]
                                          sasl.password = "…"

A file is read only if somebody names it: `settings_file` in the code, or KAFKA_ONCE_SETTINGS_FILE. Nothing that is read
here is shown here: what was said may be a password.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kafka_once.errors import ConfigurationError

__all__ = ["PREFIX", "Layer", "Layers", "variable_of"]

PREFIX: Final = "KAFKA_ONCE_"

_NESTED: Final = "KAFKA__"
# Read elsewhere: by `App.run` and by the tests. What Kubernetes sets for a service that is called kafka-once-… is
# nobody's mistake either.
_NO_SETTINGS: Final = re.compile(r"TRACEBACK|CACHE|TEST_.*|(.*_)?(SERVICE_HOST|SERVICE_PORT|PORT)(_.*)?")
_KAFKA_NAME: Final = re.compile(r'kafka\["(.+)"\]')


def variable_of(setting: str) -> str:
    """The environment variable for a setting: `lease`, or one of librdkafka's: `kafka["sasl.password"]`."""
    inner = _KAFKA_NAME.fullmatch(setting)
    return PREFIX + (_NESTED + inner[1].replace(".", "_") if inner else setting).upper()


@dataclass(frozen=True, slots=True)
class Layer:
    """What one place says.

    Attributes:
        name: "code", "environment" or "file".
        values: by setting; `kafka` is a dict by librdkafka's names.
        path: of the file.
    """

    name: str
    values: Mapping[str, Any] = field(repr=False)
    path: str = ""

    def says(self, setting: str) -> bool:
        """Whether it says anything of `lease`, or of `kafka["sasl.password"]`."""
        inner = _KAFKA_NAME.fullmatch(setting)
        if inner is None:
            return setting in self.values
        kafka = self.values.get("kafka")
        return isinstance(kafka, Mapping) and inner[1] in kafka

    def place_of(self, setting: str) -> str:
        """Where it says that, for people."""
        if self.name == "environment":
            return f"{variable_of(setting)} in the environment"
        return f"the file {self.path}" if self.name == "file" else "the code"


class Layers:
    """All that is said, the strongest first.

    Args:
        given: what the code says.
        known: the names of all settings.

    Attributes:
        ignored: variables with our prefix that are no settings.

    Raises:
        ConfigurationError: the file cannot be read, or a variable is a setting's name misspelt.
    """

    def __init__(self, given: Mapping[str, Any], known: Collection[str]) -> None:
        environment, self.ignored = _environment(known)
        self._layers = [Layer("code", given), environment]
        naming = next((layer for layer in self._layers if layer.values.get("settings_file")), None)
        if naming is not None:
            file = naming.values["settings_file"]
            if isinstance(file, str | os.PathLike):  # else it is refused with the other wrong values
                place = "" if naming.name == "code" else naming.place_of("settings_file")
                self._layers.append(_file(str(os.fspath(file)), place))

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def saying(self, setting: str) -> Layer | None:
        """The place whose word counts, None if none says anything."""
        return next((layer for layer in self._layers if layer.says(setting)), None)

    def value_of(self, setting: str) -> Any:
        """As it was said, None if nowhere."""
        layer = self.saying(setting)
        return None if layer is None else layer.values[setting]

    def kafka(self) -> dict[str, Any]:
        """The settings for librdkafka of all places together."""
        together: dict[str, Any] = {}
        for layer in reversed(self._layers):
            kafka = layer.values.get("kafka")
            if isinstance(kafka, Mapping):
                together.update(kafka)
        return together


# ----------------------------------------------------------------------------------------------------- the environment


def _environment(known: Collection[str]) -> tuple[Layer, list[str]]:
    values: dict[str, Any] = {}
    kafka: dict[str, str] = {}
    ignored = []
    for variable, value in os.environ.items():
        if not variable.upper().startswith(PREFIX) or not value:  # an empty one counts as not set
            continue
        name = variable[len(PREFIX) :]
        if name.upper().startswith(_NESTED):
            kafka[name[len(_NESTED) :].lower().replace("_", ".")] = value
        elif name.lower() in known:
            values[name.lower()] = value
        elif not _NO_SETTINGS.fullmatch(name.upper()):
            _refuse_misspelt(variable, name.lower(), known)
            ignored.append(variable)
    if kafka and "kafka" not in values:  # the whole dict as one text is refused with the other wrong values
        values["kafka"] = kafka
    return Layer("environment", values), sorted(ignored)


def _refuse_misspelt(variable: str, name: str, known: Collection[str]) -> None:
    """Only what is close to a name: programs of the same prefix may have variables of their own."""
    if name.startswith("kafka_"):
        meant = PREFIX + _NESTED + name.removeprefix("kafka_").lstrip("_").upper()
    elif nearest := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
        meant = variable_of(nearest[0])
    else:
        return
    raise ConfigurationError(variable, _Unshown(), f"no such setting; did you mean {meant}?", "the environment")


class _Unshown:
    def __repr__(self) -> str:
        return "<not shown>"


# ------------------------------------------------------------------------------------------------------------ the file


def _file(path: str, place: str) -> Layer:
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        remedy = f"it cannot be read ({error.strerror}); name a TOML file that is there and readable"
    except UnicodeDecodeError:
        remedy = "it is no text in UTF-8"
    except tomllib.TOMLDecodeError as error:  # its text may quote a character of the file
        where = re.search(r"at line \d+, column \d+", str(error))
        remedy = f'it is no TOML ({where[0] if where else "at its end"}); write lines like lease = "10s"'
    else:
        if "settings_file" in values:
            raise ConfigurationError(
                "settings_file", _Unshown(), "a file names no other; leave it out", f"the file {path}"
            )
        if isinstance(values.get("kafka"), dict):
            values["kafka"] = dict(_flat(values["kafka"], path))
        return Layer("file", values, path)
    raise ConfigurationError("settings_file", path, remedy, place)


def _flat(table: Mapping[str, Any], path: str, before: str = "") -> Iterator[tuple[str, Any]]:
    """`sasl.password = "…"` without quotation marks is a table in a table for TOML, and one name for librdkafka."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, path, f"{before}{name}.")
        elif isinstance(value, str | int | float):
            yield before + name, value
        else:
            remedy = "write text, a number, true or false"
            raise ConfigurationError(f'kafka["{before}{name}"]', _Unshown(), remedy, f"the file {path}")
