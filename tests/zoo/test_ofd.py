from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from kdzoo import PairError, PreActivation
from kdzoo_zoo.feature.ofd import Overhaul
from kdzoo_zoo.functional import batch_norm_margin, partial_l2_loss

SHAPE = (3, 4, 2, 3)
STAGES = ((4, 8, 8), (6, 4, 4), (8, 2, 2))


def naive(student, teacher, margin):
    total = 0.0
    for b in range(len(student)):
        for c in range(student.shape[1]):
            for h in range(student.shape[2]):
                for w in range(student.shape[3]):
                    s, t, m = student[b, c, h, w], teacher[b, c, h, w], margin[0, c, 0, 0]
                    target = t if t > m else m
                    if s > target or t > 0:
                        total = total + (s - target) ** 2
    return total / len(student)


def naive_margin(weight, bias):
    """By a sum over the negative half of the normal distribution."""
    scale, steps, total, share = abs(weight), 200_000, 0.0, 0.0
    low = min(bias, 0.0) - 12 * scale
    for i in range(steps):
        x = low + (i + 0.5) * (0 - low) / steps
        density = math.exp(-(((x - bias) / scale) ** 2) / 2)
        total, share = total + x * density, share + density
    return total / share


def draw(dtype=torch.float64, shape=SHAPE):
    margin = -torch.rand(1, shape[1], 1, 1) - 0.2
    return 2 * torch.randn(shape, dtype=dtype), 2 * torch.randn(shape, dtype=dtype), margin.to(dtype)


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1, 1)])
def test_value_and_gradient_equal_the_naive_loop(shape):
    student, teacher, margin = draw(shape=shape)
    found = []
    for loss in (partial_l2_loss, naive):
        s, t = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        value = torch.as_tensor(loss(s, t, margin))
        found.append((value, *torch.autograd.grad(value, [s, t])) if value.requires_grad else (value, s * 0, t * 0))
    torch.testing.assert_close(*found)


def test_each_case_by_hand():
    # above a positive target; below it; above a negative one; below it; above the margin; below the margin
    student = torch.tensor([3.0, 0.0, 0.0, -0.9, 0.0, -9.0]).view(1, 6, 1, 1)
    teacher = torch.tensor([1.0, 1.0, -0.5, -0.5, -7.0, -7.0]).view(1, 6, 1, 1)
    margin = torch.full((1, 6, 1, 1), -1.0)
    assert partial_l2_loss(student, teacher, margin).item() == 4 + 1 + 0.25 + 0 + 1 + 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_maps_are_compared_in_float32(dtype):
    student, teacher, margin = draw(dtype)
    loss = partial_l2_loss(student, teacher, margin)
    assert loss.dtype == torch.float32
    wide = partial_l2_loss(student.double(), teacher.double(), margin.double())
    assert loss.item() == pytest.approx(wide.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert partial_l2_loss(student, teacher, margin).dtype == torch.float32


def test_is_zero_at_equality():
    student, _, margin = draw()
    own = student.clone().requires_grad_()
    loss = partial_l2_loss(own, student, margin.expand(1, 4, 1, 1) * 0 - 100)
    loss.backward()
    assert loss.item() == 0
    assert (own.grad == 0).all()


def test_shapes_that_do_not_fit_are_refused():
    student, teacher, margin = draw()
    with pytest.raises(ValueError, match="maps"):
        partial_l2_loss(student, teacher[:, :1], margin)
    with pytest.raises(ValueError, match="margin"):
        partial_l2_loss(student, teacher, margin[:, :1])


@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.0), (-0.5, 0.7), (2.0, -1.0), (0.3, -4.0), (1.0, 3.0)])
def test_the_margin_is_the_mean_of_the_negative_part(weight, bias):
    found = batch_norm_margin(torch.tensor([weight], dtype=torch.float64), torch.tensor([bias], dtype=torch.float64))
    assert found.item() == pytest.approx(naive_margin(weight, bias), rel=1e-6)


def test_the_margin_of_channels_that_are_hardly_ever_negative():
    weight, bias = torch.tensor([1.0, -2.0, 0.0, 0.0, 0.0]), torch.tensor([3.2, 100.0, 1.0, 0.0, -2.0])
    torch.testing.assert_close(batch_norm_margin(weight, bias), torch.tensor([-3.0, -6.0, 0.0, 0.0, -2.0]))


def normed(setup, *, teacher=STAGES, missing=()):
    before = [
        None if i in missing else PreActivation(torch.ones(c), torch.zeros(c)) for i, (c, _, _) in enumerate(teacher)
    ]
    return replace(setup(teacher=teacher), pre_activations=tuple(before))


def test_stages_are_weighted_from_the_deepest(setup, outputs, step):
    strategy = Overhaul(normed(setup), beta=1.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    term = step(strategy, student, teacher)["partial"]
    margin = -math.sqrt(2 / math.pi)
    expected = sum(
        2.0 ** (i - 2)
        * partial_l2_loss(
            strategy.adapters[i](student.pre_stages[i]), target, torch.full((1, target.shape[1], 1, 1), margin)
        )
        for i, target in enumerate(teacher.pre_stages)
    )
    torch.testing.assert_close(term, expected)
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.parameters())


def test_stages_without_a_batch_normalisation_are_left_out_and_a_teacher_without_any_refused(setup):
    strategy = Overhaul(normed(setup, missing={0, 2}))
    assert strategy.compared == [(1, 1)]
    with pytest.raises(PairError, match="batch normalisation before the last activation"):
        Overhaul(normed(setup, missing={0, 1, 2}))
    none = PreActivation(None, None)
    with pytest.raises(PairError, match="has none there"):
        Overhaul(replace(setup(), pre_activations=(none, none, none)))


def test_maps_of_other_sizes_are_pooled(setup, outputs, step):
    strategy = Overhaul(normed(setup, teacher=((8, 16, 16), (10, 3, 5), (12, 1, 1))))
    assert strategy.sizes == [(8, 8), (3, 4), (1, 1)]
    assert strategy.reduction()["pre_stages"] == (
        "pre_stages.0 pooled to 8x8",
        "pre_stages.1 pooled to 3x4",
        "pre_stages.2",
    )
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    assert step(strategy, student, teacher)["partial"].isfinite()


def test_adapters_start_as_the_authors_do(setup):
    strategy = Overhaul(normed(setup, teacher=((256, 8, 8), (256, 4, 4), (256, 2, 2))))
    for adapter in strategy.adapters:
        assert adapter.conv.weight.std().item() == pytest.approx(math.sqrt(2 / 256), rel=0.1)
