"""Factor transfer against a plain loop, its networks and its two phases."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdzoo import PairError, UsageError
from kdzoo_zoo.feature.ft import FactorTransfer
from kdzoo_zoo.functional import factor_transfer_loss


def by_loops(student, teacher):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        ours, theirs = s.flatten(), t.flatten()
        lengths = [(each**2).sum().sqrt() for each in (ours, theirs)]
        for a, b in zip(ours, theirs, strict=True):
            total = total + (a / lengths[0] - b / lengths[1]).abs()
    return total / student.numel()


def drawn(batch=3, dtype=torch.float64):
    return [torch.randn(batch, 4, 3, 2, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("batch", [1, 3])
def test_value_and_gradients_are_those_of_the_loops(batch):
    pair = drawn(batch)
    values = [form(*pair) for form in (factor_transfer_loss, by_loops)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, pair) for value in values), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_computed_in_float32(dtype):
    pair = drawn(dtype=dtype)
    value = factor_transfer_loss(*pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(factor_transfer_loss(*pair), value)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), by_loops(*(x.double() for x in pair)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_zero_and_large_factors_stay_finite_and_equal_ones_have_no_loss(scale):
    student, teacher = (scale * x.detach() for x in drawn(dtype=torch.float32))
    student.requires_grad_()
    value = factor_transfer_loss(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert factor_transfer_loss(student, student.detach()) == 0


def test_a_second_derivative_is_refused_and_not_wrong():
    student, teacher = drawn()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(factor_transfer_loss(student, teacher), student, create_graph=True)


def test_shapes_must_be_equal():
    student, teacher = drawn()
    with pytest.raises(ValueError, match="factors of student and teacher"):
        factor_transfer_loss(student[:, :2], teacher)


def widths(layers):
    return [tuple(layer.weight.shape[:2]) for layer in layers[::2]]


def test_paraphraser_and_translator_are_the_papers(setup):
    ft = FactorTransfer(setup())  # the deepest stages have 8 channels of the student and 12 of the teacher
    assert widths(ft.encoder) == [(12, 12), (6, 12), (6, 6)]
    assert widths(ft.decoder) == [(6, 6), (6, 12), (12, 12)]  # transposed: in x out
    assert widths(ft.translator) == [(8, 8), (6, 8), (6, 6)]
    for part, kind in ((ft.encoder, nn.Conv2d), (ft.decoder, nn.ConvTranspose2d), (ft.translator, nn.Conv2d)):
        assert all(
            isinstance(layer, kind) and layer.padding == (1, 1) and layer.bias is not None for layer in part[::2]
        )
        assert all(isinstance(layer, nn.LeakyReLU) and layer.negative_slope == 0.1 for layer in part[1::2])


@pytest.mark.parametrize(("form", "loss"), [("squared", F.mse_loss), ("absolute", F.l1_loss)])
def test_the_first_phase_trains_the_paraphraser_alone(form, loss, setup, outputs, step):
    ft = FactorTransfer(setup(), reconstruction=form)
    student, teacher = outputs(ft.setup.student, 4, trained=True), outputs(ft.setup.teacher, 4)
    terms = step(ft, student, teacher, phase="paraphraser")
    target = teacher.stages[-1]
    torch.testing.assert_close(terms["reconstruction"], loss(ft.decoder(ft.encoder(target)), target))
    assert all(parameter.grad.abs().sum() > 0 for part in (ft.encoder, ft.decoder) for parameter in part.parameters())
    assert all(parameter.grad is None for parameter in ft.translator.parameters())
    assert all(stage.grad is None for stage in student.stages)


def test_the_main_phase_leaves_the_paraphraser_as_it_is(setup, outputs, step):
    ft = FactorTransfer(setup())
    student, teacher = outputs(ft.setup.student, 4, trained=True), outputs(ft.setup.teacher, 4)
    terms = step(ft, student, teacher)
    fmap = F.adaptive_avg_pool2d(student.stages[-1], 1)
    factors = ft.translator(fmap), ft.encoder(teacher.stages[-1])
    torch.testing.assert_close(terms["factor"], 500 * factor_transfer_loss(*factors))
    assert all(parameter.grad is None for part in (ft.encoder, ft.decoder) for parameter in part.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in ft.translator.parameters())
    assert student.stages[-1].grad.abs().sum() > 0


def test_phases_share_the_epochs(setup):
    first, main = FactorTransfer(setup()).phases(240)
    assert (first.epochs, first.trains, first.hard_labels) == (30, "strategy", False)
    assert (main.epochs, main.trains, main.hard_labels, main.teacher) == (210, "both", True, True)
    with pytest.raises(UsageError, match="leaves none for the main phase"):
        FactorTransfer(setup(), share=0.9).phases(3)


def test_a_pair_without_stages_is_refused(setup):
    with pytest.raises(PairError, match="needs a paired stage"):
        FactorTransfer(setup(student=()))
