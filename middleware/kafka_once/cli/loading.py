"""Finds the App that `module:app` names, as it would be imported from the folder the command is run in."""

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType

from kafka_once.app import App
from kafka_once.errors import ConfigurationError, KafkaOnceError

__all__ = ["ImportFailed", "load_app"]


class ImportFailed(Exception):
    """The user's module raised. The text is its traceback, as Python would print it, without our part."""


def load_app(name: str) -> App:
    """The App called `module:attribute`.

    Raises:
        ConfigurationError: there is no such module or attribute, or it is no App; or the module made one with a wrong
            setting.
        ImportFailed: the module raised something else.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(
            "app", name, "write module:app, for example billing:app for `app = App(…)` in billing.py"
        )
    module = _import(name, module_name)
    try:
        app = getattr(module, attribute)
    except AttributeError:
        apps = [each for each, value in vars(module).items() if isinstance(value, App)]
        remedy = f"it has the App {apps[0]!r}" if apps else "it has no App at all: app = App(…)"
        raise ConfigurationError("app", name, f"module {module_name!r} has no {attribute!r}; {remedy}") from None
    if not isinstance(app, App):
        raise ConfigurationError("app", name, f"{attribute!r} is a {type(app).__name__}, not an App")
    return app


def _import(name: str, module_name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module_name)
    except KafkaOnceError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed(error) from None  # the module is there; one that it imports is not
        remedy = f"there is no module {error.name!r} here: call kafka-once in the folder that holds it, or install it"
        if Path(module_name).suffix == ".py":
            remedy = f"name the module, not its file: {Path(module_name).stem}:{name.partition(':')[2]}"
        raise ConfigurationError("app", name, remedy) from None
    except Exception as error:  # noqa: BLE001  (the user's module: whatever it raised is shown as it is)
        raise _failed(error) from None


def _failed(error: Exception) -> ImportFailed:
    frame: TracebackType | None = error.__traceback__
    while frame is not None and _is_ours(frame):
        frame = frame.tb_next
    return ImportFailed("".join(traceback.format_exception(type(error), error, frame)))


def _is_ours(frame: TracebackType) -> bool:
    file = frame.tb_frame.f_code.co_filename
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")
