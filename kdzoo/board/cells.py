"""Many cells from JSON: they share most of their values, of which each is validated and hashed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from kdzoo.cell import Cell, canonical_json

_FIELDS = sorted(Cell.model_fields)
"""In the order in which a record's canonical text has them."""

_MARKS = [
    mark.encode() for mark in (f'"cell":{{"{_FIELDS[0]}":', *(f',"{field}":' for field in _FIELDS[1:]), '},"command":')
]
"""What stands before each field, and behind the last one."""


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


class Cut(NamedTuple):
    """The text of a record without its cell, and the texts of the cell's fields."""

    rest: bytes
    pieces: tuple[tuple[str, bytes], ...]


def cut(text: bytes) -> Cut | None:
    """Take the cell out of a record's canonical text; None where the text has another form.

    What is found between the names of two fields is a field's text if it is JSON, and only then: nothing else is
    learned by :meth:`Cells.learn`.
    """
    start = at = text.find(_MARKS[0])
    pieces = []
    for field, mark, following in zip(_FIELDS, _MARKS[:-1], _MARKS[1:], strict=True):
        begin = at + len(mark)
        at = text.find(following, begin)
        if at < begin:
            return None
        pieces.append((field, text[begin:at]))
    return Cut(text[:start] + text[at + 2 :], tuple(pieces)) if start >= 0 else None


class Cells:
    """Reads cells.

    Attributes:
        texts: JSON of the values that were read, by their digests.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._values: dict[tuple[str, bytes], Value] = {}
        self._learned: dict[tuple[str, bytes], Value] = {}

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

    def known(self, pieces: Iterable[tuple[str, bytes]]) -> dict[str, Value] | None:
        """What :meth:`read` would give, from texts of the fields; None where one is new."""
        try:
            return {piece[0]: self._learned[piece] for piece in pieces}
        except KeyError:
            return None

    def learn(self, pieces: Iterable[tuple[str, bytes]], told: Mapping[str, Any], values: Mapping[str, Value]) -> None:
        """Remember by which texts the values of a cell were told, where that is so."""
        for field, text in pieces:
            try:
                if field in told and to_json(from_json(text)) == to_json(told[field]):
                    self._learned[field, text] = values[field]
            except ValueError:
                continue

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
