"""The loss against a plain loop, and the strategy against kdzoo's conformance kit."""

from __future__ import annotations

import doctest
import math
from importlib.metadata import entry_points

import pytest
import torch
from kdzoo.testing import run_checks
from torch import Tensor

from kdzoo_my_strategy import strategy

STRATEGY = strategy.MyStrategy


def plain_statistics(channel: Tensor) -> tuple[float, float]:
    values = [value for row in channel.tolist() for value in row]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return mean, math.sqrt(variance + 1e-5)


def plain_loss(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for own, theirs in zip(student, teacher, strict=True):
        for one, other in zip(own, theirs, strict=True):
            mean, deviation = plain_statistics(one)
            their_mean, their_deviation = plain_statistics(other)
            total += (mean - their_mean) ** 2 + (deviation - their_deviation) ** 2
    return total / (student.shape[0] * student.shape[1])


def test_the_loss_is_that_of_a_plain_loop() -> None:
    student = torch.randn(3, 4, 5, 2, dtype=torch.float64)
    teacher = torch.randn(3, 4, 3, 6, dtype=torch.float64)
    loss = strategy.distillation_loss(student, teacher)
    assert loss.item() == pytest.approx(plain_loss(student, teacher))


def test_places_within_a_map_do_not_matter() -> None:
    maps = torch.randn(2, 3, 4, 4)
    assert strategy.distillation_loss(maps.flip(2, 3), maps) < 1e-12


def test_a_constant_channel_has_a_finite_gradient() -> None:
    maps = torch.ones(2, 3, 4, 4, requires_grad=True)
    loss = strategy.distillation_loss(maps, torch.randn(2, 3, 4, 4))
    (gradient,) = torch.autograd.grad(loss, maps)
    assert gradient.isfinite().all()


def test_the_entry_point_brings_the_strategy() -> None:
    (entry,) = entry_points(group="kdzoo", name=STRATEGY.name)
    assert entry.load().kdzoo_strategies() == [STRATEGY]


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(strategy)
    assert (result.failed, result.attempted > 0) == (0, True)


def test_the_conformance_kit_finds_no_fault() -> None:
    faults = [each for each in run_checks(STRATEGY) if each.status == "fail"]
    explained = [f"{each.check.name}: {each.explain()}" for each in faults]
    assert not explained, "\n\n".join(explained)
