"""A whole bench: teachers and defaults first, then tuning, then the winners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any, TypeAlias

from kdzoo.bench.banking import expect
from kdzoo.bench.events import Reporter
from kdzoo.bench.executors.local import Executor, InProcess
from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import BenchPlan, BenchResult
from kdzoo.bench.results import must_run
from kdzoo.bench.search import Pruning, ask
from kdzoo.bench.weightfiles import teachers_again
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop
from kdzoo.measures import ASSISTANTS, EVALUATE, TRAIN
from kdzoo.needed import assistant_cells, in_stages
from kdzoo.record import Record
from kdzoo.store import Store
from kdzoo.study import STUDY_SCHEMA, Study, StudyPlan, Trial


def run_bench(
    plan: BenchPlan,
    lab: Lab,
    report: Reporter,
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

    execute = partial(run_with_helpers, lab=lab, report=report, rerun=rerun, executor=executor)
    records = execute(cells)
    tried: dict[str, Record] = {}

    def run(trials: Sequence[Cell], stops: Mapping[str, Stop]) -> Mapping[str, Record]:
        expect(lab, trials, planned=False)
        tried.update({record.id: record for record in execute(trials, stops)})
        return tried

    # As if this bench had run them itself: later trials may read what these read too.
    expect(lab, [cell for study in plan.studies for cell in _ended_trials(study, lab.store)], planned=False)
    studies = [
        study for plans in _in_turn(plan.studies, executor) for study in run_studies(plans, lab.store, run, rerun)
    ]
    trials = dict.fromkeys(trial.cell for study in studies for trial in study.trials)
    # A study is whole by itself: it stands though somebody removed the folder of one of its trials.
    records.extend(record for cell in trials if (record := tried.get(cell) or _sound_record(cell, lab.store)))
    if not only_tune:
        finals = list({cell.id: cell for study in studies for cell in study.finals(range(plan.seeds))}.values())
        expect(lab, finals, planned=False)
        known = {cell.id for cell in cells}
        records.extend(record for record in execute(finals) if record.id not in known)
        cells.extend(cell for cell in finals if cell.id not in known)
    return BenchResult(cells, studies, records)


def run_with_helpers(
    cells: Sequence[Cell],
    stops: Mapping[str, Stop] | None = None,
    *,
    lab: Lab,
    report: Reporter,
    rerun: Rerun,
    executor: Executor,
) -> list[Record]:
    """The records of cells, in their order; what must be trained before them, teachers whose weights are gone and
    networks between teacher and student, is trained too.

    Args:
        cells: what to run.
        stops: id of a cell -> who may end it early.
        lab, report, rerun, executor: as :func:`run_bench` takes them.

    Raises:
        UsageError: the disk is full.
    """
    again = teachers_again(cells, lab.store, lambda cell: must_run(cell, lab.store, rerun))
    between = [each for cell in cells if must_run(cell, lab.store, rerun) for each in assistant_cells(cell)]
    asked = {cell.id for cell in cells}
    first = list({cell.id: cell for cell in (*again, *between) if cell.id not in asked}.values())
    stages = chain.from_iterable(in_stages([*first, *cells]))
    found = {record.id: record for record in executor.run(list(stages), report, rerun, stops)}
    return [found[cell.id] for cell in cells]


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
    return left + [study.trial(study.defaults()) for study in plan.studies if not study_is_done(study, store, rerun)]


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


def _ended_trials(plan: StudyPlan, store: Store) -> list[Cell]:
    """The trials of a study that an earlier bench has run."""
    study = store.find_study(plan.id)
    return [plan.trial(trial.values) for trial in study.trials if trial.state != "asked"] if study else []


RunTrials: TypeAlias = Callable[[Sequence[Cell], Mapping[str, Stop]], Mapping[str, Record]]
"""Runs trials, with what may end which early, until each has its record in the store; gives the records by id."""


def run_studies(plans: Sequence[StudyPlan], store: Store, run: RunTrials, rerun: Rerun) -> list[Study]:
    """Every study to its last trial, in the order given.

    The studies go on side by side: each asks for a batch, all batches run, and the results decide what is asked
    next. What was asked for is written down before it runs, so a study that was stopped goes on with the same
    trials, and their number stays that of the plan (or of the settings that there are, if these are fewer). Two benches
    may share a study: they run its cells between them.
    """
    for plan in plans:
        _begin(plan, store, rerun)
    while True:
        rounds = [study for study in (_next_batch(plan, store) for plan in plans) if not study.finished]
        if not rounds:
            return [_finished(plan, store) for plan in plans]
        records = run(*_asked(rounds))
        for study in rounds:
            _collect(study.plan, store, records)


def study_is_done(plan: StudyPlan, store: Store, rerun: Rerun) -> bool:
    """Whether :func:`run_studies` would run none of the study's trials."""
    study = store.find_study(plan.id)
    return study is not None and study.finished and not any(_again(trial, plan, store, rerun) for trial in study.trials)


