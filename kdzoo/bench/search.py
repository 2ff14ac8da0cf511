"""Which values a study tries next, and when its pruner ends a trial: functions of the study alone, by Optuna."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from kdzoo.cell import canonical_json, content_hash
from kdzoo.record_parts import Epoch
from kdzoo.refs import Scalar
from kdzoo.space import Range
from kdzoo.study import Pruner, Study, StudyPlan
from kdzoo.tuning.optuna_study import NUMBER, distribution, frozen_trials, optuna_study, quiet_study

ETA = 3
"""Hyperband's reduction factor: a third of the trials climbs from each rung to the next one, three times as high."""


_ASKS = 20
"""How often the sampler is asked for a setting that the study has not tried."""
_DRAWS = 64
"""How often one is drawn evenly from the ranges, once the sampler has given none."""
_MOST_LISTED = 10_000
"""Settings that are listed rather than drawn: among more of them, an even draw soon finds one that is new."""
_STEPS = 3
"""Values are rounded to about a thousandth (10**-3) of their range, or to something finer."""


def ask(study: Study) -> list[dict[str, Scalar]]:
    """The values of the next batch of trials, no setting twice in a study; trial 0 has the plan's own.

    The sampler is Optuna's TPE, made anew for each batch from a seed that follows from the study's id and the
    batch's place: the same history is always answered by the same values, in whatever process and after any stop.
    The first third of the trials (at most ten, trial 0 among them) is drawn at random.
    """
    plan, begun = study.plan, len(study.trials)
    count = min(plan.batch, plan.length - begun)
    seed = int(content_hash([study.id, begun]), 16) % 2**32
    sampler = TPESampler(
        seed=seed,
        n_startup_trials=max(1, min(10, plan.trials // 3)),
        constant_liar=plan.batch > 1,
    )
    history = optuna_study(study, sampler=sampler, pruner=make_pruner(plan.pruner, plan.trial_recipe.epochs))
    even = random.Random(seed)
    asked = [plan.defaults()] if begun == 0 else []
    taken = {canonical_json(values) for values in (*(trial.values for trial in study.trials), *asked)}
    while len(asked) < count:
        values = _sampled(history, plan, taken) or _left(plan, taken, even) or _drawn(plan, taken, even)
        asked.append(values)
        taken.add(canonical_json(values))
    return asked


def _sampled(history: optuna.Study, plan: StudyPlan, taken: Container[str]) -> dict[str, Scalar] | None:
    """What the sampler gives, asked again while the study has it already."""
    distributions = {name: distribution(one) for name, one in plan.space.items()}
    for _ in range(_ASKS):
        trial = history.ask(distributions)
        values = {name: rounded(trial.params[name], one) for name, one in plan.space.items()}
        if canonical_json(values) not in taken:
            return values
        history.tell(trial, state=TrialState.FAIL)  # else it would count as one that runs
    return None


def _left(plan: StudyPlan, taken: Container[str], even: random.Random) -> dict[str, Scalar] | None:
    """One of the settings that are left, where they are few enough to be listed."""
    if plan.settings is None or plan.settings > _MOST_LISTED:
        return None
    ranges = [range(int(one.low), int(one.high) + 1) for one in plan.space.values()]
    every = (dict[str, Scalar](zip(plan.space, values, strict=True)) for values in itertools.product(*ranges))
    left = [values for values in every if canonical_json(values) not in taken]
    return even.choice(left) if left else None


def _drawn(plan: StudyPlan, taken: Container[str], even: random.Random) -> dict[str, Scalar]:
    """An even draw, not rounded."""
    for _ in range(_DRAWS):
        values = {name: evenly(one, even) for name, one in plan.space.items()}
        if canonical_json(values) not in taken:
            return values
    raise RuntimeError(f"{_DRAWS} draws from {plan.space} gave nothing new")


def evenly(one: Range, even: random.Random) -> Scalar:
    """A draw from a range, even on its scale."""
    if one.whole:
        return even.randint(int(one.low), int(one.high))
    if one.log:
        drawn = math.exp(even.uniform(math.log(one.low), math.log(one.high)))
    else:
        drawn = even.uniform(one.low, one.high)
    return min(max(drawn, one.low), one.high)


def rounded(value: float, one: Range) -> Scalar:
    """As few digits as a thousandth of the range needs, so that a tuned value can be read and typed.

    On a log scale that is a thousandth of the range's logarithm, in relation to the value; and at least four digits.
    """
    if one.whole:
        return int(value)
    if one.log:
        digits = max(4, 1 + math.ceil(_STEPS - math.log10(math.log(one.high) - math.log(one.low))))
        near = float(f"{value:.{digits}g}")
    else:
        near = round(value, _STEPS - math.floor(math.log10(one.high - one.low)))
    return min(max(near, one.low), one.high)


def make_pruner(kind: Pruner, epochs: int) -> BasePruner:
    """Optuna's pruner of a kind for trials of so many epochs."""
    if kind == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=epochs // 3)
    if kind == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=ETA)
    return NopPruner()


@dataclass(frozen=True)
class Pruning:
    """Ends trials of a study early, by what the trials of earlier batches showed.

    Args:
        study: as it was when the batch was asked for: what is running beside a trial does not count, so that the
            decision depends on no clock.
        number: the trial.
    """

    study: Study
    number: int

    def __call__(self, curve: Sequence[Epoch]) -> str:
        """Why the trial ends after these epochs; empty where it goes on."""
        plan = self.study.plan
        decide = {"none": _never, "median": _by_median, "hyperband": _by_hyperband}[plan.pruner]
        values = {
            place: self.study.main.sign * line.score for place, line in enumerate(curve) if line.score is not None
        }
        # A trial that another bench began may hold epochs that were not measured; after one, nothing is decided.
        ends = len(curve) - 1 in values and decide(self.study, self.number, values)
        return plan.prune_reason(len(curve)) if ends else ""


def _never(study: Study, number: int, curve: Mapping[int, float]) -> bool:
    return False


def _by_median(study: Study, number: int, curve: Mapping[int, float]) -> bool:
    pruner = make_pruner("median", study.plan.trial_recipe.epochs)
    history = optuna_study(study, pruner=pruner)
    for trial in history.get_trials():
        if trial.user_attrs[NUMBER] == number:
            trial.intermediate_values = dict(curve)
            return pruner.prune(history, trial)
    return False  # trial 0, whose defaults lie outside of the ranges


def _by_hyperband(study: Study, number: int, curve: Mapping[int, float]) -> bool:
    """Optuna notes with each trial which rungs it reached, so the earlier trials climb them again first."""
    epochs = max(curve) + 1
    rungs = [ETA**power for power in range(epochs) if ETA**power <= epochs]
    if epochs not in rungs:
        return False
    pruner = make_pruner("hyperband", study.plan.trial_recipe.epochs)
    history = quiet_study(study.id, sampler=RandomSampler(seed=0), pruner=pruner)
    for past in frozen_trials(study):
        history.enqueue_trial(past.params)
        trial = history.ask(past.distributions)
        running = past.user_attrs[NUMBER] == number
        seen = curve if running else past.intermediate_values
        ends = False
        for rung in rungs:
            if rung - 1 in seen:
                trial.report(seen[rung - 1], rung)
                ends = trial.should_prune()
        if running:
            return ends
        if past.state.is_finished():
            history.tell(trial, past.value, state=past.state)
    return False
