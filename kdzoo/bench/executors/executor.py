"""What runs the cells of a bench, wherever that is, and what it tells on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop, Watch
from kdzoo.record import Record
from kdzoo.store import Store


def stands(record: Record, rerun: Rerun) -> bool:
    """Whether a finished cell is left as it is."""
    if record.status == "failed":
        return rerun == "never" or (rerun == "safe" and record.deaths > 0)
    return rerun != "always"


def must_run(cell: Cell, store: Store, rerun: Rerun) -> bool:
    """Whether a cell has no record that stands."""
    found = store.find_record(cell.id)
    return found is None or not stands(found, rerun)


class Report(Protocol):
    """Who shows a bench to a person. Several cells may run at a time."""

    def cell(self, cell: Cell) -> Watch:
        """A cell is about to run; what is given back watches its training."""

    def passed(self, cell: Cell) -> None:
        """Another process runs this cell; its turn comes again at the end."""

    def waiting(self, cell: Cell) -> None:
        """Another process runs this cell, and its result is waited for."""

    def done(self, record: Record) -> None:
        """A cell has its record."""

    def lost(self, cell: Cell, reason: str) -> None:
        """The process that ran a cell died; another one goes on with it. Told only where cells have their own."""


class Executor(Protocol):
    """Runs cells: in this process, in worker processes, or on a cluster. The records are the same."""

    def run(
        self, cells: Sequence[Cell], report: Report, rerun: Rerun, stops: Mapping[str, Stop] | None = None
    ) -> list[Record]:
        """The record of each cell, in the order given; the teachers' trainings are finished before any student's.

        Args:
            cells: what to run.
            report: who shows it.
            rerun: which finished cells run again.
            stops: id of a cell -> who may end it early; asked where the cell runs, so each must pickle.

        Raises:
            UsageError: the disk is full.
        """
