"""Records and planned cells -> rows: the seeds of one setting on one pair, and what makes rows comparable."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from kdzoo.board.identity import (
    Context,
    Setting,
    data_key,
    model_key,
    place_key,
    recipe_changes,
    recipe_key,
    setting_key,
    teacher_key,
)
from kdzoo.board.results import Result, result_of
from kdzoo.cell import Cell, ModelRef, TeacherRef
from kdzoo.record import EVALUATION, Record

T = TypeVar("T")


class Place(NamedTuple):
    """A pair in one context, by the numbers that :class:`Rows` gives to equal things."""

    context: int
    student: int
    teacher: int | None


class Identity(NamedTuple):
    """Which row a cell belongs to, by the numbers that :class:`Rows` gives to equal things."""

    context: int
    student: int
    teacher: int | None
    setting: int


class RowKey(NamedTuple):
    """A row: one identity as one version of the evaluation measured it."""

    identity: Identity
    evaluation: int


@dataclass(slots=True)
class Row:
    """One setting on one pair in one context: its seeds, done, failed or missing."""

    done: dict[int, Result] = field(default_factory=dict)
    failed: dict[int, Result] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)

    @property
    def seeds(self) -> list[int]:
        """All seeds that were asked for, ascending."""
        return sorted({*self.done, *self.failed, *self.missing})


class Numbering(Generic[T]):
    """Gives equal things one number, so that deep keys are hashed once."""

    def __init__(self) -> None:
        self.things: list[T] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, thing: T) -> int:
        """The number of a key, and so of the things that have it; the first of them is kept."""
        found = self._numbers.setdefault(key, len(self.things))
        if found == len(self.things):
            self.things.append(thing)
        return found

    def find(self, key: Hashable) -> int | None:
        """The number of a key that has one."""
        return self._numbers.get(key)


class Rows:
    """All rows of a board. Only cells of students are rows: a teacher's training and a tuning trial are none.

    A planned cell without a record is a missing seed of its row, as the newest evaluation there measured it.

    Args:
        records: in any order, read once.
        planned: the cells that were asked for, in any order, with and without a record.
    """

    def __init__(self, records: Iterable[Record], planned: Iterable[Cell] = ()) -> None:
        self.contexts: Numbering[Context] = Numbering()
        self.students: Numbering[ModelRef] = Numbering()
        self.teachers: Numbering[TeacherRef] = Numbering()
        self.settings: Numbering[Setting] = Numbering()
        self.rows: dict[RowKey, Row] = {}
        self.conflicts: set[tuple[RowKey, int]] = set()
        self._changes: dict[Hashable, dict[str, Any]] = {}
        newest: dict[Identity, int] = {}
        recorded: set[tuple[Identity, int]] = set()
        for record in records:
            if record.cell.kind == "student":
                identity = self._identity(record.cell)
                newest[identity] = max(record.evaluation, newest.get(identity, record.evaluation))
                recorded.add((identity, record.cell.seed))
                self._add(identity, record)
        for cell in planned:
            if cell.kind == "student" and ((identity := self._identity(cell)), cell.seed) not in recorded:
                key = RowKey(identity, newest.get(identity, EVALUATION))
                self.rows.setdefault(key, Row()).missing.add(cell.seed)

    def place_key(self, place: Place) -> Hashable:
        """The :func:`kdzoo.board.identity.place_key` of a place."""
        teacher = None if place.teacher is None else self.teachers.things[place.teacher]
        return place_key(self.contexts.things[place.context], self.students.things[place.student], teacher)

    def find_setting(self, cell: Cell) -> int | None:
        """The number of a cell's setting, if a row has it."""
        return self.settings.find(setting_key(cell.strategy, recipe_changes(cell)))

    def _add(self, identity: Identity, record: Record) -> None:
        key = RowKey(identity, record.evaluation)
        row = self.rows.setdefault(key, Row())
        seed = record.cell.seed
        result = result_of(record)
        twin = row.done.pop(seed, None) or row.failed.pop(seed, None)
        if twin is not None:
            if twin.differs(result):
                self.conflicts.add((key, seed))
            result = max(twin, result, key=Result.precedence)
        (row.failed if result.scores is None else row.done)[seed] = result

    def _identity(self, cell: Cell) -> Identity:
        teacher = cell.teacher
        base = cell.tuned_from or cell.recipe
        changes = self._changed(cell)
        return Identity(
            self.contexts.number(
                (data_key(cell.data), recipe_key(base), cell.init, cell.protocol),
                Context(cell.data, base, cell.init, cell.protocol),
            ),
            self.students.number(model_key(cell.student), cell.student),
            None if teacher is None else self.teachers.number(teacher_key(teacher), teacher),
            self.settings.number(setting_key(cell.strategy, changes), Setting(cell.strategy, changes)),
        )

    def _changed(self, cell: Cell) -> dict[str, Any]:
        if cell.tuned_from is None:
            return {}
        key = (recipe_key(cell.tuned_from), recipe_key(cell.recipe))
        if key not in self._changes:
            self._changes[key] = recipe_changes(cell)
        return self._changes[key]
