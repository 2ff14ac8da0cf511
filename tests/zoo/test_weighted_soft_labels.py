from __future__ import annotations

import math

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import weighted_soft_label_loss
from kdzoo_zoo.response.wsld import WeightedSoftLabels


def naive(student_logits, teacher_logits, target, temperature):
    total = 0.0
    for own, theirs, y in zip(student_logits, teacher_logits, target.tolist(), strict=True):
        hard = [-softmax(row.detach())[y].log().item() for row in (own, theirs)]
        weight = 1 - math.exp(-hard[0] / (hard[1] + 1e-7))
        p, q = softmax(theirs, temperature), softmax(own, temperature)
        total = total - weight * sum(t * s.log() for t, s in zip(p, q, strict=True))
    return temperature**2 * total / len(target)


@pytest.mark.parametrize("shape", [(1, 2), (5, 4)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_naive_loop(shape, temperature):
    agrees(weighted_soft_label_loss, naive, draw(*shape) | {"temperature": temperature})


def test_equals_the_value_computed_by_hand():
    # Label 0: the student has 1/4 of it, the teacher 1/2, so w = 1 - exp(-2); at T = 1 the teacher's answer is even.
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2)
    expected = (1 - math.exp(-2)) * -(0.5 * math.log(0.25) + 0.5 * math.log(0.75))
    assert weighted_soft_label_loss(student, teacher, torch.tensor([0]), 1.0).item() == pytest.approx(expected)


def test_what_the_student_knows_by_its_label_counts_little():
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]), torch.zeros(1, 3)
    known = weighted_soft_label_loss(sure, unsure, torch.tensor([0]), 4.0)
    assert known < 0.01 * weighted_soft_label_loss(sure, unsure, torch.tensor([1]), 4.0)


def test_precision_and_extremes():
    keeps_precision(weighted_soft_label_loss, draw(6, 5) | {"temperature": 4.0})
    for label in (0, 3):
        stays_finite(lambda s, t, label=label: weighted_soft_label_loss(s, t, torch.tensor([label]), 1.0))


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        weighted_soft_label_loss(torch.zeros(4, 3), torch.zeros(1, 3), torch.zeros(4, dtype=torch.int64), 1.0)


def test_strategy_weighs_it(setup, outputs, step):
    strategy = WeightedSoftLabels(setup(), alpha=0.5, temperature=2.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    labels = torch.zeros(4, dtype=torch.int64)
    assert terms == {"wsld": 0.5 * weighted_soft_label_loss(student.logits, teacher.logits, labels, 2.0)}
    assert strategy.ce_weight == 1.0


def test_a_teacher_of_other_classes_is_refused(setup):
    with pytest.raises(PairError, match=r"wsld .* student has 3 classes and the teacher 1000"):
        WeightedSoftLabels(setup(classes=(3, 1000)))
