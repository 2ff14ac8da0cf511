from __future__ import annotations

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import alpha_beta_loss, soft_target_loss
from kdzoo_zoo.response.abkd import AlphaBetaKD

VALUES = {"alpha": 0.8, "beta": 0.3, "temperature": 4.0}


def logits(samples, classes):
    inputs = draw(samples, classes)
    del inputs["target"]
    return inputs


def naive(student_logits, teacher_logits, alpha, beta, temperature):
    total, both = 0.0, alpha + beta
    for own, theirs in zip(student_logits, teacher_logits, strict=True):
        for q, p in zip(softmax(own, temperature), softmax(theirs, temperature), strict=True):
            total = total + p**alpha * q**beta - alpha / both * p**both - beta / both * q**both
    return -total / (alpha * beta) / len(student_logits)


@pytest.mark.parametrize("shape", [(1, 2), (5, 4), (3, 7)])
@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (1.0, 1.0), (2.0, -0.5), (-0.4, 1.3), (-0.5, -0.5)])
def test_equals_the_naive_loop(shape, alpha, beta):
    agrees(alpha_beta_loss, naive, logits(*shape) | {"alpha": alpha, "beta": beta, "temperature": 3.0})


def test_at_one_and_one_it_is_half_the_squared_distance():
    inputs = logits(5, 4)
    q, p = (inputs[key].softmax(dim=1) for key in ("student_logits", "teacher_logits"))
    expected = (p - q).square().sum(dim=1).mean() / 2
    torch.testing.assert_close(alpha_beta_loss(**inputs, alpha=1.0, beta=1.0, temperature=1.0), expected)


def test_its_limits_are_the_divergences_of_either_direction():
    inputs = logits(5, 4)
    pair = inputs["student_logits"], inputs["teacher_logits"]
    near = {"rtol": 1e-4, "atol": 1e-5}
    forward = alpha_beta_loss(*pair, 1.0 - 1e-6, 1e-6, 2.0)
    torch.testing.assert_close(forward, soft_target_loss(*pair, 2.0) / 4, **near)
    backward = alpha_beta_loss(*pair, 1e-6, 1.0 - 1e-6, 2.0)
    torch.testing.assert_close(backward, soft_target_loss(*reversed(pair), 2.0) / 4, **near)


def test_is_zero_at_equality_with_zero_gradient():
    student = (5 * torch.randn(6, 4)).requires_grad_()
    loss = alpha_beta_loss(student, student.detach().clone(), **VALUES)
    loss.backward()
    assert loss.abs() < 1e-5
    assert student.grad.abs().max() < 1e-5


def test_precision_and_extremes():
    keeps_precision(alpha_beta_loss, logits(6, 5) | VALUES)
    for alpha, beta in ((0.8, 0.3), (0.2, 1.0)):
        stays_finite(lambda s, t, alpha=alpha, beta=beta: alpha_beta_loss(s, t, alpha, beta, 1.0))


def test_what_is_not_defined_is_refused(setup):
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        alpha_beta_loss(torch.zeros(4, 3), torch.zeros(1, 3), **VALUES)
    for alpha, beta in ((0.0, 1.0), (1.0, 0.0), (0.5, -0.5)):
        with pytest.raises(ValueError, match="must not be 0"):
            alpha_beta_loss(torch.zeros(4, 3), torch.zeros(4, 3), alpha, beta, 1.0)
    with pytest.raises(PairError, match=r"abkd .* student has 3 classes and the teacher 1000"):
        AlphaBetaKD(setup(classes=(3, 1000)))


def test_the_class_passes_its_values_on(setup, outputs, batch):
    strategy = AlphaBetaKD(setup(), **VALUES, weight=5.0)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    expected = 5 * alpha_beta_loss(student.logits, teacher.logits, **VALUES)
    assert strategy(student, teacher, batch(4)) == {"divergence": expected}
