"""Variational information distillation against a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdzoo import PairError
from kdzoo_zoo.feature.vid import VariationalInformation
from kdzoo_zoo.functional import variational_information_loss


def by_loops(mean, teacher, log_scale, eps=1e-5):
    total, count = 0.0, 0
    for b in range(len(mean)):
        for c in range(mean.shape[1]):
            variance = torch.log(1 + torch.exp(log_scale[c])) + eps
            for m, t in zip(mean[b, c].flatten(), teacher[b, c].flatten(), strict=True):
                total = total + ((m - t) ** 2 / variance + torch.log(variance)) / 2
                count += 1
    return total / count


def drawn(batch=3, dtype=torch.float64):
    shapes = (batch, 4, 3, 2), (batch, 4, 3, 2), (4,)
    return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_value_and_gradients_are_those_of_the_loops(batch, eps):
    tensors = drawn(batch)
    values = [form(*tensors, eps=eps) for form in (variational_information_loss, by_loops)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, tensors) for value in values), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_computed_in_float32(dtype):
    tensors = drawn(dtype=dtype)
    value = variational_information_loss(*tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(variational_information_loss(*tensors), value)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), by_loops(*(x.double() for x in tensors)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [-100.0, 100.0])
def test_extreme_scales_stay_finite(scale):
    mean, teacher, log_scale = drawn(dtype=torch.float32)
    log_scale = torch.full_like(log_scale, scale).requires_grad_()
    value = variational_information_loss(1e4 * mean, teacher, log_scale)
    value.backward()
    assert value.isfinite()
    assert all(x.grad.isfinite().all() for x in (mean, teacher, log_scale))


def test_shapes_must_fit():
    mean, teacher, log_scale = drawn()
    with pytest.raises(ValueError, match="maps of student and teacher"):
        variational_information_loss(mean[:, :, :2], teacher, log_scale)
    with pytest.raises(ValueError, match="log_scale has shape"):
        variational_information_loss(mean, teacher, log_scale[:1])


def test_the_gradient_comes_in_the_maps_own_layout():
    mean, teacher, log_scale = drawn()
    last = mean.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    (slope,) = torch.autograd.grad(variational_information_loss(last, teacher, log_scale), last)
    assert slope.is_contiguous(memory_format=torch.channels_last)


def test_regressors_are_three_convolutions_and_variances_start_at_five(setup):
    vid = VariationalInformation(setup())
    layers = list(vid.regressors[0])
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d]
    shapes = [tuple(layer.weight.shape) for layer in layers[::2]]
    assert shapes == [(8, 4, 1, 1), (8, 8, 1, 1), (8, 8, 1, 1)]
    assert all(layer.bias is None for layer in layers[::2])
    for scale in vid.log_scales:
        torch.testing.assert_close(F.softplus(scale) + 1e-5, torch.full_like(scale, 5.0))
    assert vid.log_scales[0][0].item() == pytest.approx(math.log(math.expm1(5)), rel=1e-4)


@pytest.mark.parametrize("last", [0, 1])
def test_the_term_is_the_sum_over_the_stages(last, setup, outputs, step):
    vid = VariationalInformation(setup(), beta=2.0, last=last)
    student, teacher = outputs(vid.setup.student, 4, trained=True), outputs(vid.setup.teacher, 4)
    terms = step(vid, student, teacher)
    sizes = [(8, 8), (4, 3), (1, 1)][-last:]
    expected = sum(
        variational_information_loss(
            regressor(F.adaptive_avg_pool2d(ours, size)), F.adaptive_avg_pool2d(theirs, size), scale
        )
        for ours, theirs, size, regressor, scale in zip(
            student.stages[-last:], teacher.stages[-last:], sizes, vid.regressors, vid.log_scales, strict=True
        )
    )
    torch.testing.assert_close(terms["information"], 2 * expected)
    assert all(parameter.grad is not None for parameter in vid.parameters())


@pytest.mark.parametrize(("params", "first"), [({}, 1), ({"last": 0}, 0), ({"last": 2}, 3), ({"last": 9}, 0)])
def test_the_stem_is_left_out_unless_asked_for(params, first, setup):
    shapes = [(n + 3, 8, 8) for n in range(5)]
    vid = VariationalInformation(setup(student=shapes, teacher=shapes), **params)
    assert [pair[:2] for pair in vid.compared] == [(place, place) for place in range(first, 5)]


def test_networks_without_stages_are_refused(setup):
    with pytest.raises(PairError, match="needs a paired stage"):
        VariationalInformation(setup(student=()))
