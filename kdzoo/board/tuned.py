"""What searches say of one row: whether it is a study's winner or trial 0, or a race chose it; what that took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kdzoo.board.labels import Facts, distinguishing, params_text
from kdzoo.cell import canonical_json
from kdzoo.errors import counted, strategies_text
from kdzoo.record_parts import Found
from kdzoo.study import Study

_OWNER = "recipe."
_SAMPLER = "TPE"


class Budget(NamedTuple):
    """What a search may use. Two tuned rows compare fairly if theirs are equal.

    Attributes:
        trials: their number.
        epochs: of each.
        pruner: what may end them early.
        recipe: the recipe's keys that are searched too.
        batch: how many are asked for at a time, without each other's results.
        tuner: version of the search.
    """

    trials: int
    epochs: int
    pruner: str
    recipe: tuple[str, ...]
    batch: int
    tuner: int

    def words(self, each: str = "") -> str:
        """``15 trials, 5 epochs a trial, TPE (search 2), no pruner``, with a word after the number of trials."""
        parts = [counted(self.trials, "trial") + each, f"{counted(self.epochs, 'epoch')} a trial"]
        parts += [f"{self.batch} at a time"] if self.batch > 1 else []
        parts += [f"{_SAMPLER} ({tuner_text(self.tuner)})", pruner_text(self.pruner)]
        parts += [f"{' and '.join(self.recipe)} of the recipe searched too"] if self.recipe else []
        return ", ".join(parts)


def budget(study: Study) -> Budget:
    """The budget of a study."""
    plan = study.plan
    recipe = tuple(sorted(name.removeprefix(_OWNER) for name in plan.space if name.startswith(_OWNER)))
    return Budget(plan.trials, plan.trial_recipe.epochs, plan.pruner, recipe, plan.batch, plan.tuner)


def pruner_text(pruner: str) -> str:
    """``no pruner``, ``median pruner``."""
    return f"{'no' if pruner == 'none' else pruner} pruner"


def tuner_text(tuner: int) -> str:
    """``search 2``: the version that decides what is tried next."""
    return f"search {tuner}"


def settings_text(study: Study) -> str:
    """``all 4 settings tried``, or ``9 different settings`` where trials repeat each other; else nothing."""
    if study.exhausted:
        return f"all {counted(study.different, 'setting')} tried" if study.different > 1 else "the only setting tried"
    return f"{counted(study.different, 'different setting')}" if study.different < len(study.trials) else ""


def found_text(found: Found) -> str:
    """``found (38 strategies, 120 trials)``: what the selection saw that chose a row."""
    return f"found ({strategies_text(found.strategies)}, {counted(found.trials, 'trial')})"


@dataclass(frozen=True)
class Tuning:
    """What searches say of one row.

    Attributes:
        won: the studies whose winner it is, the smallest budget first.
        default: whether it is trial 0 of a study.
        apart: what tells the studies it won from those that others won; empty for the strategy's only winner.
        found: what the race had seen that chose it, as its records say; None where none did.
    """

    won: tuple[Study, ...] = ()
    default: bool = False
    apart: str = ""
    found: Found | None = None

    @property
    def variant(self) -> str:
        """``default``, ``tuned``, ``default, tuned`` or nothing; ``tuned (30 trials)`` where it has namesakes; ``found
        (38 strategies, 120 trials)`` behind it where a race chose the row."""
        tuned = "tuned" + (f" ({self.apart})" if self.apart else "")
        found = [found_text(self.found)] if self.found else []
        return ", ".join([*(["default"] if self.default else []), *([tuned] if self.won else []), *found])

    @property
    def plain(self) -> bool:
        """Whether no search made it, or a search that came back to where it began."""
        return self.default or not (self.won or self.found)

    @property
    def budgets(self) -> set[Budget]:
        """The budgets of the studies it won."""
        return {budget(study) for study in self.won}

    def columns(self) -> dict[str, Any]:
        """The columns of tuning; of several studies it won, those of the smallest budget."""
        plan = self.won[0].plan if self.won else None
        space = {name: str(one) for name, one in plan.space.items()} if plan else {}
        return {
            "variant": self.variant,
            "trials": len(self.won[0].trials) if self.won else None,
            "tune_settings": settings_text(self.won[0]) if self.won else "",
            "tune_epochs": plan and plan.trial_recipe.epochs,
            "tuning_seconds": self.won[0].seconds if self.won else None,
            "pruner": plan.pruner if plan else "",
            "tune_space": canonical_json(space) if space else "",
            "study": " ".join(study.id for study in self.won),
        }


UNTUNED = Tuning()


def study_labels(studies: Sequence[Study]) -> dict[str, str]:
    """For each study by its id: as few words as tell it from the others."""
    names = sorted({name for study in studies for name in study.plan.space})
    everyone = {study.id: _facts(study, names) for study in studies}
    names_apart = distinguishing(list(everyone.values()))
    return {study_id: ", ".join(one[name] for name in names_apart if one[name]) for study_id, one in everyone.items()}


def _facts(study: Study, names: Sequence[str]) -> Facts:
    plan = study.plan
    return {
        "trials": counted(plan.trials, "trial"),
        "epochs": f"{counted(plan.trial_recipe.epochs, 'epoch')} a trial",
        "pruner": pruner_text(plan.pruner),
        **{name: f"{name}={plan.space[name]}" if name in plan.space else "" for name in names},
        "from": f"from {params_text(plan.strategy.params)}",
        "batch": f"{plan.batch} at a time",
        "tuner": tuner_text(plan.tuner),
        "study": f"study {study.id}",
    }
