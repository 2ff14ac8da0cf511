"""What must be true of one study by itself: its plan could have been made, and each trial could have gone so."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kdzoo.board.identity import recipe_key
from kdzoo.parameters import MOST_SEARCHED
from kdzoo.space import RECIPE_KEYS
from kdzoo.study import Study, StudyPlan, Trial

_RECIPE = "recipe."
_NOT_FINITE = re.compile(
    r"the term .+ was NaN or infinite from step \d+ of \d+ on in epoch (?P<epoch>\d+) \(phase .+\); .+"
    r"|the network's logits are not finite, so it cannot be measured"
)
"""All reasons of :class:`kdzoo.errors.NonFiniteLossError` that a training ever gave; epochs count from 0."""


def plan_reasons(plan: StudyPlan) -> Iterator[str]:
    """Why no bench makes such a plan."""
    same = {"epochs": 1, "name": ""}
    if recipe_key(plan.trial_recipe.model_copy(update=same)) != recipe_key(plan.recipe.model_copy(update=same)):
        yield "has trials of another recipe than its winner's; only the epochs may differ"
    keys = sorted(name.removeprefix(_RECIPE) for name in plan.space if name.startswith(_RECIPE))
    if forbidden := sorted(set(keys) - set(RECIPE_KEYS)):
        yield f"searches {', '.join(forbidden)} of the recipe; only {', '.join(RECIPE_KEYS)} may be searched"
    if (own := len(plan.space) - len(keys)) > MOST_SEARCHED:
        yield f"searches {own} parameters of {plan.strategy.name}, and at most {MOST_SEARCHED} may be"
    if odd := sorted(name for name, value in plan.defaults().items() if plan.space[name].whole != (type(value) is int)):
        yield f"searches {', '.join(odd)} in whole numbers where it is none, or in others where it is one"


def trial_reasons(study: Study) -> Iterator[str]:
    """Why no search gives such trials."""
    cells: dict[str, int] = {}
    for number, trial in enumerate(study.trials):
        for reason in (*_values(study.plan, trial, number), *_end(study.plan, trial)):
            yield f"trial {number} {reason}"
        first = cells.setdefault(trial.cell, number)
        if first != number and study.plan.repeats_nothing:
            yield f"trial {number} tries what trial {first} tried"
        elif first != number and _ended(trial) != _ended(study.trials[first]):
            yield f"trial {number} is the training of trial {first}, and ended otherwise"


def _values(plan: StudyPlan, trial: Trial, number: int) -> Iterator[str]:
    if number == 0:  # the defaults, wherever they lie
        return
    if outside := sorted(name for name, value in trial.values.items() if value not in plan.space[name]):
        yield f"tried {', '.join(outside)} outside of its range"
    if broken := sorted(name for name, value in trial.values.items() if _other_type(plan, name, value)):
        yield f"tried {', '.join(broken)} in another type than its default's"


def _other_type(plan: StudyPlan, name: str, value: object) -> bool:
    return type(value) is not (int if plan.space[name].whole else float)


def _end(plan: StudyPlan, trial: Trial) -> Iterator[str]:
    lines, epochs = len(trial.curve), plan.trial_recipe.epochs
    if trial.state == "done" and lines != epochs:
        yield f"is done with a curve of {lines:,} epochs, and a trial has {epochs:,}"
    elif trial.state == "pruned" and lines >= epochs:
        yield f"was pruned with a curve of {lines:,} epochs, and a trial has {epochs:,}"
    elif lines > epochs:
        yield f"has a curve of {lines:,} epochs, and a trial has {epochs:,}"
    if trial.state == "done" and trial.seconds <= 0:
        yield "is done and took no time"
    if trial.state == "pruned" and not _may_prune(plan, trial):
        pruner = "" if plan.pruner == "none" else f"the {plan.pruner} pruner or "
        yield f"was pruned, and its reason is none that {pruner}a loss that is not finite gives: {trial.reason}"


def _may_prune(plan: StudyPlan, trial: Trial) -> bool:
    if found := _NOT_FINITE.fullmatch(trial.reason):
        return found["epoch"] in (None, str(len(trial.curve)))
    return plan.pruner != "none" and trial.reason == plan.prune_reason(len(trial.curve))


def _ended(trial: Trial) -> tuple[object, ...]:
    return trial.state, trial.curve, trial.reason
