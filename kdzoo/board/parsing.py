"""A record's text -> a line of JSON, small and alike, for a file and between processes -> what boards use of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from kdzoo.board.rows import Result, SeedResult, TeacherResult, Timing, result_of
from kdzoo.cell import Cell, RowKey, canonical_json, canonical_object
from kdzoo.jsontext import unsealed
from kdzoo.measures import Measure
from kdzoo.record import SCHEMA, Record, Summary, parse_record
from kdzoo.record_parts import Environment, Size, TeacherMeasures, in_todays_form

_SHARED: dict[str, type[BaseModel]] = {"environment": Environment, "student": Size, "teacher": TeacherMeasures}
"""The parts of a record, beside its cell, that many records share."""

_CELL = b'"cell":'
_FIELDS = sorted(Record.model_fields)
_BEHIND_CELL = f',"{_FIELDS[_FIELDS.index("cell") + 1]}":'.encode()
"""Between these two a record's canonical text has its cell."""

_SEED = re.compile(rb',"seed":(0|[1-9][0-9]*),"')


class CachedRecord(NamedTuple):
    """What is kept of a record.

    Attributes:
        id: of its cell.
        stamp: what changes whenever the record is written.
        key: the parts of its row's key, a digest in the place of each text; None of a record that has no row.
        seed: seed index.
        result: the values of the result, without the id.
        line: all of this as JSON.
    """

    id: str
    stamp: str
    key: list[Any] | None
    seed: int
    result: list[Any]
    line: bytes


class _Value(NamedTuple):
    """A validated value of a field of a cell, and its canonical text with and without the names of recipes."""

    value: Any
    text: str
    nameless: str


class _KnownCell(NamedTuple):
    """A cell as it was read once, for all seeds of its row.

    Attributes:
        cell: of any seed.
        key: as in :class:`CachedRecord`, but for the evaluation.
        before, after: the canonical text of the cell's identity around its seed.
    """

    cell: Cell
    key: list[str] | None
    before: bytes
    after: bytes

    def id(self, seed: bytes) -> str:
        """The :attr:`kdzoo.cell.Cell.id` of a cell of the row."""
        return hashlib.sha256(self.before + seed + self.after).hexdigest()[:16]


