"""Many cells from JSON: they share most of their values, of which each is validated and hashed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic_core import to_json

from kdzoo.cell import Cell, canonical_json


class Value(NamedTuple):
    """A validated value of a field.

    Attributes:
        value: as the cell has it.
        digest: of its JSON; the same in every process.
        identity: what stands for it, with the field's name, in the canonical JSON of a cell's identity; empty where it
            is left out.
    """

    value: Any
    digest: str
    identity: str


class Cells:
    """Reads cells.

    Attributes:
        texts: JSON of the values that were read, by their digests.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._values: dict[tuple[str, bytes], Value] = {}

    def read(self, told: Mapping[str, Any]) -> dict[str, Value]:
        """The values of the fields that a cell's JSON has.

        Raises:
            ValidationError: one is not a cell's.
        """
        keys = [(field, to_json(value)) for field, value in told.items()]
        try:
            return {key[0]: self._values[key] for key in keys}
        except KeyError:
            self._validate(told, keys)
        return {key[0]: self._values[key] for key in keys}

    def _validate(self, told: Mapping[str, Any], keys: Iterable[tuple[str, bytes]]) -> None:
        cell = Cell.model_validate_json(to_json(told))
        identity = cell.identity()
        for field, text in keys:
            digest = hashlib.sha256(text).hexdigest()[:16]
            part = canonical_json({field: identity[field]})[1:-1] if field in identity else ""
            self._values[field, text] = Value(getattr(cell, field), digest, part)
            self.texts[digest] = text.decode()


def id_of(values: Mapping[str, Value]) -> str:
    """The :attr:`kdzoo.cell.Cell.id` of a cell with these values."""
    text = ",".join(sorted(value.identity for value in values.values() if value.identity))
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:16]
