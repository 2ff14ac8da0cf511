"""Which stages serve a method that compares maps before their activations."""

from __future__ import annotations

from torch import Tensor

from kdzoo import PreActivation, Setup


def activated_pairs(setup: Setup) -> list[tuple[int, int, PreActivation]]:
    """(student's stage, teacher's stage, what is before its activation) of the pairs whose teacher's map has one.

    Args:
        setup: of a strategy whose teacher's signals name ``pre_stages``.
    """
    before = setup.pre_activations or (None,) * len(setup.teacher.stages)
    pairs = ((s, t, before[t]) for s, t in setup.stage_pairs)
    return [(s, t, found) for s, t, found in pairs if found is not None]


def normalised_pairs(setup: Setup) -> list[tuple[int, int, tuple[Tensor, Tensor]]]:
    """Of :func:`activated_pairs`, those with a batch normalisation right before the activation: its weight and bias."""
    return [
        (s, t, (norm.weight, norm.bias))
        for s, t, norm in activated_pairs(setup)
        if norm.weight is not None and norm.bias is not None
    ]
