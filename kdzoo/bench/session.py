"""A whole bench: teachers and defaults first, then tuning, then the winners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from kdzoo.bench.banking import expect
from kdzoo.bench.executor import Executor, Report
from kdzoo.bench.lab import Lab
from kdzoo.bench.local import InProcess
from kdzoo.bench.plan import BenchPlan
from kdzoo.bench.results import stands
from kdzoo.bench.tune import is_tuned, tune
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.train import Stop
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
    records = executor.run(cells, report, rerun)

    def run(trials: Sequence[Cell], stops: Mapping[str, Stop]) -> None:
        expect(lab, trials, planned=False)
        executor.run(trials, report, rerun, stops)

    # As if this bench had run them itself: later trials may read what these read too.
    expect(lab, [cell for study in plan.studies for cell in _ended(study, lab.store)], planned=False)
    studies = [study for plans in _in_turn(plan.studies, executor) for study in tune(plans, lab.store, run, rerun)]
    trials = dict.fromkeys(trial.cell for study in studies for trial in study.trials)
    # A study is whole by itself: it stands though somebody removed the folder of one of its trials.
    records.extend(record for cell in trials if (record := lab.store.find_record(cell)))
    if not only_tune:
        finals = list({cell.id: cell for study in studies for cell in study.finals(range(plan.seeds))}.values())
        expect(lab, finals, planned=False)
        known = {cell.id for cell in cells}
        records.extend(record for record in executor.run(finals, report, rerun) if record.id not in known)
        cells.extend(cell for cell in finals if cell.id not in known)
    return BenchResult(cells, studies, records)


def is_done(plan: BenchPlan, store: Store, rerun: Rerun, *, only_tune: bool = False) -> bool:
    """Whether :func:`run_bench` would only find what is there, and train nothing."""
    if not all(is_tuned(study, store, rerun) for study in plan.studies):
        return False
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    if not only_tune:
        studies = [store.find_study(study.id) for study in plan.studies]
        cells += [cell for study in studies if study for cell in study.finals(range(plan.seeds))]
    records = [store.find_record(cell.id) for cell in cells]
    return all(record is not None and stands(record, rerun) for record in records)


def pending(plan: BenchPlan, store: Store, rerun: Rerun, *, only_tune: bool = False) -> list[Cell]:
    """The cells of a plan that will run, and a stand-in for the trials of each study that is not finished."""
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    records = {cell.id: store.find_record(cell.id) for cell in cells}
    left = [cell for cell in cells if (found := records[cell.id]) is None or not stands(found, rerun)]
    return left + [study.trial(study.defaults()) for study in plan.studies if not is_tuned(study, store, rerun)]


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
