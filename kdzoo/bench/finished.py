"""A bench of which every cell was done before: its result, from the store alone. No torch here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdzoo.cell import Cell
from kdzoo.record import Record
from kdzoo.store import Store
from kdzoo.study import Study

if TYPE_CHECKING:
    from kdzoo.bench.plan import BenchPlan


@dataclass(frozen=True)
class BenchResult:
    """What came of a bench: the cells of its board, the studies, and the records that there are, trials included."""

    cells: list[Cell]
    studies: list[Study]
    records: list[Record]


def find_finished(plan: BenchPlan, store: Store, *, only_tune: bool = False) -> BenchResult | None:
    """What :func:`kdzoo.bench.session.run_bench` would give without running anything.

    Args:
        plan: the bench.
        store: where its cells live; nothing is written.
        only_tune: whether final cells are left out.

    Returns:
        None where a cell or a study is not done, failed, or left something behind that a bench would tidy up.
    """
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    found = [store.find_study(study.id) for study in plan.studies]
    studies = [study for study in found if study and study.finished]
    if len(studies) < len(plan.studies) or any(trial.state == "failed" for one in studies for trial in one.trials):
        return None
    trials = [trial.cell for study in studies for trial in study.trials]
    finals = [] if only_tune else [cell for study in studies for cell in study.finals(range(plan.seeds))]
    records: dict[str, Record] = {}
    for cell_id in [*(cell.id for cell in cells), *trials, *(cell.id for cell in finals)]:
        if cell_id not in records:
            record = _done(cell_id, store)
            if record is None:
                return None
            records[cell_id] = record
    whole = {cell.id: cell for cell in [*cells, *finals]}
    return BenchResult(list(whole.values()), studies, list(records.values()))


def _done(cell_id: str, store: Store) -> Record | None:
    """The record of a cell that was not a failure, and whose folder holds nothing half done."""
    record = store.find_record(cell_id)
    if record is None or record.status == "failed":
        return None
    names = os.listdir(store.folder(cell_id))  # noqa: PTH208  (names are enough)
    tidy = "cell.json" in names and not any(name.startswith((".", "checkpoint-")) for name in names)
    return record if tidy else None
