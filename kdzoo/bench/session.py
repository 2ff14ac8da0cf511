"""A whole bench: teachers and defaults first, then tuning, then the winners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from kdzoo.bench.banking import expect
from kdzoo.bench.executors.executor import Executor, Report, must_run
from kdzoo.bench.executors.local import InProcess
from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import BenchPlan
from kdzoo.bench.tune import is_tuned, tune
from kdzoo.bench.weightfiles import teachers_again
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop
from kdzoo.record import Record
from kdzoo.store import Store
from kdzoo.study import Study, StudyPlan


@dataclass(frozen=True)
class BenchResult:
    """What came of a bench: the cells of its board, the studies, and the records that there are, trials included."""

    cells: list[Cell]
    studies: list[Study]
    records: list[Record]


def run_bench(
    plan: BenchPlan,
    lab: Lab,
    report: Report,
    rerun: Rerun,
    *,
    only_tune: bool = False,
    executor: Executor | None = None,
) -> BenchResult:
    """Run what the plan holds; what is done already is found.

    Args:
        plan: what to run.
        lab: store, data, plugins, device.
        report: who shows it.
        rerun: which finished cells run again.
        only_tune: run the teachers and the studies, and no final cell.
        executor: runs the cells; by default one after the other in this process. Studies ask and are told here.

    Raises:
        UsageError: the disk is full.
    """
    executor = executor or InProcess(lab)
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    expect(lab, [*cells, *plan.later(only_tune=only_tune)])

    def execute(cells: Sequence[Cell], stops: Mapping[str, Stop] | None = None) -> list[Record]:
        again = teachers_again(cells, lab.store, lambda cell: must_run(cell, lab.store, rerun))
        asked = {cell.id for cell in cells}
        first = [cell for cell in again if cell.id not in asked]
        return executor.run([*first, *cells], report, rerun, stops)[len(first) :]

    records = execute(cells)

    def run(trials: Sequence[Cell], stops: Mapping[str, Stop]) -> None:
        expect(lab, trials, planned=False)
        execute(trials, stops)

    # As if this bench had run them itself: later trials may read what these read too.
    expect(lab, [cell for study in plan.studies for cell in _ended(study, lab.store)], planned=False)
    studies = [study for plans in _in_turn(plan.studies, executor) for study in tune(plans, lab.store, run, rerun)]
    trials = dict.fromkeys(trial.cell for study in studies for trial in study.trials)
    # A study is whole by itself: it stands though somebody removed the folder of one of its trials.
    records.extend(record for cell in trials if (record := _sound_record(cell, lab.store)))
    if not only_tune:
        finals = list({cell.id: cell for study in studies for cell in study.finals(range(plan.seeds))}.values())
        expect(lab, finals, planned=False)
        known = {cell.id for cell in cells}
        records.extend(record for record in execute(finals) if record.id not in known)
        cells.extend(cell for cell in finals if cell.id not in known)
    return BenchResult(cells, studies, records)


def _sound_record(trial: str, store: Store) -> Record | None:
    """The record of a trial that has ended; a damaged one is set aside, as nobody will run the trial again."""
    if record := store.find_record(trial):
        return record
    with store.claim(trial) as mine:
        return store.claimed_record(trial) if mine else None


def pending(plan: BenchPlan, store: Store, rerun: Rerun, *, only_tune: bool = False) -> list[Cell]:
    """The cells of a plan that will run, and a stand-in for the trials of each study that is not finished."""
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    left = [cell for cell in cells if must_run(cell, store, rerun)]
    return left + [study.trial(study.defaults()) for study in plan.studies if not is_tuned(study, store, rerun)]


def winners_pending(plan: BenchPlan, store: Store, rerun: Rerun) -> bool:
    """Whether a winner of a finished study is still to be trained."""
    studies = [store.find_study(study.id) for study in plan.studies]
    finals = [cell for study in studies if study for cell in study.finals(range(plan.seeds))]
    return any(must_run(cell, store, rerun) for cell in finals)


def _in_turn(plans: Sequence[StudyPlan], executor: Executor) -> Iterable[Sequence[StudyPlan]]:
    """The studies that go on side by side: all of them where cells run side by side, else those of one teacher.

    One process has room for one teacher, and perhaps for the signals of one.
    """
    if not isinstance(executor, InProcess):
        return [plans]
    return [list(together) for _, together in groupby(plans, key=lambda plan: (plan.teacher, plan.data))]


def _ended(plan: StudyPlan, store: Store) -> list[Cell]:
    """The trials of a study that an earlier bench has run."""
    study = store.find_study(plan.id)
    return [plan.trial(trial.values) for trial in study.trials if trial.state != "asked"] if study else []
