from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import refined_logit_loss
from kdzoo_zoo.response.rld import RefinedLogits

WEIGHTS = {"alpha": 2.0, "beta": 3.0, "temperature": 4.0, "alpha_temperature": 1.5}


def naive(student_logits, teacher_logits, target, alpha, beta, temperature, alpha_temperature):
    confidence = ranking = 0.0
    for own, theirs, y in zip(student_logits, teacher_logits, target.tolist(), strict=True):
        p, q = max(softmax(theirs, alpha_temperature)), softmax(own, alpha_temperature)[y]
        confidence = confidence + p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        below = [c for c in range(len(own)) if theirs[c] < theirs[y]]
        if below:
            p, q = (softmax(row[below], temperature) for row in (theirs, own))
            ranking = ranking + sum(a * (a / b).log() for a, b in zip(p, q, strict=True))
    return (alpha_temperature**2 * alpha * confidence + temperature**2 * beta * ranking) / len(target)


@pytest.mark.parametrize("shape", [(1, 2), (6, 3), (9, 7)])
@pytest.mark.parametrize("weights", [WEIGHTS, WEIGHTS | {"alpha": 0.0}, WEIGHTS | {"beta": 0.0}])
def test_equals_the_naive_loop(shape, weights):
    inputs = draw(*shape)
    ranks = (inputs["teacher_logits"] < inputs["teacher_logits"].gather(1, inputs["target"][:, None])).sum(dim=1)
    assert shape == (1, 2) or {0, shape[1] - 1} <= set(ranks.tolist())  # an empty set, and all but the label
    if weights["alpha"] == 0 and shape == (1, 2):
        return  # of two classes a single one is below, and nothing depends on the logits
    agrees(refined_logit_loss, naive, inputs | weights)


def test_equals_the_value_computed_by_hand():
    # Teacher (1, 2, 4, 8) / 15, label 2: below it are (1, 2), of which the student gives (1/2, 1/2) of its half.
    student, teacher = torch.zeros(1, 4), torch.tensor([[1.0, 2.0, 4.0, 8.0]]).log()
    label = torch.tensor([2])
    p, q = 8 / 15, 1 / 4
    confidence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    ranking = math.log(2) + (math.log(1 / 3) + 2 * math.log(2 / 3)) / 3
    found = refined_logit_loss(student, teacher, label, 1.0, 10.0, 1.0, 1.0)
    assert found.item() == pytest.approx(confidence + 10 * ranking, rel=1e-5)


def test_equal_logits_are_not_below_the_label():
    # All equal: no class is below, and the sample counts as 0 in the mean.
    student, teacher = torch.randn(2, 3, requires_grad=True), torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    found = refined_logit_loss(student, teacher, torch.tensor([0, 1]), 0.0, 1.0, 1.0, 1.0)
    alone = refined_logit_loss(student[1:], teacher[1:], torch.tensor([1]), 0.0, 1.0, 1.0, 1.0)
    torch.testing.assert_close(found, alone / 2)
    (slope,) = torch.autograd.grad(found, student)
    assert (slope[0] == 0).all()


def test_a_student_that_equals_a_teacher_who_is_right_has_nothing_to_learn():
    teacher = 3 * torch.randn(6, 4)
    student = teacher.clone().requires_grad_()
    loss = refined_logit_loss(student, teacher, teacher.argmax(dim=1), **WEIGHTS)
    loss.backward()
    assert loss == 0
    assert student.grad.abs().max() < 1e-5


def test_precision_and_extremes():
    keeps_precision(refined_logit_loss, draw(6, 5) | WEIGHTS)
    for label in (0, 3):
        stays_finite(lambda s, t, label=label: refined_logit_loss(s, t, torch.tensor([label]), 1.0, 8.0, 1.0, 1.0))


def test_what_cannot_be_compared_is_refused(setup):
    label = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        refined_logit_loss(torch.zeros(4, 3), torch.zeros(1, 3), label, **WEIGHTS)
    with pytest.raises(ValueError, match="at least two classes"):
        refined_logit_loss(torch.zeros(4, 1), torch.zeros(4, 1), label, **WEIGHTS)
    with pytest.raises(PairError, match=r"rld .* student has 3 classes and the teacher 1000"):
        RefinedLogits(setup(classes=(3, 1000)))


@pytest.mark.parametrize(("epoch", "factor"), [(0, 0.05), (19, 1.0), (200, 1.0)])
def test_its_weight_rises_over_the_first_epochs(epoch, factor, setup, outputs, batch):
    strategy = RefinedLogits(setup(), **WEIGHTS)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    now = replace(batch(4), epoch=epoch, epochs=240)
    expected = factor * refined_logit_loss(student.logits, teacher.logits, now.labels, **WEIGHTS)
    torch.testing.assert_close(strategy(student, teacher, now), {"rld": expected})
