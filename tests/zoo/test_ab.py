from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from kdzoo import PairError, Phase, PreActivation, UsageError
from kdzoo_zoo.feature.ab import ActivationBoundaries
from kdzoo_zoo.functional import activation_boundary_loss

STAGES = ((4, 8, 8), (6, 4, 4), (8, 2, 2))
BARE = PreActivation(None, None)


def naive(student, teacher, margin):
    total = 0.0
    for s, t in zip(student.flatten(), teacher.flatten(), strict=True):
        if t <= 0 and s > -margin:
            total = total + (s + margin) ** 2
        if t > 0 and s <= margin:
            total = total + (s - margin) ** 2
    return total / len(student)


@pytest.mark.parametrize("shape", [(3, 4, 2, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_value_and_gradient_equal_the_naive_loop(shape, margin):
    student, teacher = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    found = []
    for loss in (activation_boundary_loss, naive):
        own = student.clone().requires_grad_()
        value = loss(own, teacher, margin=margin)
        found.append((value, *torch.autograd.grad(value, own)))
    torch.testing.assert_close(*found)


def test_each_case_by_hand():
    student = torch.tensor([0.5, 0.5, 2.0, -3.0, -0.25]).view(1, 5, 1, 1)
    teacher = torch.tensor([4.0, -0.1, 1.0, -1.0, 0.0]).view(1, 5, 1, 1)
    assert activation_boundary_loss(student, teacher, margin=1.0).item() == 0.25 + 2.25 + 0 + 0 + 0.5625


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_maps_are_compared_in_float32(dtype):
    student, teacher = (torch.randn(2, 3, 4, 4).to(dtype) for _ in range(2))
    loss = activation_boundary_loss(student, teacher, margin=1.0)
    assert loss.dtype == torch.float32
    wide = activation_boundary_loss(student.double(), teacher.double(), margin=1.0)
    assert loss.item() == pytest.approx(wide.item(), rel=1e-5)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="maps"):
        activation_boundary_loss(torch.zeros(2, 4, 2, 2), torch.zeros(2, 1, 2, 2), margin=1.0)


def activated(setup, before, teacher=STAGES):
    return replace(setup(teacher=teacher), pre_activations=tuple(before))


def test_the_boundaries_come_first_and_then_the_labels_alone(setup):
    strategy = ActivationBoundaries(activated(setup, [BARE] * 3))
    assert strategy.phases(270) == (
        Phase("boundaries", 30, hard_labels=False),
        Phase("main", 240, trains="student", teacher=False),
    )
    assert [phase.epochs for phase in strategy.phases(2)] == [1, 1]
    with pytest.raises(UsageError, match="no epoch of 1"):
        strategy.phases(1)


def test_stages_are_weighted_from_the_deepest(setup, outputs, step):
    strategy = ActivationBoundaries(activated(setup, [BARE] * 3), gamma=1.0, margin=0.7)
    assert all(isinstance(adapter, nn.Identity) for adapter in strategy.adapters)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    term = step(strategy, student, teacher, phase="boundaries")["boundary"]
    pairs = zip(student.pre_stages, teacher.pre_stages, strict=True)
    expected = sum(2.0 ** (i - 2) * activation_boundary_loss(*pair, margin=0.7) for i, pair in enumerate(pairs))
    torch.testing.assert_close(term, expected)
    assert step(strategy, student, teacher) == {}


def test_stages_that_end_in_no_activation_are_left_out_and_a_teacher_without_any_refused(setup):
    assert ActivationBoundaries(activated(setup, [None, BARE, None])).compared == [(1, 1)]
    with pytest.raises(PairError, match="ends in an activation"):
        ActivationBoundaries(activated(setup, [None] * 3))


def test_other_shapes_get_adapters_and_are_pooled(setup, outputs, step):
    strategy = ActivationBoundaries(activated(setup, [BARE] * 3, ((8, 16, 16), (6, 4, 4), (8, 1, 1))))
    assert [isinstance(adapter, nn.Identity) for adapter in strategy.adapters] == [False, True, False]
    assert strategy.reduction()["active"][0] == "pre_stages.0 pooled to 8x8, above 0"
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    assert strategy.reduce(teacher).values["active"][0].dtype == torch.bool
    assert step(strategy, student, teacher, phase="boundaries")["boundary"] > 0
