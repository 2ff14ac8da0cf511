"""A cell or a study as flags of ``kdzoo bench``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdzoo.board.labels import OWN_DISTRIBUTION
from kdzoo.cell import Cell, ModelRef, StrategyRef, TeacherRef
from kdzoo.errors import UsageError
from kdzoo.inputs import input_flag
from kdzoo.leaderboard.recipeflags import (
    InexpressibleError,
    nearest,
    scalar_text,
    setting_text,
    shipped_but_length,
    values_of,
)
from kdzoo.recipe import Recipe
from kdzoo.study import StudyPlan

_FILE = "FILE"
_NAME = re.compile(r"(?!(all|recipe)\Z)[a-z0-9_-]+(\+[a-z0-9_-]+)*")
_FOLDERS_MODEL = re.compile(r"local-dir:\w+@[0-9a-f]{16}")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9._-]+(\+[A-Za-z0-9._-]+)*")


@dataclass
class Flags:
    """A bench as its flags say it.

    Attributes:
        values: keys of its configuration.
        needs: what must be given as a file by who runs it: kind -> what it is.
    """

    values: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """The words behind ``kdzoo bench``."""
        arguments = ["--plugin", _FILE] * len(self.needs["plugin"].split(" and ")) if "plugin" in self.needs else []
        for key, value in self.values.items():
            flag = "--" + key.replace("_", "-")
            if isinstance(value, Mapping):
                for name, one in value.items():
                    arguments += [flag, f"{name}={one}"]
            elif value is True:
                arguments.append(flag)
            elif str(value).startswith("-"):
                arguments.append(f"{flag}={value}")
            else:
                arguments += [flag, str(value)]
        return arguments


def cell_flags(cell: Cell, strategy: StrategyRef, recipe: Recipe, more: Mapping[str, Any]) -> Flags:
    """A bench that holds the cell, with this strategy and this recipe in the place of its own.

    Args:
        cell: a student's.
        strategy: see above.
        recipe: see above.
        more: keys of the bench that are no part of a cell.

    Raises:
        InexpressibleError: there is none.
    """
    if cell.teacher is None:
        raise InexpressibleError("no flag trains a student without a teacher")
    flags = Flags()
    prefix = _prefix(strategy)
    if not (_NAME.fullmatch(strategy.name) and _DISTRIBUTION.fullmatch(strategy.distribution)):
        raise InexpressibleError(f"{prefix}{strategy.name} is no name that a strategy can have")
    if files := _plugin_files(strategy):
        flags.needs["plugin"] = " and ".join(files)
    name, changes = nearest(recipe)
    precision = {"precision": changes.pop("precision")} if "precision" in changes else {}
    flags.values |= {
        "strategies": prefix + strategy.name,
        "dataset": cell.data.name,
        "img_size": "{}x{}".format(*cell.data.img_size),
        "teacher": _model_text(cell.teacher.model, flags),
        "student": _model_text(cell.student, flags),
        **({"student_init": "pretrained"} if cell.starts_pretrained else {}),
        "seeds": cell.seed + 1,
        "recipe": name,
        "epochs": recipe.epochs,
        **precision,
    }
    if cell.data.name.startswith("folder:"):
        flags.needs["dataset"] = cell.data.name
        flags.values["dataset"] = f"folder:{_FILE}"
    settings = {f"recipe.{key}": setting_text(value) for key, value in changes.items()}
    settings |= {f"{prefix}{strategy.name}.{key}": scalar_text(value) for key, value in strategy.params.items()}
    flags.values["set"] = settings
    _add_teacher(flags, cell.teacher, recipe)
    flags.values |= more
    return flags


def study_flags(plan: StudyPlan, seed: int, more: Mapping[str, Any]) -> Flags:
    """A bench that searches as the plan does, and trains the winner with all seeds up to this one.

    Args:
        plan: of the study.
        seed: see above.
        more: keys of the bench that are no part of a cell.

    Raises:
        InexpressibleError: there is none.
    """
    flags = cell_flags(plan.final(plan.defaults(), seed), plan.strategy, plan.recipe, more)
    flags.values |= {"tune": plan.trials, "tune_batch": plan.batch, "pruner": plan.pruner}
    flags.values["tune_epochs"] = plan.trial_recipe.epochs
    prefix = _prefix(plan.strategy)
    flags.values["search"] = {
        ("" if name.startswith("recipe.") else prefix) + name: f"{one.low!r}:{one.high!r}" + (":log" if one.log else "")
        for name, one in plan.space.items()
    }
    return flags


def _plugin_files(strategy: StrategyRef) -> list[str]:
    """The revisions of the plugin files that bring a strategy or its parts, which are hashes of the files."""
    origins, revisions = strategy.distribution.split("+"), strategy.revision.split("+")
    if len(origins) == 1:
        origins *= len(revisions)
    return list(dict.fromkeys(one for origin, one in zip(origins, revisions, strict=False) if origin == "file"))


def _prefix(strategy: StrategyRef) -> str:
    return "" if strategy.distribution == OWN_DISTRIBUTION else f"{strategy.distribution}:"


def _model_text(model: ModelRef, flags: Flags) -> str:
    if (match := _FOLDERS_MODEL.match(str(model))) is not None:
        flags.needs["model"] = " and ".join(filter(None, (flags.needs.get("model"), match.group())))
        return f"local-dir:{_FILE}{str(model)[match.end() :]}"
    try:
        same = ModelRef.parse(str(model)) == model
    except UsageError:
        same = False
    if not same or "," in str(model):
        raise InexpressibleError(f"the model {str(model)!r} cannot be written on a command line")
    return str(model)


def _add_teacher(flags: Flags, teacher: TeacherRef, students: Recipe) -> None:
    kinds = {"trained": "train", "finetuned": "auto", "pretrained": "pretrained", "file": f"./{_FILE}"}
    flags.values["teacher_weights"] = kinds[teacher.weights]
    if teacher.weights == "file":
        flags.needs["teacher_weights"] = str(teacher.digest)
        # All of it, so that nothing beside the file matters.
        flags.values["teacher_input"] = input_flag(teacher.input)
    if teacher.seed:
        raise InexpressibleError(f"no flag trains a teacher with seed {teacher.seed}")
    if teacher.strategy is not None:
        prefix = _prefix(teacher.strategy)
        flags.values["set"] |= {
            f"{prefix}{teacher.strategy.name}.{key}": scalar_text(value)
            for key, value in teacher.strategy.params.items()
        }
    if teacher.recipe is None:
        return
    # A bench's number of views is that of its students.
    shared = values_of(students) | {"epochs": None, "views": 0}
    if values_of(teacher.recipe) | {"epochs": None} != shared:
        name = shipped_but_length(teacher.recipe)
        if name is None:
            content = teacher.recipe.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
            flags.needs["teacher_recipe"] = json.dumps(content)
        flags.values["teacher_recipe"] = name or "./teacher.yaml"
    if teacher.recipe.epochs != students.epochs or "teacher_recipe" in flags.values:
        flags.values["teacher_epochs"] = teacher.recipe.epochs
