"""From plain values to typed ones, with one clear sentence where that fails."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kdzoo.errors import UsageError, unknown

M = TypeVar("M", bound=BaseModel)

_MUST_BE = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
    "literal_error": "{expected}",
}


def validate(model: type[M], values: Mapping[str, Any], where: str, names: Mapping[str, str] | None = None) -> M:
    """Build a typed value from YAML's plain ones, with one clear sentence where that fails.

    Args:
        model: what to build.
        values: its keys and values.
        where: the file, for the sentence.
        names: keys that come from elsewhere -> what the sentence calls them, such as ``--seeds``.

    Raises:
        UsageError: naming a wrong key, with the closest known names if it is unknown.
    """
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        # An unknown key comes first: it is often why another one is missing.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise UsageError(_sentence(model, first, where, names or {})) from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from None


def _sentence(model: type[BaseModel], error: Any, where: str, names: Mapping[str, str]) -> str:
    """pydantic's error in our words. A validator's own message begins with the key, or with ``must``."""
    if not error["loc"]:
        return f"{where}: {error['ctx']['error']}"
    key, *inner = map(str, error["loc"])
    fields = model.model_fields
    nested = getattr(fields[key].annotation, "model_fields", None) if key in fields else None
    if error["type"] == "extra_forbidden":
        return f"{where}: " + unknown("key", inner[0] if inner else key, nested if inner and nested else fields)
    name = names.get(".".join([key, *inner[:1]])) or names.get(key) or ".".join([f"{where}: {key}", *inner])
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"]).removeprefix(f"{key} ")
        return f"{name} {message}" if message.startswith("must") else f"{name}: {message}"
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "too_short":
        return f"{name} must name at least one"
    value = "null" if error["input"] is None else reprlib.repr(error["input"])
    must = _MUST_BE.get(error["type"])
    return f"{name} must be {must.format(**error.get('ctx', {}))}, not {value}" if must else f"{name}: {error['msg']}"
