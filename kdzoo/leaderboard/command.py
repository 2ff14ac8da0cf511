"""How to train a cell again: the exact command, or in words why no command can say it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kdzoo.board.identity import recipe_changes
from kdzoo.board.labels import OWN_DISTRIBUTION
from kdzoo.cell import Cell, ModelRef, StrategyRef, TeacherRef, canonical_json
from kdzoo.config import BenchConfig, load_bench, parse_ranges, parse_settings
from kdzoo.errors import UsageError
from kdzoo.leaderboard.recipeflags import (
    InexpressibleError,
    nearest,
    scalar_text,
    setting_text,
    shipped_but_length,
    values_of,
)
from kdzoo.matrix import Recipes, resolve_recipes
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.study import Study

_FILE = "FILE"
_NAME = re.compile(r"(?!(all|recipe)\Z)[a-z0-9_-]+")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9._-]+")
_NEEDS = {
    "plugin": "it comes from a plugin file whose SHA-256 begins with {0}, which must be given as FILE",
    "teacher_weights": "the teacher's weights come from a file with SHA-256 {0}, which must be given as FILE",
    "teacher_recipe": "the teacher's recipe is not a shipped one: save {0} as teacher.yaml",
    "dataset": "the data are a folder of images called {0}, whose path must be given as FILE",
}


@dataclass(frozen=True)
class Reproduction:
    """How to train a cell again.

    Args:
        command: for a shell; empty where no command can say it.
        words: what must be known beside the command, or why there is none; may be empty.
    """

    command: str
    words: str = ""


def reproduce(cell: Cell | Record, study: Study | None = None) -> Reproduction:
    """How to train a student again, with all seeds up to its own.

    The command names every parameter, so that a later default does not change it, and is read back as a bench would
    read it before it is given. It says nothing of folders, devices and threads, which do not belong to a cell.

    Args:
        cell: the cell, or its record.
        study: the study whose winner it is, if it is one. Values that tuning found for a strategy are set by hand;
            where it changed the recipe, only the study gives the cell, and so the command searches again.
    """
    cell = cell.cell if isinstance(cell, Record) else cell
    try:
        return _reproduce(cell, study)
    except InexpressibleError as error:
        return Reproduction("", str(error))


def _reproduce(cell: Cell, study: Study | None) -> Reproduction:
    if cell.kind != "student":
        raise InexpressibleError(f"a {cell.kind} is trained by the benches that need it, and not by itself")
    if cell.init != "random":
        raise InexpressibleError("no flag starts a student from pretrained weights")
    if cell.tuned_from is None:
        again = "" if study is None else _searched_too(study, cell.seed)
        return _written(_flags(cell, cell.strategy, cell.recipe), _Expected(cell.recipe, cell.teacher), again)
    if study is None:
        changes = ", ".join(f"{name} = {value}" for name, value in recipe_changes(cell).items())
        raise InexpressibleError(f"tuning changed the recipe ({changes}), and its study is not here")
    words = "this searches again; where its trials measure something else, another winner may come of it"
    return _written(*_search(study, cell.seed), words)


@dataclass(frozen=True)
class _Expected:
    """What the flags must be read back as."""

    recipe: Recipe
    teacher: TeacherRef | None
    trial: Recipe | None = None


@dataclass
class _Flags:
    """Keys of a bench's configuration, and what must be given as a file by who runs it."""

    values: dict[str, Any]
    needs: dict[str, str]


def _searched_too(study: Study, seed: int) -> str:
    found = _written(*_search(study, seed), "")
    return f"the values come from a search: {found.command}" if found.command else ""


def _search(study: Study, seed: int) -> tuple[_Flags, _Expected]:
    plan = study.plan
    cell = plan.final(plan.defaults(), seed)
    flags = _flags(cell, plan.strategy, plan.recipe)
    prefix = _prefix(plan.strategy)
    flags.values |= {"tune": plan.trials, "tune_batch": plan.batch, "pruner": plan.pruner}
    flags.values["tune_epochs"] = plan.trial_recipe.epochs
    flags.values["search"] = {
        ("" if name.startswith("recipe.") else prefix) + name: f"{one.low!r}:{one.high!r}" + (":log" if one.log else "")
        for name, one in plan.space.items()
    }
    return flags, _Expected(plan.recipe, plan.teacher, plan.trial_recipe)


