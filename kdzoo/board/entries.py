"""Records -> entries: what a board uses of a record, with the parts that many records share kept once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from kdzoo.board.identity import Context, Setting, recipe_changes, recipe_key
from kdzoo.board.results import Result, result_of
from kdzoo.cell import Cell, ModelRef, TeacherRef
from kdzoo.record import Summary


class Parts(NamedTuple):
    """What tells the row of a cell; entries of one row may share it."""

    context: Context
    student: ModelRef
    teacher: TeacherRef | None
    setting: Setting


class Entry(NamedTuple):
    """A student's record as boards see it: its row, its seed, its result."""

    parts: Parts
    seed: int
    evaluation: int
    result: Result


class Entries:
    """Makes entries; a change of the recipe by tuning is worked out once for all cells that share it."""

    def __init__(self) -> None:
        self._changes: dict[Hashable, dict[str, Any]] = {}

    def entry(self, record: Summary) -> Entry | None:
        """The entry of a student's record; a teacher's training and a tuning trial have none."""
        if record.cell.kind != "student":
            return None
        return Entry(self.parts(record.cell), record.cell.seed, record.evaluation, result_of(record))

    def parts(self, cell: Cell) -> Parts:
        """The parts of a student's cell."""
        context = Context(cell.data, cell.tuned_from or cell.recipe, cell.init, cell.protocol)
        return Parts(context, cell.student, cell.teacher, Setting(cell.strategy, self._changed(cell)))

    def _changed(self, cell: Cell) -> dict[str, Any]:
        if cell.tuned_from is None:
            return {}
        key = (recipe_key(cell.tuned_from), recipe_key(cell.recipe))
        if key not in self._changes:
            self._changes[key] = recipe_changes(cell)
        return self._changes[key]
