"""What rows, teachers and groups are called, and what tells namesakes apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from kdzoo.errors import counted
from kdzoo.inputs import input_text
from kdzoo.recipe import Recipe
from kdzoo.refs import DataRef, StrategyRef, TeacherRef

OWN_DISTRIBUTION = "kdzoo"

VOUCHED = "vouched for"
"""Stands behind where a teacher's weights come from, where it taught though it is not above chance."""

Facts = dict[str, str]

_SUBSET = re.compile(r".+\[:(?P<count>[0-9]{1,9})\]")


def facts(values: BaseModel | Mapping[str, Any]) -> Facts:
    """Every plain value of a model, or of its dump, by its dotted name."""
    found: Facts = {}

    def visit(value: object, path: str) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                visit(inner, f"{path}.{name}" if path else name)
        else:
            found[path] = repr(value) if isinstance(value, float) else value_text(value)

    visit(values.model_dump() if isinstance(values, BaseModel) else values, "")
    return found


def value_text(value: object) -> str:
    """A value as YAML would write it, numbers to four digits."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    return str(value)


def differing(everyone: Sequence[Facts]) -> list[str]:
    """The names of the facts on which not all agree."""
    names = dict.fromkeys(name for one in everyone for name in one)
    return [name for name in names if len({one.get(name) for one in everyone}) > 1]


def distinguishing(everyone: Sequence[Facts]) -> list[str]:
    """As few of the differing facts as tell all apart that can be told apart, the first ones first."""
    chosen: list[str] = []
    kinds = 1
    for name in differing(everyone):
        split = len({tuple(one.get(each) for each in (*chosen, name)) for one in everyone})
        if split > kinds:
            chosen.append(name)
            kinds = split
    return chosen


def short_words(one: Facts, names: Iterable[str]) -> str:
    """The named facts as a heading says them: ``quick, seed=1``. A recipe's name stands alone, and no prefix before
    what is in the recipe."""
    return ", ".join(
        one[name] if name in ("recipe", "recipe.name") else f"{name.removeprefix('recipe.')}={one[name]}"
        for name in names
        if name in one
    )


def params_text(params: Mapping[str, Any]) -> str:
    """A strategy's parameters in compact text, by name; what tuning changed in the recipe comes last."""
    names = sorted(params, key=lambda name: (name.startswith("recipe."), name))
    return " ".join(f"{name}={value_text(params[name])}" for name in names)


def teacher_labels(teachers: Sequence[TeacherRef]) -> list[str]:
    """A label for each: its model, and for namesakes what tells them apart, in brackets."""
    everyone = [_teacher_facts(teacher) for teacher in teachers]
    namesakes: dict[str, list[int]] = defaultdict(list)
    for place, teacher in enumerate(teachers):
        namesakes[str(teacher.model)].append(place)
    labels = [str(teacher.model) for teacher in teachers]
    for name, places in namesakes.items():
        # The order in which facts are tried must not depend on the order of the records.
        names = distinguishing(sorted((everyone[place] for place in places), key=lambda one: sorted(one.items())))
        for place in places:
            labels[place] = f"{name} ({short_words(everyone[place], names)})" if names else name
    return labels


def _teacher_facts(teacher: TeacherRef) -> Facts:
    """The facts of a teacher, what it is shown as one of them: of one with an input of its own and one without, neither
    would be told by a part of it."""
    found = facts(teacher.model_copy(update={"input": None, "members": ()}))
    for number, member in enumerate(teacher.members, start=1):
        found |= {f"{number}.{name}": value for name, value in facts(member).items()}
    return found | {"input": input_text(teacher.input) if teacher.input else "the dataset's"}


def strategy_labels(strategies: Sequence[StrategyRef]) -> list[str]:
    """A label for each: its name, its distribution if that is not kdzoo or the name is taken twice, its revision if
    there are two."""
    distributions: dict[str, set[str]] = defaultdict(set)
    revisions: dict[tuple[str, str], set[str]] = defaultdict(set)
    for strategy in strategies:
        distributions[strategy.name].add(strategy.distribution)
        revisions[strategy.name, strategy.distribution].add(strategy.revision)

    def label(strategy: StrategyRef) -> str:
        ambiguous = len(distributions[strategy.name]) > 1
        shown = ambiguous or strategy.distribution != OWN_DISTRIBUTION
        revised = len(revisions[strategy.name, strategy.distribution]) > 1
        return (
            (f"{strategy.distribution}:" if shown else "")
            + strategy.name
            + (f"@{strategy.revision}" if revised else "")
        )

    return [label(strategy) for strategy in strategies]


def data_text(data: DataRef) -> str:
    """The numbers of samples: ``5400 fit, 600 tune (a stratified 6,000 of the training samples), 10000 test samples, 10
    classes``. A subset is told by the dataset's name, where its number is that of what trains."""
    parts = [f"{data.fit} fit", f"{data.tune} tune"]
    subset = _SUBSET.fullmatch(data.name)
    count = int(subset["count"]) if subset else 0
    note = f" (a stratified {count:,} of the training samples)"
    if count == data.fit + data.tune:
        parts[1] += note
    elif count == data.fit:  # tune is a split of the dataset's own
        parts[0] += note
    return ", ".join([*parts, f"{data.test} test samples", f"{data.num_classes} classes"])


def recipe_text(recipe: Recipe) -> str:
    """A recipe in a few words."""
    length = counted(recipe.epochs, "epoch")
    step = f"{recipe.optimizer}, lr {value_text(recipe.lr)}, batch {recipe.batch_size}, {recipe.precision}"
    return f"{recipe.name} ({length}, {step})"
