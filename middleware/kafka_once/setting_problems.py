"""What is wrong with a setting, as one error: the setting, its value, the place where it stands, a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kafka_once.errors import ConfigurationError
from kafka_once.setting_checks import HIDDEN, shown
from kafka_once.setting_sources import Layers, variable_of

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

__all__ = ["first_of", "placed", "unknown"]


def unknown(name: str, place: str, fields: Mapping[str, FieldInfo]) -> ConfigurationError:
    """A name that is no setting's."""
    nearest = difflib.get_close_matches(name, fields, n=1)
    remedy = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(fields)}"
    return ConfigurationError(name, HIDDEN, f"no such setting; {remedy}", place)


def first_of(exc: ValidationError, layers: Layers, fields: Mapping[str, FieldInfo]) -> ConfigurationError:
    """The first of pydantic's errors, in our words."""
    problem = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(problem["loc"][0])
    extra = fields[name].json_schema_extra
    assert isinstance(extra, dict)
    if problem["type"] == "missing":
        remedy = f"it is required; write {extra['form']} (in the code, as {variable_of(name)} or in a settings_file)"
        return ConfigurationError(name, None, remedy)
    value = layers.value_of(name)
    if name == "instance_id" and value is None:
        name, value = 'kafka["group.instance.id"]', layers.kafka()["group.instance.id"]
    return placed(ConfigurationError(name, shown(name, value), f"write {extra['form']}"), layers)


def placed(error: ConfigurationError, layers: Layers) -> ConfigurationError:
    """The same error with the place where the value stands, if that is not the code."""
    for name in (error.setting, f'kafka["{error.setting}"]'):
        layer = layers.saying(name)
        if layer is not None and layer.name != "code":
            return ConfigurationError(error.setting, error.value, error.remedy, layer.place_of(name))
        if layer is not None:
            break
    return error
