"""Neuron selectivity against a loop over channels, in both of its forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import PairError
from kdzoo.testing.checks.cost import peak_bytes
from kdzoo_zoo.feature.nst import NeuronSelectivity
from kdzoo_zoo.functional import neuron_selectivity_loss

FORMS = [(2, 7, 5), (5, 2, 3), (4, 4, 3)]
"""Positions a side, channels of student and teacher: the first has fewer positions than channels, the second more."""


def maps(size: int, ours: int, theirs: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    student = torch.randn(3, ours, size, size, dtype=torch.float64).to(dtype).requires_grad_()
    return student, torch.randn(3, theirs, size, size, dtype=torch.float64).to(dtype)


def mean_kernel(first: Tensor, second: Tensor) -> Tensor:
    """Over all pairs of channels of one sample."""
    total = torch.zeros((), dtype=torch.float64)
    for x in first.flatten(1):
        for y in second.flatten(1):
            total = total + (F.normalize(x, dim=0) @ F.normalize(y, dim=0)) ** 2
    return total / (len(first) * len(second))


def by_loops(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = student.double(), teacher.double()
    terms = [
        mean_kernel(s, s) + mean_kernel(t, t) - 2 * mean_kernel(s, t) for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(terms).mean()


@pytest.mark.parametrize("shape", FORMS)
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_value_and_gradient_are_those_of_the_loops(
    shape: tuple[int, int, int], dtype: torch.dtype, rounding: float
) -> None:
    student, teacher = maps(*shape, dtype)
    expected = by_loops(student, teacher)
    (slope,) = torch.autograd.grad(expected, student)
    value = neuron_selectivity_loss(student, teacher)
    (found,) = torch.autograd.grad(value, student)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), expected, rtol=min(rounding, 2e-5), atol=0)
    torch.testing.assert_close(found.double(), slope.double(), rtol=rounding, atol=rounding * float(slope.abs().max()))


@pytest.mark.parametrize("shape", FORMS[:2])
def test_the_gradient_of_the_teachers_map_is_right(shape: tuple[int, int, int]) -> None:
    student, teacher = maps(*shape)
    teacher.requires_grad_()
    slopes = (torch.autograd.grad(form(student, teacher), teacher)[0] for form in (neuron_selectivity_loss, by_loops))
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)


def test_stages_of_one_position_are_left_out_and_the_term_is_a_sum(setup, outputs, step) -> None:
    nst = NeuronSelectivity(setup())
    student, teacher = outputs(nst.setup.student, 4, trained=True), outputs(nst.setup.teacher, 4)
    found = step(nst, student, teacher)["selectivity"]
    expected = sum(neuron_selectivity_loss(*pair) for pair in zip(student.stages[:2], teacher.stages[:2], strict=True))
    torch.testing.assert_close(found, 50 * expected)
    assert [form for _, _, _, form in nst.compared] == [False, True]
    with pytest.raises(PairError, match="has a single one"):
        NeuronSelectivity(setup(), last=1)


def test_the_stem_is_left_out_unless_asked_for(setup) -> None:
    shapes = [(n + 3, 8, 8) for n in range(5)]
    for params, first in (({}, 1), ({"last": 0}, 0)):
        nst = NeuronSelectivity(setup(student=shapes, teacher=shapes), **params)
        assert [pair[:2] for pair in nst.compared] == [(place, place) for place in range(first, 5)]


@pytest.mark.parametrize("shape", FORMS[:2])
def test_equal_maps_have_no_loss_and_no_gradient(shape: tuple[int, int, int]) -> None:
    student, _ = maps(*shape)
    loss = neuron_selectivity_loss(student, student.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-10


def test_autocast_changes_nothing() -> None:
    student, teacher = maps(3, 8, 6, torch.float32)
    expected = neuron_selectivity_loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(neuron_selectivity_loss(student, teacher), expected)


def test_the_larger_map_is_pooled() -> None:
    student, teacher = maps(4, 3, 5)
    smaller = F.avg_pool2d(teacher, 2)
    assert torch.equal(
        neuron_selectivity_loss(student, smaller), neuron_selectivity_loss(F.avg_pool2d(student, 2), smaller)
    )


def test_batches_must_be_equal() -> None:
    student, teacher = maps(2, 3, 3)
    with pytest.raises(ValueError, match="the batch of student and teacher"):
        neuron_selectivity_loss(student[:2], teacher)


def test_many_channels_need_no_matrix_of_channels() -> None:
    """Of 512 channels at 4 x 4 positions: 3 kernel matrices of a batch of 8 would take 24 MiB, and as much again."""
    student, teacher = torch.randn(8, 512, 4, 4, requires_grad=True), torch.randn(8, 512, 4, 4)
    assert peak_bytes(lambda: neuron_selectivity_loss(student, teacher).backward()) < 4 * 2**20
