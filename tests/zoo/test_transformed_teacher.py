from __future__ import annotations

import math

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import transformed_teacher_loss, weighted_transformed_teacher_loss
from kdzoo_zoo.response.ttm import TransformedTeacher
from kdzoo_zoo.response.wttm import WeightedTransformedTeacher

both = pytest.mark.parametrize("loss", [transformed_teacher_loss, weighted_transformed_teacher_loss])


def naive_of(loss):
    def naive(student_logits, teacher_logits, gamma):
        total = 0.0
        for own, theirs in zip(student_logits, teacher_logits, strict=True):
            powers, q = [p**gamma for p in softmax(theirs)], softmax(own)
            mass = sum(powers)
            divergence = sum(p / mass * (p / mass / s).log() for p, s in zip(powers, q, strict=True))
            weight = 1.0 if loss is transformed_teacher_loss else mass.detach()
            total = total + weight * divergence
        return total / len(student_logits)

    return naive


def inputs(samples, classes, gamma=0.2):
    logits = {name: value for name, value in draw(samples, classes).items() if name != "target"}
    return logits | {"gamma": gamma}


@both
@pytest.mark.parametrize("shape", [(1, 2), (5, 4)])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0])
def test_equals_the_naive_loop(loss, shape, gamma):
    agrees(loss, naive_of(loss), inputs(*shape, gamma))


def test_equals_the_value_computed_by_hand():
    # The teacher has (9/10, 1/10); to the power 1/2 that is (3, 1) / sqrt(10), so q = (3/4, 1/4) and U = 4 / sqrt(10).
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(9), 0.0]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert transformed_teacher_loss(student, teacher, 0.5).item() == pytest.approx(divergence, rel=1e-5)
    weighted = weighted_transformed_teacher_loss(student, teacher, 0.5)
    assert weighted.item() == pytest.approx(4 / math.sqrt(10) * divergence, rel=1e-5)


@pytest.mark.parametrize(("teacher", "weight"), [([[100.0, 0.0, 0.0]], 1.0), ([[0.0, 0.0, 0.0]], math.sqrt(3))])
def test_samples_of_a_soft_teacher_weigh_more(teacher, weight):
    student, teacher = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor(teacher)
    plain = transformed_teacher_loss(student, teacher, 0.5)
    torch.testing.assert_close(weighted_transformed_teacher_loss(student, teacher, 0.5), weight * plain)


@both
def test_precision_and_extremes(loss):
    keeps_precision(loss, inputs(6, 5))
    for gamma in (0.1, 1.0):
        stays_finite(lambda s, t, gamma=gamma: loss(s, t, gamma))


@both
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        loss(torch.zeros(4, 3), torch.zeros(1, 3), 0.5)


@pytest.mark.parametrize(
    ("kind", "loss", "defaults"),
    [
        (TransformedTeacher, transformed_teacher_loss, (0.1, 45.0)),
        (WeightedTransformedTeacher, weighted_transformed_teacher_loss, (0.2, 4.0)),
    ],
)
def test_strategy_weighs_it(kind, loss, defaults, setup, outputs, step):
    strategy = kind(setup(), gamma=0.5, beta=3.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    assert step(strategy, student, teacher) == {kind.name: 3.0 * loss(student.logits, teacher.logits, 0.5)}
    assert (kind(setup()).gamma, kind(setup()).beta) == defaults
    with pytest.raises(PairError, match=f"{kind.name} .* student has 3 classes and the teacher 1000"):
        kind(setup(classes=(3, 1000)))
