"""A study as Optuna's own value, rebuilt from its trials, and how much each of its parameters mattered.

The one place, beside the search, that knows Optuna.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdzoo.refs import Scalar
from kdzoo.space import Range
from kdzoo.study import Study, Trial

NUMBER = "number"
"""User attribute of an Optuna trial: its place in the study. Optuna's own number differs where trial 0 is left out."""

_STATES = {
    "asked": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


TRIALS_PER_PARAMETER = 10
"""Done trials for each parameter below which an importance is called rough: a rule of thumb."""

_SEED = 0
_LEAST_STEP = 1e-6
"""Share of a range, and difference of scores, below which the forest cannot tell two values apart."""


def distribution(tried: Range) -> BaseDistribution:
    """What Optuna draws one parameter from."""
    if tried.whole:
        return IntDistribution(int(tried.low), int(tried.high), log=tried.log)
    return FloatDistribution(tried.low, tried.high, log=tried.log)


def frozen_trials(study: Study) -> list[FrozenTrial]:
    """The trials as Optuna keeps them, in the order in which they were asked for.

    The score after each epoch that was measured, with its sign changed where the lowest is best, is the intermediate
    value of that epoch, counted from 0; the last one is the value of a done trial. A trial that Optuna could not have
    asked for is left out: trial 0, where a default lies outside of the range.
    """
    space = study.plan.space
    distributions = {name: distribution(tried) for name, tried in space.items()}
    return [
        _frozen(number, trial, distributions, study.main.sign)
        for number, trial in enumerate(study.trials)
        if all(may_be_asked(trial.values[name], tried) for name, tried in space.items())
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


def may_be_asked(value: Scalar, tried: Range) -> bool:
    """Whether Optuna could ask for a value of a parameter: a default may lie outside of its range."""
    fits = not tried.whole or (isinstance(value, (int, float)) and float(value).is_integer())
    return fits and value in tried


def _frozen(number: int, trial: Trial, distributions: dict[str, BaseDistribution], sign: int) -> FrozenTrial:
    params = {
        name: int(value) if isinstance(distributions[name], IntDistribution) else float(value)
        for name, value in trial.values.items()
        if isinstance(value, (int, float))
    }
    return create_trial(
        state=_STATES[trial.state],
        value=None if trial.score is None else sign * trial.score,
        params=params,
        distributions=distributions,
        intermediate_values={epoch: sign * score for epoch, score in enumerate(trial.curve) if score is not None},
        user_attrs={NUMBER: number},
    )


@dataclass(frozen=True)
class Importance:
    """Importance of the parameters of a study.

    Args:
        shares: full name of a parameter -> its share of the total, the highest first; empty where there is none.
        trials: done trials that it was computed from.
        why_none: why there is none.
    """

    shares: dict[str, float] = field(default_factory=dict)
    trials: int = 0
    why_none: str = ""

    @property
    def rough(self) -> bool:
        """Whether it comes from too few trials to be more than a hint."""
        return self.trials < TRIALS_PER_PARAMETER * len(self.shares)


def importance(study: Study) -> Importance:
    """fANOVA (Hutter et al., 2014) as Optuna computes it, from the done trials that lie in the searched ranges.

    A parameter's importance is the share of the variance of the score on tune, over the searched ranges, that it
    explains by itself; the shares are scaled to sum to 1. The forest's seed is fixed. What was searched on a log scale
    is weighed on that scale, so that each magnitude counts alike.
    """
    space = study.plan.space
    done = [trial for trial in frozen_trials(study) if trial.state == TrialState.COMPLETE]
    if len(done) < 2:
        every = sum(trial.state == "done" for trial in study.trials)
        inside = "one" if done else "none"
        why = (
            f"it takes two done trials within the searched ranges, and of {every} done {inside} lies there"
            if every > len(done)
            else f"it takes two done trials, and there is {inside}"
        )
        return Importance(trials=len(done), why_none=why)
    values = [trial.value or 0.0 for trial in done]
    if _spread(values) < _LEAST_STEP:
        return Importance(trials=len(done), why_none="all done trials score the same")
    placed = [{name: _place(trial.params[name], tried) for name, tried in space.items()} for trial in done]
    if all(_spread([one[name] for one in placed]) < _LEAST_STEP for name in space):
        return Importance(trials=len(done), why_none="all done trials try the same values")
    on_scale = quiet_study(study.id)
    on_scale.add_trials(
        create_trial(value=value, params=params, distributions=dict.fromkeys(space, FloatDistribution(0, 1)))
        for value, params in zip(values, placed, strict=True)
    )
    found = get_param_importances(on_scale, evaluator=FanovaImportanceEvaluator(seed=_SEED))
    shares = sorted(((name, float(share)) for name, share in found.items()), key=lambda item: (-item[1], item[0]))
    return Importance(dict(shares), len(done))


def _place(value: float, tried: Range) -> float:
    """Where a value lies in a range, on the scale on which it is searched: 0 to 1."""
    low, high = tried.low, tried.high
    if tried.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _spread(values: list[float]) -> float:
    return max(values) - min(values)
