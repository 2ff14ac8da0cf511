"""A study as Optuna's own value, rebuilt from its trials. The one place, beside the search, that knows Optuna."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdzoo.cell import Scalar
from kdzoo.study import Range, Study, Trial

NUMBER = "number"
"""User attribute of an Optuna trial: its place in the study. Optuna's own number differs where trial 0 is left out."""

_STATES = {
    "asked": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def distribution(tried: Range) -> BaseDistribution:
    """What Optuna draws one parameter from."""
    if tried.whole:
        return IntDistribution(int(tried.low), int(tried.high), log=tried.log)
    return FloatDistribution(tried.low, tried.high, log=tried.log)


def frozen_trials(study: Study) -> list[FrozenTrial]:
    """The trials as Optuna keeps them, in the order in which they were asked for.

    Top-1 on tune after each epoch that was measured, percent, is the intermediate value of that epoch, counted from 0;
    the last one is the value of a done trial. A trial that Optuna could not have asked for is left out: trial 0, where
    a default lies outside of the range.
    """
    space = study.plan.space
    distributions = {name: distribution(tried) for name, tried in space.items()}
    return [
        _frozen(number, trial, distributions)
        for number, trial in enumerate(study.trials)
        if all(_may_be_asked(trial.values[name], tried) for name, tried in space.items())
    ]


def optuna_study(study: Study, *, sampler: BaseSampler | None = None, pruner: BasePruner | None = None) -> optuna.Study:
    """An Optuna study in memory that knows what the study knows; its direction is to maximize.

    Args:
        study: the study.
        sampler: who asks for the next trial; Optuna's default, with no fixed seed, for None.
        pruner: who ends trials early; Optuna's default for None.
    """
    rebuilt = quiet_study(study.id, sampler=sampler, pruner=pruner)
    rebuilt.add_trials(frozen_trials(study))
    return rebuilt


def quiet_study(name: str, *, sampler: BaseSampler | None = None, pruner: BasePruner | None = None) -> optuna.Study:
    """An empty Optuna study in memory that maximizes, made without the line that Optuna logs of a new study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(sampler=sampler, pruner=pruner, study_name=name, direction="maximize")
    finally:
        optuna.logging.set_verbosity(before)


def _may_be_asked(value: Scalar, tried: Range) -> bool:
    fits = not tried.whole or (isinstance(value, (int, float)) and float(value).is_integer())
    return fits and value in tried


def _frozen(number: int, trial: Trial, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    params = {
        name: int(value) if isinstance(distributions[name], IntDistribution) else float(value)
        for name, value in trial.values.items()
        if isinstance(value, (int, float))
    }
    return create_trial(
        state=_STATES[trial.state],
        value=trial.tune_top1,
        params=params,
        distributions=distributions,
        intermediate_values={epoch: top1 for epoch, top1 in enumerate(trial.curve) if top1 is not None},
        user_attrs={NUMBER: number},
    )
