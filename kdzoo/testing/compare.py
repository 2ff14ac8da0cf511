"""Compares terms that should be equal, and copies signals for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdzoo.strategy import Classifier, Outputs

Measure = Callable[[int], Mapping[str, float]]
"""Seed -> terms."""


def difference(one: Measure, other: Measure, *, relative: float, draws: bool, repeats: int = 48) -> str:
    """How two ways to compute the same terms differ, in words; empty where they agree.

    Args:
        one: the first way.
        other: the second way.
        relative: share of a term that rounding may take.
        draws: whether the terms depend on random numbers. Then their means over many seeds are compared, and may
            differ by five standard errors.
        repeats: seeds, where they are needed.
    """
    first, second = one(0), other(0)
    told = _unequal(first, second, relative)
    if not told or not draws:
        return told
    many, others = ([first, *map(one, range(1, repeats))], [second, *map(other, range(1, repeats))])
    for name in first:
        left, right = (_values(name, side) for side in (many, others))
        error = float((left.var() / len(left) + right.var() / len(right)).sqrt())
        gap = abs(float(left.mean() - right.mean()))
        if gap > 5 * error + relative * abs(float(right.mean())):
            return f"{name} is {left.mean():.6g} and {right.mean():.6g} (means over {repeats} seeds)"
    return ""


def _values(name: str, seeds: list[Mapping[str, float]]) -> Tensor:
    """A term under each seed that gives it."""
    return torch.tensor([terms[name] for terms in seeds if name in terms], dtype=torch.float64)


def _unequal(first: Mapping[str, float], second: Mapping[str, float], relative: float) -> str:
    if first.keys() != second.keys():
        return f"the terms are {sorted(first)} and {sorted(second)}"
    size = max((abs(value) for value in [*first.values(), *second.values()]), default=0.0)
    for name, value in first.items():
        # A comparison with NaN is false, so NaN is told.
        if not abs(value - second[name]) <= relative * max(abs(value), abs(second[name]), 1e-3 * size) + 1e-9:
            return f"{name} is {value:.6g} and {second[name]:.6g}"
    return ""


def copied(value: Any) -> Any:
    """A copy of a tensor, of a tuple of tensors, or of a classifier, that shares nothing with it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Classifier):
        return Classifier(copied(value.weight), None if value.bias is None else copied(value.bias))
    return tuple(map(copied, value))


def keep(outputs: Outputs) -> Outputs:
    """A copy of signals whose tensors share nothing with them."""
    return Outputs({name: copied(value) for name, value in outputs.values.items()})
