"""What tells rows apart, as tuples: these are hashed and compared several times as fast as models."""

from __future__ import annotations

from collections.abc import Hashable
from operator import attrgetter
from typing import Any, NamedTuple

from kdzoo.cell import Cell, DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.recipe import Augment, Recipe


class Context(NamedTuple):
    """What rows must share, beside the version of the evaluation, to be compared; the recipe is that before tuning."""

    data: DataRef
    recipe: Recipe
    init: str
    protocol: int


class Setting(NamedTuple):
    """What a row tries: a strategy with its parameters, and what tuning changed in the recipe for it.

    Attributes:
        strategy: the strategy.
        changes: the recipe's changed values by full name, such as ``recipe.lr``.
    """

    strategy: StrategyRef
    changes: dict[str, Any]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters and the changes together."""
        return {**self.strategy.params, **self.changes}


def recipe_changes(cell: Cell) -> dict[str, Any]:
    """What tuning changed in a cell's recipe, by full name; another name is no change."""
    if cell.tuned_from is None:
        return {}
    base = _flat(cell.tuned_from)
    return {f"recipe.{name}": value for name, value in _flat(cell.recipe).items() if value != base[name]}


def _flat(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json", exclude={"name"})
    augment = values.pop("augment")
    return values | {f"augment.{name}": value for name, value in augment.items()}


data_key = attrgetter(*DataRef.model_fields)
_augment_key = attrgetter(*Augment.model_fields)
_flat_recipe_key = attrgetter(*(name for name in Recipe.model_fields if name not in ("name", "augment")))


def recipe_key(recipe: Recipe) -> Hashable:
    """Equal for recipes of equal name and content."""
    return recipe.name, _nameless_recipe_key(recipe)


def _nameless_recipe_key(recipe: Recipe) -> Hashable:
    return _flat_recipe_key(recipe), _augment_key(recipe.augment)


def context_key(context: Context) -> Hashable:
    """Equal for equal contexts, whose recipes have the same name too."""
    return data_key(context.data), recipe_key(context.recipe), context.init, context.protocol


def _items(values: dict[str, Any]) -> Hashable:
    # By their text, because True, 1 and 1.0 are equal in Python and not in a cell's id.
    return tuple(sorted((name, repr(value)) for name, value in values.items())) if values else ()


def model_key(model: ModelRef) -> Hashable:
    """Equal for equal models."""
    return model.name, _items(model.args)


def strategy_key(strategy: StrategyRef) -> tuple[str, str, str]:
    """Equal for one strategy, whatever its parameters."""
    return strategy.name, strategy.distribution, strategy.revision


def setting_key(strategy: StrategyRef, changes: dict[str, Any]) -> Hashable:
    """Equal for equal settings."""
    return strategy_key(strategy), _items(strategy.params), _items(changes)


def teacher_key(teacher: TeacherRef) -> Hashable:
    """Equal for equal teachers, whose recipes have the same name too."""
    return _nameless_teacher_key(teacher), teacher.recipe and teacher.recipe.name


def _nameless_teacher_key(teacher: TeacherRef) -> Hashable:
    recipe = teacher.recipe and _nameless_recipe_key(teacher.recipe)
    strategy = teacher.strategy and (strategy_key(teacher.strategy), _items(teacher.strategy.params))
    shown = (teacher.input and repr(teacher.input), teacher.average)
    return model_key(teacher.model), teacher.weights, recipe, strategy, teacher.seed, teacher.digest, shown


def place_key(context: Context, student: ModelRef, teacher: TeacherRef | None) -> Hashable:
    """Equal for one pair in one context, whatever its recipes are called: a cell's id does not tell them apart."""
    return (
        data_key(context.data),
        _nameless_recipe_key(context.recipe),
        context.init,
        context.protocol,
        model_key(student),
        teacher and _nameless_teacher_key(teacher),
    )
