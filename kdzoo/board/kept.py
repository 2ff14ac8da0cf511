"""The text of a record -> a line of JSON, small and alike, for a file and between processes -> an entry."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from kdzoo.board.cells import Cells, cell_id
from kdzoo.board.entries import Entries, Entry, Parts
from kdzoo.board.identity import Context, Setting
from kdzoo.board.results import Result, Scores, Teacher, Timing, result_of
from kdzoo.cell import Cell, DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.recipe import Recipe
from kdzoo.record import SCHEMA, Summary, parse_record

_KINDS: dict[str, Any] = {
    "data": DataRef,
    "student": ModelRef,
    "teacher": TeacherRef,
    "strategy": StrategyRef,
    "recipe": Recipe,
    "tuned_from": Recipe,
}
"""The fields of a cell that lines tell by a name."""


class Kept(NamedTuple):
    """What is kept of a record.

    Attributes:
        id: of its cell.
        stamp: what changes whenever the record is written.
        names: of the values of data, student, teacher, strategy, recipe and tuned_from, then init and protocol as they
            are; None of a record that is no entry.
        seed, evaluation: as in the entry.
        result: the values of the result, without the id.
        line: all of this as JSON; lines of different records stand in the order of their ids.
    """

    id: str
    stamp: str
    names: list[Any] | None
    seed: int
    evaluation: int
    result: list[Any]
    line: bytes


class Keeper:
    """Makes lines of records, with as little work for each as equal cells and unread curves allow."""

    def __init__(self) -> None:
        self._cells = Cells()

    @property
    def texts(self) -> dict[str, str]:
        """JSON of what the names in lines stand for. A name follows from that alone, so that what several processes
        keep goes together as it is."""
        return self._cells.texts

    def line(self, text: bytes, where: str, stamp: str) -> bytes:
        """What to keep of a record.

        Args:
            text, where: as :func:`kdzoo.record.parse_record` takes them.
            stamp: what changes whenever the record is written.

        Raises:
            KdzooError: as :func:`kdzoo.record.parse_record`, but for what is wrong in the curve.
        """
        try:
            return self._line(from_json(_without_curve(text)), stamp)
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = parse_record(text, where)
        return self._line(from_json(whole.to_json()), stamp)

    def _line(self, told: dict[str, Any], stamp: str) -> bytes:
        if told["record_schema"] > SCHEMA:
            raise ValueError
        values = self._cells.read(told["cell"])
        told["cell"] = cell = Cell(**{field: value.value for field, value in values.items()})
        summary = Summary.model_validate(told)
        if summary.id != cell_id(values):
            raise ValueError
        if cell.kind != "student":
            return to_json((summary.id, stamp, None, 0, 0, ()))
        shared = [None if values[field].value is None else values[field].name for field in _KINDS]
        names = (*shared, cell.init, cell.protocol)
        return to_json((summary.id, stamp, names, cell.seed, summary.evaluation, result_of(summary)[1:]))


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
        texts: JSON of what the names stand for.
    """
    made: dict[tuple[Any, ...], Parts] = {}
    values: dict[tuple[str, str | None], Any] = {(field, None): None for field in _KINDS}
    contexts: dict[Hashable, Context] = {}
    settings: dict[Hashable, Setting] = {}
    maker = Entries()

    def value(field: str, name: str | None) -> Any:
        if (field, name) not in values and name is not None:
            values[field, name] = _KINDS[field].model_validate_json(texts[name])
        return values[field, name]

    def parts(names: tuple[Any, ...]) -> Parts:
        fields = {field: value(field, name) for field, name in zip(_KINDS, names[:-2], strict=True)}
        one = maker.parts(Cell(kind="student", seed=0, init=names[-2], protocol=names[-1], **fields))
        data, _, _, strategy, recipe, tuned_from, *rest = names
        context = contexts.setdefault((data, tuned_from or recipe, *rest), one.context)
        setting = settings.setdefault((strategy, recipe, tuned_from), one.setting)
        return Parts(context, one.student, one.teacher, setting)

    entries = []
    for one in kept:
        if one.names is not None:
            names = tuple(one.names)
            if names not in made:
                made[names] = parts(names)
            entries.append(Entry(made[names], one.seed, one.evaluation, _result(one.id, one.result)))
    return entries


def _result(cell_id: str, values: list[Any]) -> Result:
    ended, family, teacher, scores, timing, reason = values
    return Result(
        cell_id,
        ended,
        family,
        teacher and Teacher(*teacher),
        scores and Scores(*scores),
        timing and Timing(timing[0], timing[1], timing[2], tuple(timing[3])),
        reason,
    )
