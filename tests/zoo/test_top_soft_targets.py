"""Soft targets over the teacher's most likely classes, the others joined into one."""

from __future__ import annotations

import math

import pytest
import torch

from kdzoo import Outputs
from kdzoo_zoo.functional import soft_target_loss, top_logits, top_soft_target_loss
from kdzoo_zoo.response.soft import SoftTargets


def naive(student, teacher, classes, temperature):
    total = 0.0
    for s_row, t_row, top in zip(student.tolist(), teacher.tolist(), classes, strict=True):
        s_exp = [math.exp(s / temperature) for s in s_row]
        t_exp = [math.exp(t / temperature) for t in t_row]
        s_p = [s_exp[c] / sum(s_exp) for c in top]
        t_p = [t_exp[c] / sum(t_exp) for c in top]
        for s, t in zip([*s_p, 1 - sum(s_p)], [*t_p, 1 - sum(t_p)], strict=True):
            total += t * (math.log(t) - math.log(s))
    return total / len(student) * temperature**2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "top_k"), [((1, 3), 1), ((7, 10), 4), ((16, 100), 20), ((3, 1000), 5)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_naive_loop(dtype, shape, top_k, temperature):
    student, teacher = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    told = top_logits(teacher, top_k, temperature)
    assert told.values.tolist() == [sorted(row, reverse=True)[:top_k] for row in teacher.tolist()]
    loss = top_soft_target_loss(student, told, temperature)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(naive(student, teacher, told.classes.tolist(), temperature), rel=1e-3, abs=1e-6)


def test_all_but_one_class_is_the_whole_loss():
    student, teacher = torch.randn(6, 5).double(), torch.randn(6, 5).double()
    joined = top_soft_target_loss(student, top_logits(teacher, 4, 4.0), 4.0)
    torch.testing.assert_close(joined, soft_target_loss(student, teacher, 4.0))


def test_more_classes_bring_it_nearer_to_the_whole_loss():
    student, teacher = torch.randn(6, 40).double(), 3 * torch.randn(6, 40).double()
    losses = [top_soft_target_loss(student, top_logits(teacher, k, 4.0), 4.0).item() for k in range(1, 40)]
    assert losses == sorted(losses)
    assert losses[0] > 0
    assert losses[-1] == pytest.approx(soft_target_loss(student, teacher, 4.0).item())


def test_gradient_is_right_and_zero_at_equality():
    teacher = torch.randn(4, 6).double()
    told = top_logits(teacher, 2, 3.0)
    assert torch.autograd.gradcheck(
        lambda s: top_soft_target_loss(s, told, 3.0), torch.randn(4, 6).double().requires_grad_()
    )
    student = teacher.clone().requires_grad_()
    loss = top_soft_target_loss(student, told, 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert student.grad.abs().max() < 1e-12


def test_extreme_logits_stay_finite():
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = top_soft_target_loss(student, top_logits(-student.detach(), 1, 1.0), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(("classes", "dtype"), [(32767, torch.int16), (32768, torch.int32)])
def test_classes_are_kept_in_as_few_bytes_as_hold_them(classes, dtype):
    told = top_logits(torch.arange(classes).float()[None], 2, 4.0)
    assert told.classes.dtype == dtype
    assert told.classes.tolist() == [[classes - 1, classes - 2]]
    assert told.values.tolist() == [[classes - 1, classes - 2]]


def test_the_strategy_keeps_that_alone(setup, outputs, step):
    strategy = SoftTargets(setup(classes=(10, 10)), top_k=3, temperature=2.0, alpha=0.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    reduced = strategy.reduce(Outputs({"logits": teacher.logits}))
    assert {name: tuple(value.shape) for name, value in reduced.values.items()} == {
        "values": (4, 3),
        "classes": (4, 3),
        "rest": (4, 1),
    }
    assert strategy.reduction().keys() == reduced.values.keys()
    terms = step(strategy, student, teacher)
    expected = 0.5 * top_soft_target_loss(student.logits, top_logits(teacher.logits, 3, 2.0), 2.0)
    torch.testing.assert_close(terms["soft"], expected)


@pytest.mark.parametrize("top_k", [0, 2, 3, 100])
def test_it_is_the_whole_loss_where_nothing_is_joined(top_k, setup, outputs, step):
    strategy = SoftTargets(setup(), top_k=top_k)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    assert strategy.reduction() == {"logits": "logits"}
    expected = 0.9 * soft_target_loss(student.logits, teacher.logits, 4.0)
    torch.testing.assert_close(step(strategy, student, teacher)["soft"], expected)


def test_temperatures_that_differ_have_texts_that_differ(setup):
    """They name what the bank keeps, and what is kept depends on all digits."""
    texts = {
        SoftTargets(setup(classes=(10, 10)), top_k=3, temperature=temperature).reduction()["rest"]
        for temperature in (4.0, 4.0000001, 4.0000002)
    }
    assert len(texts) == 3
