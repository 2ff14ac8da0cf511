"""Configuration -> cells: which teachers are trained, and which strategy is trained on which pair with which seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from kdzoo.cell import Cell, DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.config import BenchConfig, load_recipe
from kdzoo.errors import UsageError, unknown
from kdzoo.recipe import Recipe
from kdzoo.registry import Entry, Registry

if TYPE_CHECKING:
    from kdzoo.strategy import Strategy

BASELINE = "ce"
"""The strategy that every pair gets: the student alone."""

_Origin: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Recipes:
    """The recipes of a bench, with all its changes."""

    student: Recipe
    teacher: Recipe


def resolve_recipes(config: BenchConfig) -> Recipes:
    """The students' and the teachers' recipe.

    Raises:
        UsageError: a recipe is missing, malformed, or has a wrong key or value.
    """
    changes: dict[str, Any] = {
        key.partition(".")[2]: value for key, value in config.set.items() if key.startswith("recipe.")
    }
    if config.precision is not None:
        changes["precision"] = config.precision
    students = changes | ({"epochs": config.epochs} if config.epochs else {})
    # A recipe that was named for the teacher stands as it is: what is tried on the students must not move it.
    teachers = {} if config.teacher_recipe else dict(students)
    if config.teacher_epochs:
        teachers["epochs"] = config.teacher_epochs
    return Recipes(
        student=load_recipe(config.recipe, students),
        teacher=load_recipe(config.teacher_recipe or config.recipe, teachers),
    )


def resolve_strategies(config: BenchConfig, registry: Registry) -> list[StrategyRef]:
    """The strategies of a bench with all their parameters, the baseline first, each once.

    Raises:
        UsageError: an unknown strategy or parameter, or a value out of range.
    """
    asked: Iterable[str] = config.strategies
    if "all" in config.strategies:
        names = [entry.name for entry in registry.strategies]
        asked = [
            entry.name if names.count(entry.name) == 1 else f"{entry.plugin.distribution}:{entry.name}"
            for entry in registry.strategies
        ]
    baseline = [name for name in config.strategies if name.rpartition(":")[2] == BASELINE]
    if baseline:
        registry.prefer(registry.strategy(baseline[0]))
    entries: dict[_Origin, Entry[type[Strategy]]] = {}
    for name in [BASELINE, *asked]:
        entry = registry.strategy(name)
        entries.setdefault((entry.plugin.distribution, entry.name), entry)
    settings = _settings_by_strategy(config, list(entries))
    return [
        StrategyRef(
            name=entry.name,
            distribution=entry.plugin.distribution,
            revision=entry.value.revision,
            params=dict(entry.value.resolve(settings.get(origin, {}))),
        )
        for origin, entry in entries.items()
    ]


def _settings_by_strategy(config: BenchConfig, origins: Sequence[_Origin]) -> dict[_Origin, dict[str, Any]]:
    """The ``set`` of a bench by (distribution, name) of its strategies, each written ``name`` or in full."""
    settings: dict[_Origin, dict[str, Any]] = {}
    for key, value in config.set.items():
        distribution, colon, rest = key.rpartition(":")
        name, dot, parameter = rest.partition(".")
        owner = distribution + colon + name
        if not dot or not parameter:
            raise UsageError(f"set {key}: write strategy.param or recipe.key")
        if owner == "recipe":
            continue
        found = [origin for origin in origins if owner in (origin[1], ":".join(origin))]
        if len(found) > 1:
            brought = " and ".join(distribution for distribution, _ in found)
            raise UsageError(f"set {key}: {name} is brought by {brought}; write {found[0][0]}:{key}")
        if not found:
            known = ["recipe", *(each for _, each in origins)]
            raise UsageError(f"set {key}: " + unknown("strategy of the bench", owner, known))
        settings.setdefault(found[0], {})[parameter] = value
    return settings


def teacher_cell(teacher: TeacherRef, data: DataRef) -> Cell | None:
    """The cell that trains this teacher, or None where its weights come from elsewhere."""
    if teacher.recipe is None or teacher.strategy is None or teacher.seed is None:
        return None
    return Cell(
        kind="teacher",
        data=data,
        student=teacher.model,
        teacher=None,
        strategy=teacher.strategy,
        recipe=teacher.recipe,
        seed=teacher.seed,
        init="pretrained" if teacher.weights == "finetuned" else "random",
    )


def student_cells(
    data: DataRef,
    pair: tuple[TeacherRef, ModelRef],
    strategies: Sequence[StrategyRef],
    recipe: Recipe,
    seeds: int,
) -> list[Cell]:
    """The cells of one pair, seed by seed, so that every strategy has its first seed before any has its second."""
    teacher, student = pair
    return [
        Cell(
            kind="student",
            data=data,
            student=student,
            teacher=teacher,
            strategy=strategy,
            recipe=recipe,
            seed=seed,
        )
        for seed in range(seeds)
        for strategy in strategies
    ]


def title(cell: Cell) -> str:
    """A cell in words, for progress and messages."""
    if cell.teacher is None:
        return f"{cell.kind} {cell.student} on {cell.data.name}"
    pair = f"{cell.teacher.model} -> {cell.student}"
    return f"{cell.strategy.name} {pair} on {cell.data.name} seed {cell.seed}"
