"""The angle loss without the cosines: value and gradient of autograd over all triplets, in the memory of pairs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo.testing.checks.cost import peak_bytes
from kdzoo_zoo.functional import relational_angle_loss
from kdzoo_zoo.relation import angles


def plain_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """As the paper's authors write it, with every vector and every cosine, in float64."""
    return F.smooth_l1_loss(plain_cosines(student.double()), plain_cosines(teacher.double()))


def plain_cosines(rows: Tensor) -> Tensor:
    units = F.normalize(rows[None] - rows[:, None], dim=2, eps=1e-12)
    return torch.einsum("ijd,ikd->ijk", units, units)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [3, 5, 40])
@pytest.mark.parametrize("chunk", [1, 3000, 2**30])
def test_value_and_gradient_are_autograds(dtype, batch_size, chunk, monkeypatch):
    monkeypatch.setattr(angles, "CHUNK_ELEMENTS", chunk)
    student = torch.randn(batch_size, 6).to(dtype).requires_grad_()
    teacher = (3 * torch.randn(batch_size, 9)).to(dtype)
    expected = plain_loss(student, teacher)
    (slope,) = torch.autograd.grad(expected, student)
    value = relational_angle_loss(student, teacher)
    (found,) = torch.autograd.grad(value, student)
    rounding = {torch.float64: 1e-11, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]  # of the result
    torch.testing.assert_close(value.double(), expected, rtol=min(rounding, 1e-6), atol=0)
    torch.testing.assert_close(found.double(), slope.double(), rtol=rounding, atol=rounding * float(slope.abs().max()))


def test_gradients_of_both_networks_are_right(monkeypatch):
    monkeypatch.setattr(angles, "CHUNK_ELEMENTS", 72)  # two anchors at a time
    student = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(relational_angle_loss, (student, teacher))
    assert torch.autograd.gradcheck(lambda t: relational_angle_loss(student.detach(), t), teacher)


def test_the_gradient_is_scaled_by_what_comes_after():
    student, teacher = torch.randn(7, 5, requires_grad=True), torch.randn(7, 5)
    (once,) = torch.autograd.grad(relational_angle_loss(student, teacher), student)
    (often,) = torch.autograd.grad(50 * relational_angle_loss(student, teacher), student)
    torch.testing.assert_close(often, 50 * once)


def test_a_gradient_of_the_gradient_is_refused_and_not_wrong():
    student, teacher = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(relational_angle_loss(student, teacher), student, create_graph=True)


def test_without_a_gradient_none_is_computed():
    student, teacher = torch.randn(32, 8), torch.randn(32, 8)
    alone = peak_bytes(lambda: relational_angle_loss(student, teacher))
    trained = student.clone().requires_grad_()
    assert alone < peak_bytes(lambda: relational_angle_loss(trained, teacher).backward())


@pytest.mark.parametrize(("batch_size", "most"), [(64, 6), (128, 8), (256, 16)])
def test_memory_grows_with_pairs_and_not_with_triplets(batch_size, most):
    student, teacher = torch.randn(batch_size, 512, requires_grad=True), torch.randn(batch_size, 512)
    assert peak_bytes(lambda: relational_angle_loss(student, teacher).backward()) < most * 2**20
