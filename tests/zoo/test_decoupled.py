from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import decoupled_loss, soft_target_loss
from kdzoo_zoo.response.dkd import DecoupledKD


def naive(student_logits, teacher_logits, target, alpha, beta, temperature):
    total = 0.0
    for own, theirs, y in zip(student_logits, teacher_logits, target.tolist(), strict=True):
        p, q = softmax(theirs, temperature), softmax(own, temperature)
        total = total + alpha * (p[y] * (p[y] / q[y]).log() + (1 - p[y]) * ((1 - p[y]) / (1 - q[y])).log())
        for c in range(len(p)):
            if c != y:
                p_c, q_c = p[c] / (1 - p[y]), q[c] / (1 - q[y])
                total = total + beta * p_c * (p_c / q_c).log()
    return temperature**2 * total / len(target)


@pytest.mark.parametrize("shape", [(1, 3), (5, 4), (3, 7)])
@pytest.mark.parametrize("weights", [(1.0, 8.0, 4.0), (1.0, 0.0, 1.0), (0.0, 0.5, 2.0)])
def test_equals_the_naive_loop(shape, weights):
    alpha, beta, temperature = weights
    agrees(decoupled_loss, naive, draw(*shape) | {"alpha": alpha, "beta": beta, "temperature": temperature})


def test_equals_the_value_computed_by_hand():
    # Teacher (1/2, 1/4, 1/4), student (1/3, 1/3, 1/3): the others are alike, the shares are 1/2 and 1/3.
    student, teacher = torch.zeros(1, 3), torch.tensor([[math.log(2), 0.0, 0.0]])
    share = 0.5 * math.log(1.5) + 0.5 * math.log(0.75)
    found = decoupled_loss(student, teacher, torch.tensor([0]), alpha=3.0, beta=7.0, temperature=1.0)
    assert found.item() == pytest.approx(3 * share, rel=1e-5)


def test_is_the_divergence_of_soft_targets_where_the_others_have_the_teachers_share():
    inputs = draw(1, 5)
    share = 1 - (inputs["teacher_logits"] / 3).softmax(dim=1)[0, inputs["target"][0]].item()
    found = decoupled_loss(**inputs, alpha=1.0, beta=share, temperature=3.0)
    torch.testing.assert_close(found, soft_target_loss(inputs["student_logits"], inputs["teacher_logits"], 3.0))


def test_is_zero_at_equality_with_zero_gradient():
    student = (5 * torch.randn(6, 4)).requires_grad_()
    loss = decoupled_loss(student, student.detach().clone(), torch.arange(6) % 4, 1.0, 8.0, 4.0)
    loss.backward()
    assert loss == 0
    assert student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("margins", [(20.0, 40.0), (20.0, 19.0), (19.0, 20.0), (-20.0, -19.0)])
def test_the_labels_share_is_exact_where_the_teacher_is_certain(margins):
    """Two others of equal logits: with 0 and 0, the margin is the label's logit less log 2."""
    found = []
    for dtype in (torch.float64, torch.float32):
        student, teacher = (torch.tensor([[m, 0.0, 0.0]], dtype=dtype, requires_grad=True) for m in margins)
        loss = decoupled_loss(student, teacher, torch.tensor([0]), alpha=1.0, beta=0.0, temperature=1.0)
        slopes = torch.autograd.grad(loss, [student, teacher])
        found.append([each.double() for each in (loss.detach(), *slopes)])
    own, theirs = (1 / (1 + math.exp(math.log(2) - m)) for m in margins)
    rest = [1 / (1 + math.exp(m - math.log(2))) for m in margins]
    expected = theirs * math.log(theirs / own) + rest[1] * math.log(rest[1] / rest[0])
    assert found[0][0].item() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=0)
    assert found[1][0] >= 0


def test_precision_and_extremes():
    weights = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}
    keeps_precision(decoupled_loss, draw(6, 5) | weights)
    for label in (0, 3):
        stays_finite(lambda s, t, label=label: decoupled_loss(s, t, torch.tensor([label]), 1.0, 8.0, 1.0))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((4, 3), (1, 3)), r"logits .* \(4, 3\) and \(1, 3\)"), (((4, 2), (4, 2)), "at least two of them")],
)
def test_what_cannot_be_compared_is_refused(shapes, message):
    student, teacher = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=message):
        decoupled_loss(student, teacher, torch.zeros(4, dtype=torch.int64), 1.0, 1.0, 1.0)


@pytest.mark.parametrize(("epoch", "factor"), [(0, 0.05), (9, 0.5), (19, 1.0), (200, 1.0)])
def test_its_weight_rises_over_the_first_epochs(epoch, factor, setup, outputs, batch):
    strategy = DecoupledKD(setup(), alpha=2.0, beta=3.0, temperature=2.0)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    now = replace(batch(4), epoch=epoch, epochs=240)
    expected = factor * decoupled_loss(student.logits, teacher.logits, now.labels, 2.0, 3.0, 2.0)
    torch.testing.assert_close(strategy(student, teacher, now), {"dkd": expected})


def test_mixed_labels_give_the_one_with_the_largest_share(setup, outputs, batch):
    strategy = DecoupledKD(setup(), warm_up=0.0)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    mixed = replace(batch(4), targets=torch.tensor([[0.4, 0.6, 0.0]] * 4))
    expected = decoupled_loss(student.logits, teacher.logits, torch.ones(4, dtype=torch.int64), 1.0, 8.0, 4.0)
    torch.testing.assert_close(strategy(student, teacher, mixed), {"dkd": expected})


@pytest.mark.parametrize(
    ("classes", "message"),
    [((2, 2), "dkd .* use soft"), ((3, 1000), "dkd .* student has 3 classes and the teacher 1000")],
)
def test_pairs_without_other_classes_are_refused(classes, message, setup):
    with pytest.raises(PairError, match=message):
        DecoupledKD(setup(classes=classes))