class RecordParser:
    """Makes lines of records. Cells that differ only in their seeds are read once, and equal values of cells that
    differ in others are validated once."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, bytes], _Value] = {}
        self._cells: dict[tuple[bytes, int], _KnownCell] = {}
        self._shared: dict[tuple[str, bytes], BaseModel] = {}
        self._texts: dict[str, str] = {}

    def new_texts(self) -> dict[str, str]:
        """What the digests in lines stand for, by the digest, as far as it was not given before. What several parsers
        give may be joined as it is."""
        texts, self._texts = self._texts, {}
        return texts

    def line(self, cell_id: str, text: bytes, where: str, stamp: str) -> bytes:
        """What to keep of a record.

        Args:
            cell_id: the cell whose record it should be.
            text, where: as :func:`kdzoo.record.parse_record` takes them.
            stamp: what changes whenever the record is written.

        Raises:
            KdzooError: as :func:`kdzoo.record.parse_record` does. Of a record that is as kdzoo wrote it, which its seal
                says, only what boards use is looked at.
        """
        body, fits = unsealed(text)
        if fits:
            try:
                return self._line_of_sealed(cell_id, _without_curve(body), stamp)
            except (ValueError, KeyError, TypeError, AttributeError):
                pass  # it is damaged, or laid out in another way
        record = parse_record(text, where, cell_id=cell_id)
        texts = {name: canonical_json(value) for name, value in record.cell.identity(names=True).items()}
        return self._line(record, self._key(record.cell, texts), record.cell.seed, stamp)

    def _line_of_sealed(self, cell_id: str, text: bytes, stamp: str) -> bytes:
        """The line of a record in its canonical text.

        Raises:
            ValueError: it is none, has another form, or is not the cell's.
        """
        start = text.index(_CELL) + len(_CELL)
        end = text.index(_BEHIND_CELL, start)
        seed = _SEED.search(text, start, end)
        if seed is None:
            raise ValueError
        place = (text[start : seed.start(1)] + text[seed.end(1) : end], seed.start(1) - start)
        known = self._cells.get(place)
        if known is None:
            known = self._cells[place] = self._read(text[start:end], int(seed[1]))
        plain = from_json(text[: start - len(_CELL)] + text[end + 1 :])
        if plain["record_schema"] > SCHEMA:
            raise ValueError
        plain = in_todays_form(plain)
        plain["measures"] = tuple(_measure(to_json(one)) for one in plain.get("measures", ()))
        plain["cell"] = known.cell
        for name, kind in _SHARED.items():
            if plain[name] is not None:
                key = (name, to_json(plain[name]))
                if key not in self._shared:
                    self._shared[key] = kind.model_validate_json(key[1])
                plain[name] = self._shared[key]
        summary = Summary.model_validate(plain)
        if not cell_id == summary.id == known.id(seed[1]):
            raise ValueError
        return self._line(summary, known.key, int(seed[1]), stamp)

    def _read(self, text: bytes, seed: int) -> _KnownCell:
        plain = from_json(text)
        if plain["seed"] != seed:
            raise ValueError
        keys = {name: (name, to_json(value)) for name, value in plain.items() if name != "seed"}
        if any(key not in self._values for key in keys.values()):
            self._validate(text, keys)
        values = {name: self._values[key] for name, key in keys.items()}
        cell = Cell(seed=seed, **{name: value.value for name, value in values.items()})
        nameless = {name: value.nameless for name, value in values.items() if value.nameless} | {"seed": "\0"}
        before, after = canonical_object(nameless).encode().split(b"\0")
        texts = {name: value.text for name, value in values.items() if value.text}
        return _KnownCell(cell, self._key(cell, texts), before, after)

    def _validate(self, text: bytes, keys: Mapping[str, tuple[str, bytes]]) -> None:
        cell = Cell.model_validate_json(text)
        named, nameless = cell.identity(names=True), cell.identity()
        for name, key in keys.items():
            texts = [canonical_json(plain[name]) if name in plain else "" for plain in (named, nameless)]
            self._values[key] = _Value(getattr(cell, name), *texts)

    def _key(self, cell: Cell, texts: Mapping[str, str]) -> list[str] | None:
        if cell.kind != "student":
            return None
        context, _, *others = RowKey.of_texts(texts, canonical_json(cell.recipe_changes), 0)
        parts = [context, *others]
        digests = [hashlib.sha256(part.encode()).hexdigest()[:16] for part in parts]
        self._texts.update(zip(digests, parts, strict=True))
        return digests

    def _line(self, record: Summary, key: list[str] | None, seed: int, stamp: str) -> bytes:
        if key is None:
            return to_json((record.id, stamp, None, 0, ()))
        return to_json((record.id, stamp, (record.evaluation, *key), seed, result_of(record)[1:]))


def _without_curve(text: bytes) -> bytes:
    """The text with an empty curve, most often: where a term's name holds a bracket, what is left is no JSON.

    Inside a string a quote has a backslash before it, so that no string is taken for the curve.
    """
    start = text.find(b'"curve":[') + len(b'"curve":[')
    end = text.find(b"]", start)
    return text[:start] + text[end:] if len(b'"curve":[') <= start < end else text


def parse_lines(lines: Sequence[bytes]) -> list[CachedRecord]:
    """What lines say.

    Raises:
        ValueError: one is no JSON.
    """
    # One text for all is read several times as fast as a text for each.
    plain = from_json(b"[%b]" % b",".join(lines))
    return [CachedRecord._make((*values, line)) for values, line in zip(plain, lines, strict=True)]


def results_of(cached: Iterable[CachedRecord], texts: Mapping[str, str]) -> list[SeedResult]:
    """What boards use of records, in their order; of those that have a row.

    Args:
        cached: of any records.
        texts: what the digests stand for, by the digest.
    """
    keys: dict[tuple[Any, ...], RowKey] = {}
    found = []
    for one in cached:
        if one.key is not None:
            plain = tuple(one.key)
            if plain not in keys:
                evaluation, context, student, teacher, setting = plain
                keys[plain] = RowKey(texts[context], evaluation, texts[student], texts[teacher], texts[setting])
            found.append(SeedResult(keys[plain], one.seed, _result(one.id, one.result)))
    return found


def _result(cell_id: str, values: list[Any]) -> Result:
    ended, family, measures, teacher, scores, timing, reason, found = values
    return Result(
        cell_id,
        ended,
        family,
        tuple(_measure(to_json(one)) for one in measures),
        teacher and TeacherResult(*teacher),
        scores,
        timing and Timing(timing[0], tuple(timing[1]), timing[2]),
        reason,
        found and (found[0], found[1]),
    )


@lru_cache(256)
def _measure(text: bytes) -> Measure:
    """A declaration, of which many records have the same ones."""
    return Measure.model_validate_json(text)


def digests_of(cached: Iterable[CachedRecord]) -> set[str]:
    """The digests in lines."""
    return {digest for one in cached if one.key is not None for digest in one.key[1:]}
