from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import UsageError
from kdzoo_zoo.functional import label_smoothing_loss
from kdzoo_zoo.response.smooth import LabelSmoothing


def inputs(samples, classes):
    given = draw(samples, classes)
    del given["teacher_logits"]
    return given


def naive(student_logits, target, smoothing, others=False):
    total = 0.0
    for row, y in zip(student_logits, target.tolist(), strict=True):
        for c, p in enumerate(softmax(row)):
            spread = (0.0 if c == y else smoothing / (len(row) - 1)) if others else smoothing / len(row)
            total = total - ((1 - smoothing) * (c == y) + spread) * p.log()
    return total / len(target)


@pytest.mark.parametrize("shape", [(1, 2), (5, 4), (3, 7)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("others", [False, True])
def test_equals_the_naive_loop(shape, smoothing, others):
    agrees(label_smoothing_loss, naive, inputs(*shape) | {"smoothing": smoothing, "others": others})


def test_equals_the_value_computed_by_hand():
    logits, label = torch.tensor([[math.log(3), 0.0]]), torch.tensor([0])
    expected = -0.8 * math.log(0.75) - 0.2 * math.log(0.25)
    assert label_smoothing_loss(logits, label, 0.4).item() == pytest.approx(expected, rel=1e-6)
    assert label_smoothing_loss(logits, label, 0.2, others=True).item() == pytest.approx(expected, rel=1e-6)


def test_precision_and_extremes():
    keeps_precision(label_smoothing_loss, inputs(6, 5) | {"smoothing": 0.1})
    stays_finite(lambda s, t: label_smoothing_loss(s, torch.tensor([1]), 0.1))


@pytest.mark.parametrize("others", [False, True])
def test_label_and_term_are_the_loss_together(others, setup, outputs, batch):
    strategy = LabelSmoothing(setup(), smoothing=0.3, others=others)
    student = outputs(strategy.setup.student, 4, trained=True)
    term = strategy(student, outputs(strategy.setup.teacher, 0), batch(4))["uniform"]
    labels = batch(4).labels
    whole = strategy.ce_weight * F.cross_entropy(student.logits, labels) + term
    torch.testing.assert_close(whole, label_smoothing_loss(student.logits, labels, 0.3, others))
    if not others:
        torch.testing.assert_close(whole, F.cross_entropy(student.logits, labels, label_smoothing=0.3))


def test_all_of_the_label_cannot_be_spread(setup):
    with pytest.raises(UsageError, match=r"smooth\.smoothing must be a number at least 0 and below 1"):
        LabelSmoothing(setup(), smoothing=1.0)
