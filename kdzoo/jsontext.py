"""From the JSON of a file to the typed, versioned value it holds, with one clear sentence where that fails.

A seal is the SHA-256 of a text of JSON inside the text, so that what was changed after it was written is found: damage
and careless edits. It is no signature: who edits a file on purpose can make a new seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from kdzoo.cell import canonical_json
from kdzoo.errors import DamagedError, KdzooError, NewerError

_M = TypeVar("_M", bound=BaseModel)

MEND = "run the same bench again, which sets the file aside and makes a new file"
"""What helps in a folder of runs."""


_MARK = b',"sha256":"'
_DIGITS = 64


def damaged(where: str, problem: str) -> DamagedError:
    """The error of a file that is not what kdzoo wrote.

    Args:
        where: what to call the file.
        told: what is wrong with it.
    """
    return DamagedError(f"{where}: {problem}; {MEND}")


Modern: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the JSON of an older version into today's form; raises ValueError where it cannot."""


def parse(
    model: type[_M], text: str | bytes, where: str, *, version: str, newest: int, modern: Modern | None = None
) -> _M:
    """Read a value from its JSON.

    Args:
        model: what the file holds.
        text: the file's content.
        where: what to call the file in a message.
        version: the field that holds the version of the form.
        newest: the newest version that this kdzoo reads.
        modern: turns older versions into today's form; None where the model reads them as they are.

    Raises:
        DamagedError: it is not JSON, or not such a value.
        NewerError: it is of a newer version.
    """
    if modern is not None:
        text = _in_todays_form(text, where, modern)
    try:
        value = model.model_validate_json(text)
    except ValidationError as error:
        raise _damage(model, text, where, version, newest, error) from None
    if version not in value.model_fields_set:
        raise damaged(where, f"not a kdzoo {model.__name__.lower()}")
    if getattr(value, version) > newest:
        raise _newer(model, where, getattr(value, version), newest)
    return value


def _in_todays_form(text: str | bytes, where: str, modern: Modern) -> str | bytes:
    """A text whose value is of today's form; one that is no JSON object stays as it is, for the model to refuse."""
    try:
        old = from_json(text, allow_inf_nan=False)
    except ValueError:
        return text
    if not isinstance(old, dict):
        return text
    try:
        new = modern(old)
    except ValueError as error:
        raise damaged(where, str(error)) from None
    return text if new is old else to_json(new)


def _damage(
    model: type[BaseModel], text: str | bytes, where: str, version: str, newest: int, error: ValidationError
) -> KdzooError:
    """Why a text is not such a value. A file of a newer form is called so, whatever else does not fit in it."""
    kind = model.__name__.lower()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        reason = (str(fault).splitlines() or [type(fault).__name__])[0]
        return damaged(where, f"not valid JSON ({reason})")
    if not isinstance(value, dict) or not isinstance(value.get(version), int):
        return damaged(where, f"not a kdzoo {kind}")
    if value[version] > newest:
        return _newer(model, where, value[version], newest)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or kind
    message = first["msg"].removeprefix("Value error, ")
    return damaged(where, f"{place}: {message[0].lower()}{message[1:]}")


def _newer(model: type[BaseModel], where: str, found: int, newest: int) -> NewerError:
    kind = model.__name__.lower()
    return NewerError(
        f"{where}: written by a newer kdzoo, with {kind} schema {found}; "
        f"this one reads up to {newest}, so upgrade kdzoo"
    )


def sealed(value: dict[str, Any]) -> str:
    """One line: the canonical JSON of a value with a further key, ``sha256``, the hash of that JSON without it."""
    digest = hashlib.sha256(canonical_json(value).encode()).hexdigest()
    return canonical_json(value | {"sha256": digest}) + "\n"


def unsealed(text: bytes) -> tuple[bytes, bool | None]:
    """A text without its seal, and whether the seal fits; None where there is none.

    The seal is looked for where :func:`sealed` puts it, from the end: quotes inside of strings are escaped, so that
    no string is taken for it. A text that was laid out in another way keeps its seal, which no reader knows.
    """
    start = text.rfind(_MARK)
    stop = start + len(_MARK) + _DIGITS
    if start < 0 or text[stop : stop + 1] != b'"':
        return text, None
    body = text[:start] + text[stop + 1 :]
    return body, text[start + len(_MARK) : stop] == hashlib.sha256(body.rstrip()).hexdigest().encode()


def parse_sealed(
    model: type[_M], text: str | bytes, where: str, *, version: str, newest: int, modern: Modern | None = None
) -> _M:
    """As :func:`parse`, of a text that may have a seal.

    Raises:
        DamagedError: it is not JSON, not such a value, or was changed after it was sealed.
        NewerError: it is of a newer version.
    """
    body, fits = unsealed(text if isinstance(text, bytes) else text.encode(errors="replace"))
    value = parse(model, body, where, version=version, newest=newest, modern=modern)
    if fits is False:
        raise damaged(where, "its contents do not fit its SHA-256, so it was changed after it was written")
    return value
