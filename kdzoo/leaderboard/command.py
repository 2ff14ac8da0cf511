"""How to train a cell again: the exact command, or in words why no command can say it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from kdzoo.board.identity import recipe_changes
from kdzoo.cell import Cell, TeacherRef, canonical_json
from kdzoo.config import BenchConfig, load_bench, parse_ranges, parse_settings
from kdzoo.errors import UsageError
from kdzoo.leaderboard.benchflags import Flags, cell_flags, study_flags
from kdzoo.leaderboard.recipeflags import InexpressibleError, values_of
from kdzoo.matrix import Recipes, resolve_recipes
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.study import TUNER, Study

_NEEDS = {
    "plugin": "it comes from a plugin file whose SHA-256 begins with {0}, which must be given as FILE",
    "teacher_weights": "the teacher's weights come from a file with SHA-256 {0}, which must be given as FILE",
    "model": "the models {0} come from folders whose config.json has that hash, which must be given as FILE",
    "teacher_recipe": "the teacher's recipe is not a shipped one: save {0} as teacher.yaml",
    "dataset": "the data are a folder of images called {0}, whose path must be given as FILE",
}


@dataclass(frozen=True)
class Reproduction:
    """How to train a cell again.

    Args:
        command: for a shell; empty where no command can say it.
        words: what must be known beside the command, or why there is none; may be empty.
        search: the command that searches for the values again, where a search found them.
    """

    command: str
    words: str = ""
    search: str = ""


def reproduce(cell: Cell | Record, study: Study | None = None, *, trusted: bool = False) -> Reproduction:
    """How to train a student again, with all seeds up to its own.

    The command names every parameter, so that a later default does not change it, and is read back as a bench would
    read it before it is given. It says nothing of folders, devices and threads, which do not belong to a cell.

    Args:
        cell: the cell, or its record.
        study: the study whose winner it is, if it is one. Values that tuning found for a strategy are set by hand;
            where it changed the recipe, only the study gives the cell, and so the command searches again.
        trusted: whether somebody vouched for its teacher, which the record tells too.
    """
    if isinstance(cell, Record):
        trusted |= cell.teacher is not None and cell.teacher.vouched
        cell = cell.cell
    try:
        return _reproduce(cell, study, {"trust_teacher": True} if trusted else {})
    except InexpressibleError as error:
        return Reproduction("", str(error))


def _reproduce(cell: Cell, study: Study | None, more: dict[str, Any]) -> Reproduction:
    if cell.kind != "student":
        raise InexpressibleError(f"a {cell.kind} is trained by the benches that need it, and not by itself")
    if cell.tuned_from is None:
        words, search = ("", "") if study is None else _searched_too(study, cell.seed, more)
        flags = cell_flags(cell, cell.strategy, cell.recipe, more)
        found = _written(flags, _Expected(cell.recipe, cell.teacher), words)
        return replace(found, search=search)
    if study is None:
        changes = ", ".join(f"{name} = {value}" for name, value in recipe_changes(cell).items())
        raise InexpressibleError(f"tuning changed the recipe ({changes}), and its study is not here")
    if study.plan.tuner < TUNER:
        words = f"this searches again, by version {TUNER} of the search, and the study was made by {study.plan.tuner}"
    else:
        words = "this searches again; where its trials measure something else, another winner may come of it"
    return _written(study_flags(study.plan, cell.seed, more), _expected(study), words)


@dataclass(frozen=True)
class _Expected:
    """What the flags must be read back as."""

    recipe: Recipe
    teacher: TeacherRef | None
    trial: Recipe | None = None


def _searched_too(study: Study, seed: int, more: dict[str, Any]) -> tuple[str, str]:
    """That the values come from a search, and the command that searches again; nothing where none can say it."""
    try:
        found = _written(study_flags(study.plan, seed, more), _expected(study), "")
    except InexpressibleError:  # the cell itself can be had all the same
        return "", ""
    older = f", made by version {study.plan.tuner} of the search" if study.plan.tuner < TUNER else ""
    return (f"the values come from a search{older}", found.command) if found.command else ("", "")


def _expected(study: Study) -> _Expected:
    return _Expected(study.plan.recipe, study.plan.teacher, study.plan.trial_recipe)


def _written(flags: Flags, expected: _Expected, words: str) -> Reproduction:
    """The command, if it is read back as what is expected."""
    command = shlex.join(["kdzoo", "bench", *flags.arguments()])
    if flags.needs:
        told = "; ".join(_NEEDS[kind].format(what) for kind, what in flags.needs.items())
        return Reproduction("", f"{told}: {command}" + (f"; {words}" if words else ""))
    _check(flags, expected)
    return Reproduction(command, words)


def _check(flags: Flags, expected: _Expected) -> None:
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