def _flags(cell: Cell, strategy: StrategyRef, recipe: Recipe) -> _Flags:
    """A bench that holds the cell, with this strategy and this recipe in the place of its own."""
    if cell.teacher is None:
        raise InexpressibleError("no flag trains a student without a teacher")
    flags = _Flags({}, {})
    prefix = _prefix(strategy)
    if not (_NAME.fullmatch(strategy.name) and _DISTRIBUTION.fullmatch(strategy.distribution)):
        raise InexpressibleError(f"{prefix}{strategy.name} is no name that a strategy can have")
    if prefix == "file:":
        flags.needs["plugin"] = strategy.revision
    name, changes = nearest(recipe)
    precision = {"precision": changes.pop("precision")} if "precision" in changes else {}
    flags.values |= {
        "strategies": prefix + strategy.name,
        "dataset": cell.data.name,
        "img_size": "{}x{}".format(*cell.data.img_size),
        "teacher": _model_text(cell.teacher.model),
        "student": _model_text(cell.student),
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
    return flags


def _prefix(strategy: StrategyRef) -> str:
    return "" if strategy.distribution == OWN_DISTRIBUTION else f"{strategy.distribution}:"


def _model_text(model: ModelRef) -> str:
    try:
        same = ModelRef.parse(str(model)) == model
    except UsageError:
        same = False
    if not same or "," in str(model):
        raise InexpressibleError(f"the model {str(model)!r} cannot be written on a command line")
    return str(model)


def _add_teacher(flags: _Flags, teacher: TeacherRef, students: Recipe) -> None:
    kinds = {"trained": "train", "finetuned": "auto", "pretrained": "pretrained", "file": f"./{_FILE}"}
    flags.values["teacher_weights"] = kinds[teacher.weights]
    if teacher.weights == "file":
        flags.needs["teacher_weights"] = str(teacher.digest)
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
    if values_of(teacher.recipe) | {"epochs": None} != values_of(students) | {"epochs": None}:
        name = shipped_but_length(teacher.recipe)
        if name is None:
            content = teacher.recipe.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
            flags.needs["teacher_recipe"] = json.dumps(content)
        flags.values["teacher_recipe"] = name or "./teacher.yaml"
    if teacher.recipe.epochs != students.epochs or "teacher_recipe" in flags.values:
        flags.values["teacher_epochs"] = teacher.recipe.epochs


def _written(flags: _Flags, expected: _Expected, words: str) -> Reproduction:
    """The command, if it is read back as what is expected."""
    arguments = _arguments(flags)
    command = shlex.join(["kdzoo", "bench", *arguments])
    if flags.needs:
        told = "; ".join(_NEEDS[kind].format(what) for kind, what in flags.needs.items())
        return Reproduction("", f"{told}: {command}" + (f"; {words}" if words else ""))
    _check(flags, expected)
    return Reproduction(command, words)


def _arguments(flags: _Flags) -> list[str]:
    arguments = ["--plugin", _FILE] if "plugin" in flags.needs else []
    for key, value in flags.values.items():
        flag = "--" + key.replace("_", "-")
        if isinstance(value, Mapping):
            for name, one in value.items():
                arguments += [flag, f"{name}={one}"]
        elif str(value).startswith("-"):
            arguments.append(f"{flag}={value}")
        else:
            arguments += [flag, str(value)]
    return arguments


def _check(flags: _Flags, expected: _Expected) -> None:
    """Read the flags as a bench does.

    Raises:
        InexpressibleError: they say something else, as hostile names can make them.
    """
    given = dict(flags.values)
    names = {key: given[key] for key in ("dataset", "teacher", "student")}
    try:
        settings = parse_settings(f"{name}={value}" for name, value in given.pop("set").items())
        ranges = parse_ranges(f"{name}={value}" for name, value in given.pop("search", {}).items())
        # Neither seeds nor the strategy's values are part of a recipe; without them one reading serves many cells.
        shared = {key: value for key, value in given.items() if key not in ("seeds", "strategies")}
        owned = {key: value for key, value in settings.items() if key.startswith("recipe.")}
        config, recipes = _read(canonical_json(shared | {"set": owned}))
    except UsageError as error:
        raise InexpressibleError(f"no command can say it: {error}") from None
    same = (settings.keys(), ranges.keys()) == (flags.values["set"].keys(), flags.values.get("search", {}).keys())
    same &= all(getattr(config, key) == (name,) for key, name in names.items())
    same &= values_of(recipes.student) == values_of(expected.recipe)
    same &= expected.trial is None or values_of(recipes.trial) == values_of(expected.trial)
    if expected.teacher and expected.teacher.recipe:
        same &= values_of(recipes.teacher) == values_of(expected.teacher.recipe)
    if not same:
        raise InexpressibleError("no command can say it: a name would be read as something else")


@lru_cache(maxsize=64)
def _read(flags: str) -> tuple[BenchConfig, Recipes]:
    config = load_bench("quick", json.loads(flags))
    return config, resolve_recipes(config)