def _again(trial: Trial, plan: StudyPlan, store: Store, rerun: Rerun) -> bool:
    """Whether a trial that has ended runs again. That the folder of a done one is gone is no reason."""
    if trial.state == "asked" or (trial.state != "failed" and rerun != "always"):
        return False
    return must_run(plan.trial(trial.values), store, rerun)


def _load(plan: StudyPlan, store: Store) -> Study:
    """The study as far as it is; only who holds it may ask for it."""
    return store.claimed_study(plan.id) or Study(id=plan.id, plan=plan)


def _finished(plan: StudyPlan, store: Store) -> Study:
    with store.claim(f"study-{plan.id}", wait=True):
        return _load(plan, store)


def _begin(plan: StudyPlan, store: Store, rerun: Rerun) -> None:
    """Ask again for the trials that are to run again, with the values that they had."""
    with store.claim(f"study-{plan.id}", wait=True):
        study = _load(plan, store)
        again = {trial.cell for trial in study.trials if _again(trial, plan, store, rerun)}
        if again:
            trials = [
                Trial(cell=trial.cell, values=trial.values) if trial.cell in again else trial for trial in study.trials
            ]
            store.write_study(study.model_copy(update={"trials": tuple(trials)}))


def _next_batch(plan: StudyPlan, store: Store) -> Study:
    """The study with its next batch, if it had no trial left to run."""
    with store.claim(f"study-{plan.id}", wait=True):
        study = _load(plan, store)
        if len(study.trials) < plan.length and all(trial.state != "asked" for trial in study.trials):
            new = [Trial(cell=plan.trial(values).id, values=values) for values in ask(study)]
            study = study.model_copy(update={"trials": (*study.trials, *new)})
            store.write_study(study)
    return study


def _asked(studies: Sequence[Study]) -> tuple[list[Cell], dict[str, Stop]]:
    cells: dict[str, Cell] = {}
    stops: dict[str, Stop] = {}
    for study in studies:
        for number, trial in enumerate(study.trials):
            if trial.state == "asked":
                cells.setdefault(trial.cell, study.plan.trial(trial.values))
                if study.plan.pruner != "none":
                    stops[trial.cell] = Pruning(study, number)
    return list(cells.values()), stops


def _collect(plan: StudyPlan, store: Store, records: Mapping[str, Record]) -> None:
    """Write down the results of the trials that have any."""
    with store.claim(f"study-{plan.id}", wait=True):
        study = _load(plan, store)
        asked = [trial.cell for trial in study.trials if trial.state == "asked"]
        found = {cell: records.get(cell) or store.find_record(cell) for cell in asked}
        update: dict[str, Any] = {"trials": tuple(_ended(trial, found.get(trial.cell)) for trial in study.trials)}
        if main := next((record.main for record in found.values() if record and record.main != study.main), None):
            update |= {"main": main, "study_schema": STUDY_SCHEMA}
        store.write_study(study.model_copy(update=update))


def _own_seconds(cost: Mapping[str, float]) -> float:
    """What a trial took by itself: the networks between teacher and student are trained once for all trials."""
    return cost[TRAIN.name] + cost[EVALUATE.name] - cost.get(ASSISTANTS.name, 0.0)


def _ended(trial: Trial, record: Record | None) -> Trial:
    """The trial with what its record has, if it was asked for and has one by now."""
    if record is None:
        return trial
    return Trial(
        cell=trial.cell,
        values=trial.values,
        state=record.status,
        curve=tuple(line.score for line in record.curve),
        seconds=_own_seconds(record.cost) if record.cost else 0.0,
        reason=record.reason,
    )
