"""A seal: the SHA-256 of a text of JSON inside the text, so that what was changed after it was written is found.

It finds damage and careless edits. It is no signature: who edits a file on purpose can make a new seal.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

from pydantic import BaseModel

from kdzoo.cell import canonical_json
from kdzoo.jsontext import damaged, parse

M = TypeVar("M", bound=BaseModel)

_MARK = b',"sha256":"'
_DIGITS = 64


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


def parse_sealed(model: type[M], text: str | bytes, where: str, *, version: str, newest: int) -> M:
    """As :func:`kdzoo.jsontext.parse`, of a text that may have a seal.

    Raises:
        DamagedError: it is not JSON, not such a value, or was changed after it was sealed.
        NewerError: it is of a newer version.
    """
    body, fits = unsealed(text if isinstance(text, bytes) else text.encode(errors="replace"))
    value = parse(model, body, where, version=version, newest=newest)
    if fits is False:
        raise damaged(where, "its contents do not fit its SHA-256, so it was changed after it was written")
    return value
