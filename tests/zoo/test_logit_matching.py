from __future__ import annotations

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import logit_matching_loss
from kdzoo_zoo.response.logit import LogitMatching


def naive(student_logits, teacher_logits):
    rows = zip(student_logits, teacher_logits, strict=True)
    squares = [(s - t) ** 2 for own, theirs in rows for s, t in zip(own, theirs, strict=True)]
    return sum(squares) / len(squares)


def logits(samples, classes):
    return {name: value for name, value in draw(samples, classes).items() if name != "target"}


@pytest.mark.parametrize("shape", [(1, 2), (5, 3)])
def test_equals_the_naive_loop(shape):
    agrees(logit_matching_loss, naive, logits(*shape))


def test_equals_the_value_computed_by_hand():
    assert logit_matching_loss(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 0.0]])) == 2.5


def test_precision_and_extremes():
    keeps_precision(logit_matching_loss, logits(6, 5))
    stays_finite(logit_matching_loss)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        logit_matching_loss(torch.zeros(4, 3), torch.zeros(1, 3))


def test_strategy_weighs_it(setup, outputs, step):
    strategy = LogitMatching(setup(), beta=0.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    assert terms == {"logit": 0.5 * logit_matching_loss(student.logits, teacher.logits)}
    assert (LogitMatching(setup()).beta, strategy.ce_weight) == (0.1, 1.0)


def test_a_teacher_of_other_classes_is_refused(setup):
    with pytest.raises(PairError, match=r"logit .* student has 3 classes and the teacher 1000"):
        LogitMatching(setup(classes=(3, 1000)))
