"""Many cells from JSON: they share most of their values, of which each is validated and hashed once."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from pydantic_core import to_json

from kdzoo.cell import Cell, canonical_json


class Value(NamedTuple):
    """A validated value of a field.

    Attributes:
        value: as the cell has it.
        name: follows from its JSON alone; the same in every process.
        identity: its canonical JSON in a cell's identity; None where it is left out.
    """

    value: Any
    name: str
    identity: str | None


class Cells:
    """Reads cells.

    Attributes:
        texts: JSON of the values that were read, by their names.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._values: dict[tuple[str, bytes], Value] = {}

    def read(self, told: dict[str, Any]) -> dict[str, Value]:
        """The values of all fields but the seed.

        Args:
            told: a cell's JSON.

        Raises:
            ValidationError: it is no cell's.
        """
        keys = [(field, to_json(value)) for field, value in told.items() if field != "seed"]
        if any(key not in self._values for key in keys):
            self._validate(told, keys)
        return {key[0]: self._values[key] for key in keys}

    def _validate(self, told: dict[str, Any], keys: list[tuple[str, bytes]]) -> None:
        cell = Cell.model_validate_json(to_json(told))
        identity = cell.identity()
        for field, text in keys:
            name = hashlib.sha256(text).hexdigest()[:16]
            part = canonical_json(identity[field]) if field in identity else None
            self._values[field, text] = Value(getattr(cell, field), name, part)
            self.texts[name] = text.decode()


def cell_id(values: dict[str, Value], seed: int) -> str:
    """The :attr:`kdzoo.cell.Cell.id` of such values with a seed index."""
    parts = {field: value.identity for field, value in values.items() if value.identity is not None}
    parts["seed"] = str(seed)
    text = ",".join(f'"{field}":{part}' for field, part in sorted(parts.items()))
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:16]
