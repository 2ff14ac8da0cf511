"""How much each searched parameter mattered in a study: Optuna's importance, or why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from kdzoo.study import Range, Study
from kdzoo.tuning.history import frozen_trials, quiet_study

TRIALS_PER_PARAMETER = 10
"""Done trials for each parameter below which an importance is called rough: a rule of thumb."""

_SEED = 0
_LEAST_STEP = 1e-6
"""Share of a range, and points of top-1, below which the forest cannot tell two values apart."""


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

    A parameter's importance is the share of the variance of top-1 on tune, over the searched ranges, that it explains
    by itself; the shares are scaled to sum to 1. The forest's seed is fixed. What was searched on a log scale is
    weighed on that scale, so that each magnitude counts alike.
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
