"""Similarity-preserving distillation, probabilistic transfer and correlation congruence against plain loops."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from kdzoo_zoo.functional import (
    correlation_congruence_kernel_loss,
    correlation_congruence_loss,
    probabilistic_transfer_loss,
    similarity_preserving_loss,
)
from kdzoo_zoo.relation.cc import CorrelationCongruence
from kdzoo_zoo.relation.pkt import ProbabilisticTransfer
from kdzoo_zoo.relation.sp import SimilarityPreserving


def dot(x, y):
    return (x.flatten() * y.flatten()).sum()


def similarity_by_loops(student, teacher):
    total = 0.0
    for i in range(len(student)):
        rows = []
        for maps in (student, teacher):
            row = [dot(maps[i], maps[j]) for j in range(len(maps))]
            length = torch.stack(row).norm().clamp(min=1e-12)
            rows.append([value / length for value in row])
        total = total + sum((s - t) ** 2 for s, t in zip(*rows, strict=True))
    return total / len(student) ** 2


def transfer_by_loops(student, teacher):
    batch, total = len(student), 0.0
    for i in range(batch):
        near = []
        for rows in (student, teacher):
            units = [row / (row.norm() + 1e-7) for row in rows]
            row = [(dot(units[i], unit) + 1) / 2 for unit in units]
            near.append([value / sum(row) for value in row])
        for q, p in zip(*near, strict=True):
            total = total + p * torch.log((p + 1e-7) / (q + 1e-7))
    return total / batch**2


def neighbours_by_loops(student, teacher):
    total = 0.0
    for i in range(len(student) - 1):
        for d in range(student.shape[1]):
            total = total + (student[i, d] - teacher[i, d]).abs() * (student[i + 1, d] - teacher[i + 1, d]).abs()
    return total / (len(student) - 1)


def kernel_by_loops(student, teacher, gamma=0.4, order=2):
    batch, total = len(student), 0.0
    for i in range(batch):
        for j in range(batch):
            kernels = []
            for rows in (student, teacher):
                cosine = dot(F.normalize(rows[i], dim=0), F.normalize(rows[j], dim=0))
                powers = [(2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)]
                kernels.append(math.exp(-2 * gamma) * sum(powers))
            total = total + (kernels[0] - kernels[1]) ** 2
    return total / batch**2


FORMS = {
    "sp": (similarity_preserving_loss, similarity_by_loops),
    "pkt": (probabilistic_transfer_loss, transfer_by_loops),
    "neighbours": (correlation_congruence_loss, neighbours_by_loops),
    "kernel": (correlation_congruence_kernel_loss, kernel_by_loops),
    "other kernel": tuple(
        partial(form, gamma=0.7, order=4) for form in (correlation_congruence_kernel_loss, kernel_by_loops)
    ),
}
every = pytest.mark.parametrize("form", FORMS)


def drawn(form, batch=5, dtype=torch.float64):
    shapes = ((3, 4, 2), (2, 3, 3)) if form == "sp" else ((6,), (6,)) if form == "neighbours" else ((6,), (4,))
    student, teacher = (torch.randn(batch, *shape, dtype=torch.float64).to(dtype) for shape in shapes)
    return student.requires_grad_(), teacher.requires_grad_()


@every
@pytest.mark.parametrize("batch", [2, 5])
def test_value_and_gradients_are_those_of_the_loops(form, batch):
    loss, loops = FORMS[form]
    pair = drawn(form, batch)
    torch.testing.assert_close(loss(*pair), loops(*pair), rtol=1e-10, atol=1e-12)
    found, expected = (torch.autograd.grad(each(*pair), pair) for each in (loss, loops))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_computed_in_float32(form, dtype):
    loss, loops = FORMS[form]
    student, teacher = drawn(form, dtype=dtype)
    value = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(student, teacher), value)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), loops(student.double(), teacher.double()), rtol=1e-4, atol=1e-7)


@every
def test_the_gradient_has_a_gradient_or_refuses_one(form):
    student, teacher = drawn(form, 3)
    if form in ("neighbours", "pkt"):
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(FORMS[form][0](student, teacher), student, create_graph=True)
        return
    assert torch.autograd.gradgradcheck(lambda s: FORMS[form][0](s, teacher.detach()), student)


@every
def test_equal_networks_have_no_loss(form):
    student, _ = drawn(form)
    value = FORMS[form][0](student, student.detach().clone())
    (slope,) = torch.autograd.grad(value, student)
    assert value == 0
    # The epsilon in the logarithms of pkt moves its minimum a little.
    assert slope.abs().max() < (1e-7 if form == "pkt" else 1e-12)


@every
@pytest.mark.parametrize("kind", ["large", "zero", "alike", "opposite"])
def test_odd_embeddings_keep_value_and_gradient_finite(form, kind):
    student, teacher = (each.detach().float() for each in drawn(form, 4))
    if kind == "large":
        student, teacher = 1e4 * student, 1e4 * teacher
    if kind == "zero":
        student[1], teacher[2] = 0, 0
    if kind == "alike":
        student[:] = student[:1].clone()
    if kind == "opposite":
        student[:] = 300 * torch.tensor([1, -1, 1, -1]).reshape(4, *(1,) * (student.ndim - 1)) * student[:1].clone()
    student.requires_grad_()
    value = FORMS[form][0](student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e9 or kind == "large"


@every
def test_batches_must_be_equal(form):
    student, teacher = drawn(form)
    with pytest.raises(ValueError, match="of student and teacher do not fit"):
        FORMS[form][0](student[:2], teacher)


def test_a_single_sample_has_no_neighbour():
    with pytest.raises(ValueError, match="needs two samples"):
        correlation_congruence_loss(torch.zeros(1, 3), torch.zeros(1, 3))
    one = torch.randn(1, 3)
    for loss in (similarity_preserving_loss, probabilistic_transfer_loss, correlation_congruence_kernel_loss):
        assert loss(one, 2 * one) == pytest.approx(0, abs=1e-12)


def test_a_sample_of_zeros_has_no_gradient_that_ruins_a_training():
    student = torch.randn(4, 3, 2, 2)
    student[2] = 0
    student.requires_grad_()
    similarity_preserving_loss(student, torch.randn(4, 3, 2, 2)).backward()
    assert student.grad.abs().max() < 10


def test_the_layout_of_maps_does_not_matter_and_stays():
    student, teacher = torch.randn(4, 3, 5, 5), torch.randn(4, 2, 3, 3)
    last = student.contiguous(memory_format=torch.channels_last).requires_grad_()
    value = similarity_preserving_loss(last, teacher)
    torch.testing.assert_close(value, similarity_preserving_loss(student, teacher))
    (slope,) = torch.autograd.grad(value, last)
    assert slope.is_contiguous(memory_format=torch.channels_last)


def test_weights_and_reductions(setup, outputs, step):
    sp, pkt, cc = (kind(setup()) for kind in (SimilarityPreserving, ProbabilisticTransfer, CorrelationCongruence))
    student, teacher = outputs(sp.setup.student, 6, trained=True), outputs(sp.setup.teacher, 6)
    pair = student.embedding, teacher.embedding
    maps = student.stages[-1], teacher.stages[-1]
    torch.testing.assert_close(step(sp, student, teacher)["similarity"], 3000 * similarity_preserving_loss(*maps))
    torch.testing.assert_close(step(pkt, student, teacher)["neighbours"], 30000 * probabilistic_transfer_loss(*pair))
    torch.testing.assert_close(step(cc, student, teacher)["kernel"], 100 * correlation_congruence_kernel_loss(*pair))
    assert sp.reduction() == {"stages": ("stages.2",)}


@pytest.mark.parametrize("size", [1, 6])
def test_the_form_of_neighbours_trains_two_embeddings(size, setup, outputs, step):
    cc = CorrelationCongruence(setup(), beta=0.0, neighbours=0.02)
    student, teacher = outputs(cc.setup.student, size, trained=True), outputs(cc.setup.teacher, size)
    terms = step(cc, student, teacher)
    assert set(terms) == {"neighbours"}
    assert (terms["neighbours"] > 0) == (size > 1)
    gradients = [parameter.grad for parameter in cc.parameters()]
    assert len(gradients) == 4
    assert all(gradient is not None and (size == 1 or gradient.abs().sum() > 0) for gradient in gradients)
