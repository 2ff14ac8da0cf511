"""What an executor is, and the one that runs the cells one after the other in this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Protocol

from kdzoo.bench.crashes import marking_exits
from kdzoo.bench.events import Reporter
from kdzoo.bench.lab import Lab
from kdzoo.bench.lockstep import lockstep_groups, run_alike
from kdzoo.bench.run import run_cell
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop
from kdzoo.record import Record


class Executor(Protocol):
    """Runs cells: in this process, in worker processes, or on a cluster. The records are the same."""

    def run(
        self, cells: Sequence[Cell], report: Reporter, rerun: Rerun, stops: Mapping[str, Stop] | None = None
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


class InProcess:
    """The :class:`~kdzoo.bench.executors.local.Executor` that needs nothing but this process.

    Args:
        lab: store, data, plugins, device.
        lockstep: how many cells may share each pass of a teacher that runs in the loop.
    """

    def __init__(self, lab: Lab, lockstep: int = 1) -> None:
        self.lab, self.lockstep = lab, lockstep

    def run(
        self, cells: Sequence[Cell], report: Reporter, rerun: Rerun, stops: Mapping[str, Stop] | None = None
    ) -> list[Record]:
        """See :func:`run_cells`."""
        return run_cells(cells, self.lab, report, rerun, stops, self.lockstep)


def run_cells(
    cells: Sequence[Cell],
    lab: Lab,
    report: Reporter,
    rerun: Rerun,
    stops: Mapping[str, Stop] | None = None,
    lockstep: int = 1,
) -> list[Record]:
    """The record of each cell, in the order given.

    A cell that another bench is running is passed over, and its record is waited for at the end (a teacher's or an
    assistant's at once, since the students need it); should that bench die, the cell is taken up here from its last
    checkpoint.

    Args:
        cells: what to run.
        lab: store, data, plugins, device.
        report: who shows it.
        rerun: which finished cells run again.
        stops: id of a cell -> who may end it early.
        lockstep: how many cells may share each pass of a teacher that runs in the loop.

    Raises:
        UsageError: the disk is full.
    """
    lab.count_crashes()
    with marking_exits():
        return _run_cells(cells, lab, report, rerun, stops or {}, lockstep)


def _run_cells(
    cells: Sequence[Cell], lab: Lab, report: Reporter, rerun: Rerun, stops: Mapping[str, Stop], lockstep: int
) -> list[Record]:
    for cell in cells:
        lab.store.plan(cell)
    records: dict[str, Record] = {}
    left: list[Cell] = []
    ended: Iterable[tuple[Cell, Record | None]]
    if lockstep > 1:
        kinds = lockstep_groups(cells, lab)
        ended = chain.from_iterable(run_alike(kind, lab, report, rerun, stops, lockstep) for kind in kinds)
    else:
        ended = ((cell, run_cell(cell, lab, report.cell(cell), rerun, stop=stops.get(cell.id))) for cell in cells)
    for cell, record in ended:
        if record is None and not cell.teaches:
            report.passed(cell)
            left.append(cell)
            continue
        records[cell.id] = record or _wait_for(cell, lab, report, rerun, stops.get(cell.id))
        report.done(records[cell.id])
    for cell in left:
        records[cell.id] = _wait_for(cell, lab, report, rerun, stops.get(cell.id))
        report.done(records[cell.id])
    return [records[cell.id] for cell in cells]


def _wait_for(cell: Cell, lab: Lab, report: Reporter, rerun: Rerun, stop: Stop | None) -> Record:
    report.waiting(cell)
    record = run_cell(cell, lab, report.cell(cell), rerun, wait=True, stop=stop)
    if record is None:
        raise RuntimeError(f"the lock of cell {cell.id} was neither got nor refused")
    return record
