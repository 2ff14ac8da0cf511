"""From the JSON of a file to the typed, versioned value it holds, with one clear sentence where that fails."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from kdzoo.errors import KdzooError

M = TypeVar("M", bound=BaseModel)

MEND = "move the file away, and what it told is run again"
"""What helps in a folder of runs."""


def parse(model: type[M], text: str | bytes, where: str, *, version: str, newest: int) -> M:
    """Read a value from its JSON.

    Args:
        model: what the file holds.
        text: the file's content.
        where: what to call the file in a message.
        version: the field that holds the version of the form.
        newest: the newest version that this kdzoo reads.

    Raises:
        KdzooError: it is not JSON, not such a value, or of a newer version.
    """
    try:
        value = model.model_validate_json(text)
    except ValidationError as error:
        raise _told(model, text, where, version, newest, error) from None
    if version not in value.model_fields_set:
        raise KdzooError(f"{where}: not a kdzoo {model.__name__.lower()}; {MEND}")
    if getattr(value, version) > newest:
        raise _newer(model, where, getattr(value, version), newest)
    return value


def _told(
    model: type[BaseModel], text: str | bytes, where: str, version: str, newest: int, error: ValidationError
) -> KdzooError:
    """Why a text is not such a value. A file of a newer form is called so, whatever else does not fit in it."""
    kind = model.__name__.lower()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        told = (str(fault).splitlines() or [type(fault).__name__])[0]
        return KdzooError(f"{where}: not valid JSON ({told}); {MEND}")
    if not isinstance(value, dict) or not isinstance(value.get(version), int):
        return KdzooError(f"{where}: not a kdzoo {kind}; {MEND}")
    if value[version] > newest:
        return _newer(model, where, value[version], newest)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or kind
    message = first["msg"].removeprefix("Value error, ")
    return KdzooError(f"{where}: {place}: {message[0].lower()}{message[1:]}; {MEND}")


def _newer(model: type[BaseModel], where: str, found: int, newest: int) -> KdzooError:
    kind = model.__name__.lower()
    return KdzooError(
        f"{where}: written by a newer kdzoo, with {kind} schema {found}; "
        f"this one reads up to {newest}, so upgrade kdzoo"
    )
