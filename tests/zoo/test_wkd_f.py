from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from naive_compare import assert_finite, assert_precisions, assert_same

from kdzoo import PairError
from kdzoo_zoo.feature.wkd_f import WassersteinFeatures
from kdzoo_zoo.functional import wasserstein_feature_loss
from kdzoo_zoo.schedules import cosine_decay


def naive(student, teacher, mean_weight, eps=1e-5, grid=1):
    batch, channels = student.shape[:2]
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        for c in range(channels):
            for row in range(grid):
                for column in range(grid):
                    moments = []
                    for x in (student, teacher):
                        height, width = x.shape[2:]
                        top, bottom = row * height // grid, -(-(row + 1) * height // grid)
                        left, right = column * width // grid, -(-(column + 1) * width // grid)
                        values = [x[b, c, i, j] for i in range(top, bottom) for j in range(left, right)]
                        mean = sum(values) / len(values)
                        variance = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
                        moments.append((mean, (variance + eps) ** 0.5))
                    (m, d), (n, e) = moments
                    total = total + mean_weight * (m - n) ** 2 + (d - e) ** 2
    return total / (batch * grid**2)


SIZES = [((4, 4), (4, 4), 1), ((4, 4), (2, 6), 2), ((5, 3), (4, 4), 2), ((1, 1), (3, 3), 1), ((2, 2), (5, 5), 4)]


@pytest.mark.parametrize(("own", "theirs", "grid"), SIZES)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_equals_the_naive_loop(own, theirs, grid, batch_size):
    pair = torch.randn(batch_size, 2, *own), torch.randn(batch_size, 2, *theirs)
    assert_same(
        partial(wasserstein_feature_loss, mean_weight=3.0, grid=grid), partial(naive, mean_weight=3.0, grid=grid), *pair
    )


def test_equals_the_value_computed_by_hand():
    # Means 2 and 5, variances 2 and 0: 4 x 9 + (sqrt(2 + 1) - sqrt(0 + 1))^2, the same in each of two channels.
    student = torch.tensor([[[[1.0, 3.0]], [[3.0, 1.0]]]])
    loss = wasserstein_feature_loss(student, torch.full((1, 2, 1, 1), 5.0), mean_weight=4.0, eps=1.0)
    assert loss.item() == pytest.approx(2 * (36 + (3**0.5 - 1) ** 2))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_does_not_matter(layout):
    student, teacher = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 3, 3)
    for grid in (1, 2, 4):
        given = student.contiguous(memory_format=layout).requires_grad_()
        plain = student.clone().requires_grad_()
        values = [wasserstein_feature_loss(each, teacher, 4.0, grid=grid) for each in (given, plain)]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*(torch.autograd.grad(v, x)[0] for v, x in zip(values, (given, plain), strict=True)))


def test_precision_and_finiteness():
    pair = torch.randn(3, 4, 4, 4), torch.randn(3, 4, 4, 4)
    assert_precisions(partial(wasserstein_feature_loss, mean_weight=4.0, grid=2), *pair)
    for scale in (0.0, 1e-12, 1e4):
        assert_finite(partial(wasserstein_feature_loss, mean_weight=4.0), scale * pair[0], torch.ones(3, 4, 1, 1))
    far = 1000 + torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(
        wasserstein_feature_loss(far, pair[1][:2, :3], 1.0).double(),
        wasserstein_feature_loss(far.double(), pair[1][:2, :3].double(), 1.0),
        rtol=1e-5,
        atol=0,
    )


def test_equal_maps_lose_nothing():
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    loss = wasserstein_feature_loss(maps, maps.detach(), 4.0, grid=2)
    (slope,) = torch.autograd.grad(loss, maps)
    assert loss == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (2, 1, 2, 2)])
def test_shapes_that_would_broadcast_are_refused(shape):
    with pytest.raises(ValueError, match="batch and channels"):
        wasserstein_feature_loss(torch.zeros(2, 4, 2, 2), torch.zeros(shape), 1.0)


def test_a_network_without_stages_is_refused(setup):
    with pytest.raises(PairError, match="wkd_f compares the last maps"):
        WassersteinFeatures(setup(student=[]))


@pytest.mark.parametrize(("projector", "layers"), [("conv1x1", 3), ("bottleneck", 5)])
def test_the_projector_learns_with_the_student(setup, outputs, step, projector, layers):
    strategy = WassersteinFeatures(setup(), projector=projector, grid=2, decay_from=1.0)
    assert len(strategy.project) == layers
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    projected = strategy.project(student.stages[-1])
    expected = wasserstein_feature_loss(projected, teacher.stages[-1], 4.0, grid=2)
    torch.testing.assert_close(terms["gaussians"], 0.08 * expected)
    assert all(weight.grad is not None for weight in strategy.parameters())
    assert [stage.grad is not None for stage in student.stages] == [False, False, True]


def test_moments_that_were_kept_give_the_same_term(setup, outputs, batch):
    strategy = WassersteinFeatures(setup(), grid=2).eval()
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    kept = strategy.reduce(teacher)
    assert [tuple(value.shape) for value in kept.values.values()] == [(4, 12, 4)] * 2
    assert strategy.reduction() == {
        "means": "stages.2 means of 2x2 cells",
        "deviations": "stages.2 deviations of 2x2 cells, eps 1e-05",
    }
    assert strategy(student, kept, batch(4)) == strategy(student, teacher, batch(4))


def test_the_weight_falls_by_a_cosine_from_a_share_on(batch):
    def factors(start: float) -> list[float]:
        return [cosine_decay(replace(batch(1), epoch=epoch, epochs=4), start) for epoch in range(4)]

    assert factors(1.0) == [1, 1, 1, 1]
    assert factors(0.5) == pytest.approx([1, 1, 0.5, 0])
    assert factors(0.0) == pytest.approx([0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0])
