"""Records and planned cells -> rows: the seeds of one setting on one pair, and what makes rows comparable."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from kdzoo.board.entries import Entries, Entry, Parts
from kdzoo.board.identity import (
    Setting,
    context_key,
    model_key,
    place_key,
    recipe_changes,
    setting_key,
    teacher_key,
)
from kdzoo.board.results import Result
from kdzoo.cell import Cell
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
    """One setting on one pair in one context: its seeds, done (in their order), failed or missing."""

    done: dict[int, Result] = field(default_factory=dict)
    failed: dict[int, Result] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)

    @property
    def seeds(self) -> list[int]:
        """All seeds that were asked for, ascending."""
        return sorted({*self.done, *self.failed, *self.missing})


class Numbering(Generic[T]):
    """Gives equal things one number, so that deep keys are hashed once.

    Args:
        key: equal for equal things.
    """

    def __init__(self, key: Callable[[T], Hashable]) -> None:
        self.things: list[T] = []
        self._key = key
        self._numbers: dict[Hashable, int] = {}
        self._ids: dict[int, int] = {}  # of the things that are kept, and so keep their id

    def number(self, thing: T) -> int:
        """The number of a thing; the first of those that are equal is kept."""
        found = self._ids.get(id(thing))
        if found is None:
            found = self._numbers.setdefault(self._key(thing), len(self.things))
            if found == len(self.things):
                self.things.append(thing)
                self._ids[id(thing)] = found
        return found

    def find(self, key: Hashable) -> int | None:
        """The number of a key that has one."""
        return self._numbers.get(key)


class Rows:
    """All rows of a board. Only cells of students are rows: a teacher's training and a tuning trial are none.

    A planned cell without a record is a missing seed of its row, as the newest evaluation there measured it. So is one
    that only an older evaluation measured: what it measured stands in a row of its own.

    Args:
        records: records, or entries made of them before; in any order, read once.
        planned: the cells that were asked for, in any order, with and without a record.
    """

    def __init__(self, records: Iterable[Record | Entry], planned: Iterable[Cell] = ()) -> None:
        self.contexts = Numbering(context_key)
        self.students = Numbering(model_key)
        self.teachers = Numbering(teacher_key)
        self.settings = Numbering(_setting_key)
        self.rows: dict[RowKey, Row] = {}
        self.conflicts: set[tuple[RowKey, int]] = set()
        self._collect(records)
        newest: dict[Identity, int] = {}
        for identity, evaluation in self.rows:
            newest[identity] = max(evaluation, newest.get(identity, evaluation))
        asked = [
            (RowKey(identity, newest[identity]), seed)
            for (identity, evaluation), row in self.rows.items()
            if evaluation < newest[identity]
            for seed in row.seeds
        ]
        entries = Entries()
        for cell in planned:
            if cell.kind == "student":
                identity = self._number(entries.parts(cell))
                asked.append((RowKey(identity, newest.get(identity, EVALUATION)), cell.seed))
        for key, seed in asked:
            row = self.rows.setdefault(key, Row())
            if seed not in row.done and seed not in row.failed:
                row.missing.add(seed)
        for row in self.rows.values():
            row.done = dict(sorted(row.done.items()))

    def place_key(self, place: Place) -> Hashable:
        """The :func:`kdzoo.board.identity.place_key` of a place."""
        teacher = None if place.teacher is None else self.teachers.things[place.teacher]
        return place_key(self.contexts.things[place.context], self.students.things[place.student], teacher)

    def find_setting(self, cell: Cell) -> int | None:
        """The number of a cell's setting, if a row has it."""
        return self.settings.find(setting_key(cell.strategy, recipe_changes(cell)))

    def _collect(self, records: Iterable[Record | Entry]) -> None:
        entries = Entries()
        sharing: dict[tuple[int, int], list[Entry]] = {}
        for record in records:
            if isinstance(record, Entry):
                # Ready entries of one row share their parts, so that most need no key of their own.
                sharing.setdefault((id(record.parts), record.evaluation), []).append(record)
            elif (entry := entries.entry(record)) is not None:
                self._add([entry])
        for row in sharing.values():
            self._add(row)

    def _add(self, entries: Sequence[Entry]) -> None:
        """Add entries of one row."""
        key = RowKey(self._number(entries[0].parts), entries[0].evaluation)
        row = self.rows.setdefault(key, Row())
        for _, seed, _, result in entries:
            twin = row.done.pop(seed, None) or row.failed.pop(seed, None)
            if twin is not None and twin.differs(result):
                self.conflicts.add((key, seed))
            used = result if twin is None else max(twin, result, key=Result.precedence)
            (row.failed if used.scores is None else row.done)[seed] = used

    def _number(self, parts: Parts) -> Identity:
        return Identity(
            self.contexts.number(parts.context),
            self.students.number(parts.student),
            None if parts.teacher is None else self.teachers.number(parts.teacher),
            self.settings.number(parts.setting),
        )


def _setting_key(setting: Setting) -> Hashable:
    return setting_key(setting.strategy, setting.changes)
