"""The text of a record -> a line of JSON, small and alike, for a file and between processes -> an entry."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from kdzoo.board.cells import Cells, Value, cut, id_of
from kdzoo.board.entries import Entries, Entry, Parts
from kdzoo.board.identity import Context, Setting
from kdzoo.board.results import Result, Teacher, Timing, result_of
from kdzoo.cell import Cell, DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.jsontext import unsealed
from kdzoo.measures import Measure
from kdzoo.recipe import Recipe
from kdzoo.record import SCHEMA, Environment, Size, Summary, TeacherMeasures, parse_record
from kdzoo.record_forms import in_todays_form

_KINDS: dict[str, Any] = {
    "data": DataRef,
    "student": ModelRef,
    "teacher": TeacherRef,
    "strategy": StrategyRef,
    "recipe": Recipe,
    "tuned_from": Recipe,
}
"""The fields of a cell that lines tell by a digest."""

_ALIKE: dict[str, type[BaseModel]] = {"environment": Environment, "student": Size, "teacher": TeacherMeasures}
"""What else many records share."""


class Kept(NamedTuple):
    """What is kept of a record.

    Attributes:
        id: of its cell.
        stamp: what changes whenever the record is written.
        parts: digests of data, student, teacher, strategy, recipe and tuned_from, then init and protocol as they are;
            None of a record that is no entry.
        seed, evaluation: as in the entry.
        result: the values of the result, without the id.
        line: all of this as JSON.
    """

    id: str
    stamp: str
    parts: list[Any] | None
    seed: int
    evaluation: int
    result: list[Any]
    line: bytes


class Keeper:
    """Makes lines of records, with as little work for each as equal cells and unread curves allow."""

    def __init__(self) -> None:
        self._cells = Cells()
        self._alike: dict[tuple[str, bytes], BaseModel] = {}

    def new_texts(self) -> dict[str, str]:
        """JSON of what the digests in lines stand for, by the digest, as far as it was not given before. What several
        processes keep goes together as it is."""
        texts, self._cells.texts = self._cells.texts, {}
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
        if not fits:
            parse_record(text, where, cell_id=cell_id)
        try:
            return self._line(cell_id, *self._read(_without_curve(body)), stamp)
        except (ValueError, KeyError, TypeError, AttributeError):
            record = parse_record(text, where, cell_id=cell_id)
            told = record.model_copy(update={"record_schema": SCHEMA}).model_dump(mode="json")
        return self._line(cell_id, told, self._cells.read(told["cell"]), stamp)

    def _read(self, text: bytes) -> tuple[dict[str, Any], dict[str, Value]]:
        """What a record's text tells beside the cell, and the values of the cell's fields."""
        parts = cut(text)
        if parts and (values := self._cells.known(parts.pieces)):
            return from_json(parts.rest), values
        told = from_json(text)
        cell = told["cell"]
        values = self._cells.read(cell)
        if parts:
            self._cells.learn(parts.pieces, cell, values)
        return told, values

    def _line(self, cell_id: str, told: dict[str, Any], values: dict[str, Value], stamp: str) -> bytes:
        if told["record_schema"] > SCHEMA:
            raise ValueError
        told = in_todays_form(told)
        told["measures"] = tuple(_measure(to_json(one)) for one in told.get("measures", ()))
        told["cell"] = cell = Cell(**{field: value.value for field, value in values.items()})
        for name, kind in _ALIKE.items():
            if told[name] is not None:
                key = (name, to_json(told[name]))
                if key not in self._alike:
                    self._alike[key] = kind.model_validate_json(key[1])
                told[name] = self._alike[key]
        summary = Summary.model_validate(told)
        if not cell_id == summary.id == id_of(values):
            raise ValueError
        if cell.kind != "student":
            return to_json((summary.id, stamp, None, 0, 0, ()))
        digests = [None if values[field].value is None else values[field].digest for field in _KINDS]
        parts = (*digests, cell.init, cell.protocol)
        return to_json((summary.id, stamp, parts, cell.seed, summary.evaluation, result_of(summary)[1:]))


@lru_cache(256)
def _measure(text: bytes) -> Measure:
    """The declaration, of which many records have the same ones."""
    return Measure.model_validate_json(text)


def _without_curve(text: bytes) -> bytes:
    """The text with an empty curve, most often: where a term's name holds a bracket, what is left is no JSON.

    Inside a string a quote has a backslash before it, so that no string is taken for the curve.
    """
    start = text.find(b'"curve":[') + len(b'"curve":[')
    end = text.find(b"]", start)
    return text[:start] + text[end:] if len(b'"curve":[') <= start < end else text


def kept_of(lines: Sequence[bytes]) -> list[Kept]:
    """What lines say.

    Raises:
        ValueError: one is no JSON.
    """
    # One text for all is read several times as fast as a text for each.
    told = from_json(b"[%b]" % b",".join(lines))
    return [Kept._make((*values, line)) for values, line in zip(told, lines, strict=True)]


def entries_of(kept: Iterable[Kept], texts: Mapping[str, str]) -> list[Entry]:
    """The entries among what was kept, in its order; equal parts of theirs are one thing.

    Args:
        kept: of any records.
        texts: JSON of what the digests stand for, by the digest.
    """
    made: dict[tuple[Any, ...], Parts] = {}
    values: dict[tuple[str, str | None], Any] = {(field, None): None for field in _KINDS}
    contexts: dict[Hashable, Context] = {}
    settings: dict[Hashable, Setting] = {}
    maker = Entries()

    def value(field: str, digest: str | None) -> Any:
        if (field, digest) not in values and digest is not None:
            values[field, digest] = _KINDS[field].model_validate_json(texts[digest])
        return values[field, digest]

    def make(told: tuple[Any, ...]) -> Parts:
        data, _, _, strategy, recipe, tuned_from, init, protocol = told
        fields = {field: value(field, digest) for field, digest in zip(_KINDS, told[:-2], strict=True)}
        parts = maker.parts(Cell(kind="student", seed=0, init=init, protocol=protocol, **fields))
        context = contexts.setdefault((data, tuned_from or recipe, init, protocol), parts.context)
        setting = settings.setdefault((strategy, tuned_from and recipe, tuned_from), parts.setting)
        return Parts(context, parts.student, parts.teacher, setting)

    entries = []
    for one in kept:
        if one.parts is not None:
            told = tuple(one.parts)
            if told not in made:
                made[told] = make(told)
            entries.append(Entry(made[told], one.seed, one.evaluation, _result(one.id, one.result)))
    return entries


def _result(cell_id: str, values: list[Any]) -> Result:
    ended, family, measures, teacher, scores, timing, reason = values
    return Result(
        cell_id,
        ended,
        family,
        tuple(_measure(to_json(one)) for one in measures),
        teacher and Teacher(*teacher),
        scores,
        timing and Timing(timing[0], tuple(timing[1]), timing[2]),
        reason,
    )


def digests_of(kept: Iterable[Kept]) -> set[str]:
    """The digests in lines."""
    return {digest for one in kept if one.parts is not None for digest in one.parts[: len(_KINDS)] if digest}
