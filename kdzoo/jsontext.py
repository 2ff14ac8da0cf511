"""From the JSON of a file to the typed, versioned value it holds, with one clear sentence where that fails."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from kdzoo.errors import KdzooError

M = TypeVar("M", bound=BaseModel)

_MEND = "move the file away, and what it told is run again"


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
    kind = model.__name__.lower()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise KdzooError(f"{where}: not valid JSON ({told}); {_MEND}") from None
    if not isinstance(value, dict) or not isinstance(value.get(version), int):
        raise KdzooError(f"{where}: not a kdzoo {kind}; {_MEND}")
    if value[version] > newest:
        raise KdzooError(
            f"{where}: written by a newer kdzoo, with {kind} schema {value[version]}; "
            f"this one reads up to {newest}, so upgrade kdzoo"
        )
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or kind
        message = first["msg"].removeprefix("Value error, ")
        raise KdzooError(f"{where}: {place}: {message[0].lower()}{message[1:]}; {_MEND}") from None
