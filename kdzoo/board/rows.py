"""Records and planned cells -> rows: the seeds of one strategy on one pair, and what makes rows comparable."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar

from kdzoo.board.results import Result, result_of
from kdzoo.cell import Cell, DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.recipe import Augment, Recipe
from kdzoo.record import EVALUATION, Record

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """What rows must share, beside the version of the evaluation, to be compared."""

    data: DataRef
    recipe: Recipe
    init: str
    protocol: int


class Identity(NamedTuple):
    """Which row a cell belongs to, by the numbers that :class:`Rows` gives to equal things."""

    context: int
    student: int
    teacher: int | None
    strategy: int


class RowKey(NamedTuple):
    """A row: one identity as one version of the evaluation measured it."""

    identity: Identity
    evaluation: int


@dataclass(slots=True)
class Row:
    """One strategy with its parameters on one pair in one context: its seeds, done, failed or missing."""

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


class Rows:
    """All rows of a board. Only cells of students are rows: a teacher's training and a tuning trial are none.

    A planned cell without a record is a missing seed of its row, as the newest evaluation there measured it.

    Args:
        records: in any order.
        planned: the cells that were asked for, in any order, with and without a record.
    """

    def __init__(self, records: Iterable[Record], planned: Iterable[Cell] = ()) -> None:
        self.contexts: Numbering[Context] = Numbering()
        self.students: Numbering[ModelRef] = Numbering()
        self.teachers: Numbering[TeacherRef] = Numbering()
        self.strategies: Numbering[StrategyRef] = Numbering()
        self.rows: dict[RowKey, Row] = {}
        self.conflicts: set[tuple[RowKey, int]] = set()
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
        strategy = cell.strategy
        context = (_data_key(cell.data), _recipe_key(cell.recipe), cell.init, cell.protocol)
        return Identity(
            self.contexts.number(context, Context(cell.data, cell.recipe, cell.init, cell.protocol)),
            self.students.number(_model_key(cell.student), cell.student),
            None if teacher is None else self.teachers.number(_teacher_key(teacher), teacher),
            self.strategies.number(
                (strategy.name, strategy.distribution, strategy.revision, _items(strategy.params)), strategy
            ),
        )


# Tuples are hashed and compared several times as fast as models.
_data_key = attrgetter(*DataRef.model_fields)
_augment_key = attrgetter(*Augment.model_fields)
_flat_recipe_key = attrgetter(*(name for name in Recipe.model_fields if name != "augment"))


def _recipe_key(recipe: Recipe) -> Hashable:
    return _flat_recipe_key(recipe), _augment_key(recipe.augment)


def _items(values: dict[str, bool | int | float | str | None]) -> Hashable:
    # By their text, because True, 1 and 1.0 are equal in Python and not in a cell's id.
    return tuple(sorted((name, repr(value)) for name, value in values.items())) if values else ()


def _model_key(model: ModelRef) -> Hashable:
    return model.name, _items(model.args)


def _teacher_key(teacher: TeacherRef) -> Hashable:
    recipe = teacher.recipe and _recipe_key(teacher.recipe)
    return _model_key(teacher.model), teacher.weights, recipe, teacher.seed, teacher.digest
