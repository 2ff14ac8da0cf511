"""What tuning searches: each strategy's declared ranges, keys of the recipe, and the user's own ranges over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

from pydantic import ValidationError, model_validator

from kdzoo.errors import UsageError, unknown
from kdzoo.parameters import MOST_SEARCHED, Param, Value
from kdzoo.recipe import Recipe
from kdzoo.refs import Frozen, Scalar

RecipeKey = Literal["lr", "weight_decay", "momentum", "label_smoothing"]
RECIPE_KEYS: tuple[RecipeKey, ...] = get_args(RecipeKey)
"""The keys of a recipe that may be searched: those that change neither the length nor what the student sees."""


_NARROWEST = 1e-9
"""Share of a range's larger end that it must span: below, it holds no thousand different values."""


class Range(Frozen):
    """What tuning tries for one parameter.

    Args:
        low: lowest value, included.
        high: highest value, included.
        log: whether values are drawn on a log scale.
        whole: whether only whole numbers are tried.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"the range {self} must rise")
        if self.log and self.low <= 0:
            raise ValueError(f"the log range {self} must lie above 0")
        if self.high - self.low < _NARROWEST * max(abs(self.low), abs(self.high)):
            raise ValueError(f"the range {self.low!r}:{self.high!r} is too narrow to search")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"the range {self} must have whole ends")
        return self

    def __contains__(self, value: Scalar) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    @property
    def count(self) -> int | None:
        """How many values there are to try; None for a range of more than whole numbers."""
        return int(self.high) - int(self.low) + 1 if self.whole else None

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}" + (":log" if self.log else "")


def parse_range(text: str) -> Range:
    """Read ``low:high`` or ``low:high:log``.

    Raises:
        ValueError: it is something else, or the range does not rise.
    """
    low, _, rest = text.partition(":")
    high, colon, scale = rest.partition(":")
    if (colon and scale.strip() != "log") or not rest:
        raise ValueError(f"must be low:high or low:high:log, not {text!r}")
    try:
        return Range(low=float(low), high=float(high), log=bool(colon))
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ValueError(f"must be low:high or low:high:log: {message}") from None
    except ValueError:
        raise ValueError(f"must be low:high or low:high:log in numbers, not {text!r}") from None


def strategy_space(name: str, declared: Mapping[str, Param], given: Mapping[str, str]) -> dict[str, Range]:
    """What is searched of a strategy, by full name such as ``soft.temperature``.

    Args:
        name: the strategy.
        declared: its parameters.
        given: parameter -> the user's own range.

    Raises:
        UsageError: a range names an unknown parameter, one that is no number, or invalid values; or there are too
            many.
    """
    space = {key: _declared(spec) for key, spec in declared.items() if spec.search is not None}
    for key, text in given.items():
        full = f"{name}.{key}"
        if key not in declared:
            raise UsageError(f"search {full}: " + unknown(f"parameter of {name}", key, declared))
        spec = declared[key]
        if spec.type not in (int, float):
            raise UsageError(f"search {full}: only numbers are searched, and it is {spec.valid}")
        space[key] = _whole(parse_range(text), full) if spec.type is int else parse_range(text)
        for end in (space[key].low, space[key].high):
            spec.check(f"search {full}: every value", spec.type(end))
    if len(space) > MOST_SEARCHED:
        raise UsageError(
            f"{name} has {len(space)} parameters to search ({', '.join(space)}), and at most {MOST_SEARCHED} may be"
        )
    return {f"{name}.{key}": one for key, one in space.items()}


def paper_values(name: str, declared: Mapping[str, Param], space: Collection[str]) -> dict[str, Value]:
    """The paper's values that are no defaults, by parameter, of what is searched.

    Args:
        name: the strategy.
        declared: its parameters.
        space: full names of what is searched.
    """
    return {key: spec.paper for key, spec in declared.items() if spec.paper is not None and f"{name}.{key}" in space}


def recipe_space(recipe: Recipe, keys: Collection[str], given: Mapping[str, str]) -> dict[str, Range]:
    """What is searched of the recipe, for every strategy alike, by full name such as ``recipe.lr``.

    Args:
        recipe: the recipe before tuning; rates are searched around its own.
        keys: those of :data:`RECIPE_KEYS` to search.
        given: key -> the user's own range, which also adds the key.

    Raises:
        UsageError: a range names another key, or values that no recipe may have.
    """
    for key in given:
        if key not in RECIPE_KEYS:
            raise UsageError(f"search recipe.{key}: " + unknown("key of the recipe to search", key, RECIPE_KEYS))
    usual: dict[str, Range] = {
        "lr": Range(low=recipe.lr / 10, high=recipe.lr * 10, log=True),
        "weight_decay": Range(low=1e-5, high=1e-2, log=True),
        "momentum": Range(low=0.5, high=0.99),
        "label_smoothing": Range(low=0.0, high=0.3),
    }
    space = {
        key: parse_range(given[key]) if key in given else usual[key] for key in RECIPE_KEYS if key in {*keys, *given}
    }
    for key, one in space.items():
        for end in (one.low, one.high):
            try:
                Recipe.model_validate(recipe.model_dump() | {key: end})
            except ValidationError as error:
                reason = error.errors()[0]["msg"].lower()
                raise UsageError(f"search recipe.{key}={one}: {end:g} cannot be its value: {reason}") from None
    return {f"recipe.{key}": one for key, one in space.items()}


def _declared(spec: Param) -> Range:
    low, high = spec.search or (0.0, 0.0)
    return Range(low=low, high=high, log=spec.log, whole=spec.type is int)


def _whole(one: Range, name: str) -> Range:
    if not (one.low.is_integer() and one.high.is_integer()):
        raise UsageError(f"search {name}: it is a whole number, but {one} is not")
    return one.model_copy(update={"whole": True})
