"""Tuning: asks for trials, has them run as cells, and keeps each study as far as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from kdzoo.bench.executors.executor import must_run
from kdzoo.bench.search import Pruning, ask
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop
from kdzoo.store import Store
from kdzoo.study import Study, StudyPlan, Trial

RunCells: TypeAlias = Callable[[Sequence[Cell], Mapping[str, Stop]], None]
"""Runs cells, with who may end which early, until each has its record in the store."""


def tune(plans: Sequence[StudyPlan], store: Store, run: RunCells, rerun: Rerun) -> list[Study]:
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
            return [_ended(plan, store) for plan in plans]
        run(*_asked(rounds))
        for study in rounds:
            _collect(study.plan, store)


def is_tuned(plan: StudyPlan, store: Store, rerun: Rerun) -> bool:
    """Whether :func:`tune` would run none of the study's trials."""
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


def _ended(plan: StudyPlan, store: Store) -> Study:
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


def _collect(plan: StudyPlan, store: Store) -> None:
    """Write down the results of the trials that have any."""
    with store.claim(f"study-{plan.id}", wait=True):
        study = _load(plan, store)
        trials = tuple(_result(trial, store) if trial.state == "asked" else trial for trial in study.trials)
        store.write_study(study.model_copy(update={"trials": trials}))


def _result(trial: Trial, store: Store) -> Trial:
    record = store.find_record(trial.cell)
    if record is None:  # asked for meanwhile, by another bench
        return trial
    return Trial(
        cell=trial.cell,
        values=trial.values,
        state=record.status,
        curve=tuple(line.tune_top1 for line in record.curve),
        seconds=record.cost.train + record.cost.evaluate if record.cost else 0.0,
        reason=record.reason,
    )
