from __future__ import annotations

import math

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import normalized_knowledge_loss
from kdzoo_zoo.response.nkd import NormalizedKD


def naive(student_logits, teacher_logits, target, gamma, temperature):
    total = 0.0
    for own, theirs, y in zip(student_logits, teacher_logits, target.tolist(), strict=True):
        total = total - softmax(theirs)[y] * softmax(own)[y].log()
        p, q = softmax(theirs, temperature), softmax(own, temperature)
        for c in range(len(p)):
            if c != y:
                total = total - gamma * temperature**2 * p[c] / (1 - p[y]) * (q[c] / (1 - q[y])).log()
    return total / len(target)


@pytest.mark.parametrize("shape", [(1, 2), (5, 4), (3, 7)])
@pytest.mark.parametrize("weights", [(3.5, 3.0), (1.5, 1.0)])
def test_equals_the_naive_loop(shape, weights):
    gamma, temperature = weights
    agrees(normalized_knowledge_loss, naive, draw(*shape) | {"gamma": gamma, "temperature": temperature})


def test_equals_the_value_computed_by_hand():
    # Of the label the teacher has 1/2 and the student 1/4; the two others are alike to both.
    student, teacher = torch.tensor([[math.log(2 / 3), 0.0, 0.0]]), torch.tensor([[math.log(2), 0.0, 0.0]])
    found = normalized_knowledge_loss(student, teacher, torch.tensor([0]), gamma=3.0, temperature=1.0)
    assert found.item() == pytest.approx(0.5 * math.log(4) + 3 * math.log(2), rel=1e-5)


def test_precision_and_extremes():
    keeps_precision(normalized_knowledge_loss, draw(6, 5) | {"gamma": 3.5, "temperature": 3.0})
    for label in (0, 3):
        for classes in (2, 4):
            stays_finite(
                lambda s, t, label=label % classes: normalized_knowledge_loss(s, t, torch.tensor([label]), 1.5, 1.0),
                classes,
            )


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        normalized_knowledge_loss(torch.zeros(4, 3), torch.zeros(1, 3), torch.zeros(4, dtype=torch.int64), 1.0, 1.0)


def test_strategy_gives_it_as_it_is(setup, outputs, step):
    strategy = NormalizedKD(setup(), gamma=0.5, temperature=2.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    labels = torch.zeros(4, dtype=torch.int64)
    assert terms == {"nkd": normalized_knowledge_loss(student.logits, teacher.logits, labels, 0.5, 2.0)}
    assert strategy.ce_weight == 1.0


def test_a_teacher_of_other_classes_is_refused(setup):
    with pytest.raises(PairError, match=r"nkd .* student has 3 classes and the teacher 1000"):
        NormalizedKD(setup(classes=(3, 1000)))
