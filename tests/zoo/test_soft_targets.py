from __future__ import annotations

import math

import pytest
import torch

from kdzoo import PairError, UsageError
from kdzoo_zoo.functional import soft_target_loss
from kdzoo_zoo.response.soft import SoftTargets


def naive(student, teacher, temperature):
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        s_exp = [math.exp(s / temperature) for s in s_row]
        t_exp = [math.exp(t / temperature) for t in t_row]
        for s, t in zip(s_exp, t_exp, strict=True):
            p_s, p_t = s / sum(s_exp), t / sum(t_exp)
            total += p_t * (math.log(p_t) - math.log(p_s))
    return total / len(student) * temperature**2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 2), (1, 10), (7, 2), (16, 100)])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 16.0])
def test_equals_the_naive_loop(dtype, shape, temperature):
    student, teacher = (3 * torch.randn(shape)).to(dtype), (3 * torch.randn(shape)).to(dtype)
    loss = soft_target_loss(student, teacher, temperature)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(naive(student, teacher, temperature), rel=1e-4)


def test_equals_the_value_computed_by_hand():
    # p_t = (3/4, 1/4), p_s = (1/2, 1/2): KL = log 2 - H(p_t) = 0.1308...; at T = 2 the logits are twice as far apart.
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3), 0.0]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert soft_target_loss(student, teacher, 2.0).item() == pytest.approx(4 * divergence, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_is_zero_at_equality_with_zero_gradient(dtype):
    teacher = (50 * torch.randn(6, 2)).to(dtype)
    student = teacher.clone().requires_grad_()
    loss = soft_target_loss(student, teacher, 4.0)
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad.abs().max() < 1e-6


def test_gradient_is_temperature_times_the_difference_of_probabilities():
    student, teacher = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 4).double()
    soft_target_loss(student, teacher, 3.0).backward()
    expected = 3.0 / 5 * (torch.softmax(student.detach() / 3, 1) - torch.softmax(teacher / 3, 1))
    torch.testing.assert_close(student.grad, expected)
    assert torch.autograd.gradcheck(lambda s: soft_target_loss(s, teacher, 3.0), student)


def test_extreme_logits_stay_finite():
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = soft_target_loss(student, -student.detach(), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert student.grad.isfinite().all()


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        soft_target_loss(torch.zeros(4, 3), torch.zeros(1, 3), 4.0)


def test_strategy_weighs_both_losses(setup, outputs, step):
    strategy = SoftTargets(setup(), temperature=2.0, alpha=0.25)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    assert strategy.ce_weight == 0.75
    assert terms.keys() == {"soft"}
    torch.testing.assert_close(terms["soft"], 0.25 * soft_target_loss(student.logits, teacher.logits, 2.0))
    assert student.logits.grad.abs().sum() > 0


def test_defaults_are_those_of_cifar(setup):
    strategy = SoftTargets(setup())
    assert (strategy.temperature, strategy.alpha, strategy.ce_weight) == (4.0, 0.9, pytest.approx(0.1))


def test_a_teacher_of_other_classes_is_refused(setup):
    with pytest.raises(PairError, match="student has 3 classes and the teacher 1000"):
        SoftTargets(setup(classes=(3, 1000)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, r"soft\.temperature must be a number above 0"),
        ({"alpha": 1.5}, r"soft\.alpha must be a number at least 0 and at most 1"),
        ({"temprature": 2.0}, "did you mean temperature"),
    ],
)
def test_wrong_parameters_are_refused(setup, values, message):
    with pytest.raises(UsageError, match=message):
        SoftTargets(setup(), **values)
