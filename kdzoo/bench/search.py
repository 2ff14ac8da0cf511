"""Which values a study tries next, and when its pruner ends a trial: functions of the study alone, by Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler

from kdzoo.board.history import NUMBER, distribution, frozen_trials, optuna_study, quiet_study
from kdzoo.cell import Scalar, content_hash
from kdzoo.record import Epoch
from kdzoo.study import Pruner, Range, Study

ETA = 3
"""Hyperband's reduction factor: a third of the trials climbs from each rung to the next one, three times as high."""


def ask(study: Study) -> list[dict[str, Scalar]]:
    """The values of the next batch of trials; trial 0 has the defaults.

    The sampler is Optuna's TPE, made anew for each batch from a seed that follows from the study's id and the
    batch's place: the same history is always answered by the same values, in whatever process and after any stop.
    The first third of the trials (at most ten) is drawn at random.
    """
    plan, begun = study.plan, len(study.trials)
    count = min(plan.batch, plan.trials - begun)
    asked = [plan.defaults()] if begun == 0 else []
    sampler = TPESampler(
        seed=int(content_hash([study.id, begun]), 16) % 2**32,
        n_startup_trials=max(1, min(10, plan.trials // 3)),
        constant_liar=plan.batch > 1,
    )
    history = optuna_study(study, sampler=sampler, pruner=make_pruner(plan.pruner, plan.trial_recipe.epochs))
    distributions = {name: distribution(one) for name, one in plan.space.items()}
    while len(asked) < count:
        params = history.ask(distributions).params
        asked.append({name: _rounded(params[name], one) for name, one in plan.space.items()})
    return asked


def _rounded(value: float, one: Range) -> Scalar:
    """Four digits, so that a tuned value can be read and typed: finer ones no accuracy could tell apart."""
    if one.whole:
        return int(value)
    return min(max(float(f"{value:.4g}"), one.low), one.high)


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
        ends = decide(self.study, self.number, [line.tune_top1 for line in curve])
        return f"{plan.pruner} pruner, after epoch {len(curve)} of {plan.trial_recipe.epochs}" if ends else ""


def _never(study: Study, number: int, curve: Sequence[float]) -> bool:
    return False


def _by_median(study: Study, number: int, curve: Sequence[float]) -> bool:
    pruner = make_pruner("median", study.plan.trial_recipe.epochs)
    history = optuna_study(study, pruner=pruner)
    for trial in history.get_trials():
        if trial.user_attrs[NUMBER] == number:
            trial.intermediate_values = dict(enumerate(curve))
            return pruner.prune(history, trial)
    return False  # trial 0, whose defaults lie outside of the ranges


def _by_hyperband(study: Study, number: int, curve: Sequence[float]) -> bool:
    """Optuna notes with each trial which rungs it reached, so the earlier trials climb them again first."""
    rungs = [ETA**power for power in range(len(curve)) if ETA**power <= len(curve)]
    if len(curve) not in rungs:
        return False
    pruner = make_pruner("hyperband", study.plan.trial_recipe.epochs)
    history = quiet_study(study.id, sampler=RandomSampler(seed=0), pruner=pruner)
    for past in frozen_trials(study):
        history.enqueue_trial(past.params)
        trial = history.ask(past.distributions)
        running = past.user_attrs[NUMBER] == number
        seen = curve if running else list(past.intermediate_values.values())
        ends = False
        for rung in rungs:
            if rung <= len(seen):
                trial.report(seen[rung - 1], rung)
                ends = trial.should_prune()
        if running:
            return ends
        if past.state.is_finished():
            history.tell(trial, past.value, state=past.state)
    return False
