"""A recipe as flags of the command line: a shipped recipe by its name, and what differs from it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from kdzoo.cell import Scalar
from kdzoo.config import load_recipe
from kdzoo.recipe import Recipe
from kdzoo.yamltext import read_scalar, shipped

Values = dict[str, Any]


class InexpressibleError(Exception):
    """No flag can say this; the message says what, in words."""


def values_of(recipe: Recipe) -> Values:
    """Every value that can change a result, by the name that ``--set recipe.`` gives it."""
    values = recipe.model_dump(exclude={"name", "augment"})
    return values | {f"augment.{key}": value for key, value in recipe.augment.model_dump().items()}


def nearest(recipe: Recipe) -> tuple[str, Values]:
    """The shipped recipe with the fewest other values, and those values; the length does not count."""
    wanted = values_of(recipe)
    found = []
    for name, values in _shipped().items():
        others = {key: value for key, value in wanted.items() if value != values[key] and key != "epochs"}
        found.append((len(others), name, others))
    _, name, others = min(found, key=lambda one: one[:2])
    return name, others


def shipped_but_length(recipe: Recipe) -> str | None:
    """The shipped recipe that differs from this one in no more than its length; None if there is none."""
    name, others = nearest(recipe)
    return None if others else name


def scalar_text(value: Scalar) -> str:
    """A value as ``--set`` reads it back.

    Raises:
        InexpressibleError: there is no such text.
    """
    # Texts as they are where that is enough, and in quotes where they would be read as something else.
    for written in (value if isinstance(value, str) else repr(value), json.dumps(value)):
        read = read_scalar(written)
        if written.strip() and read == value and type(read) is type(value):
            return written
    raise InexpressibleError(f"the value {value!r} cannot be written on a command line")


def setting_text(value: Any) -> str:
    """A value of a recipe, which may be several numbers, as ``--set`` reads it back."""
    if not isinstance(value, tuple):
        return scalar_text(value)
    # One number alone is read as a list too.
    return ",".join(map(repr, value)) or "[]"


@cache
def _shipped() -> dict[str, Values]:
    return {name: values_of(load_recipe(name, {})) for name in shipped("recipes")}
