from __future__ import annotations

import math

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import Outputs, PairError
from kdzoo_zoo.functional import hard_label_loss
from kdzoo_zoo.response.hard import HardLabels


def naive(student_logits, teacher_logits):
    total = 0.0 * teacher_logits.sum()
    for own, theirs in zip(student_logits, teacher_logits.tolist(), strict=True):
        total = total - softmax(own)[theirs.index(max(theirs))].log()
    return total / len(student_logits)


def logits(samples, classes):
    return {name: value for name, value in draw(samples, classes).items() if name != "target"}


@pytest.mark.parametrize("shape", [(1, 2), (6, 4)])
def test_equals_the_naive_loop(shape):
    agrees(hard_label_loss, naive, logits(*shape), constant=("teacher_logits",))


def test_equals_the_value_computed_by_hand():
    # The first of two equal logits is the best class: it has 1 / (1 + 3).
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[5.0, 5.0]])
    assert hard_label_loss(student, teacher).item() == pytest.approx(math.log(4))


def test_the_teacher_has_no_gradient():
    inputs = logits(3, 4)
    hard_label_loss(**inputs).backward()
    assert inputs["teacher_logits"].grad is None


def test_precision_and_extremes():
    keeps_precision(hard_label_loss, logits(6, 5))
    stays_finite(hard_label_loss)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        hard_label_loss(torch.zeros(4, 3), torch.zeros(1, 3))


@pytest.mark.parametrize(("classes", "dtype"), [(3, torch.int16), (40_000, torch.int32)])
def test_of_the_teacher_one_number_a_sample_is_kept(classes, dtype, setup, outputs):
    strategy = HardLabels(setup(classes=(classes, classes)))
    teacher = outputs(strategy.setup.teacher, 4)
    kept = strategy.reduce(Outputs({"logits": teacher.logits})).values
    assert kept.keys() == strategy.reduction().keys() == {"best"}
    assert kept["best"].dtype == dtype
    assert kept["best"].tolist() == teacher.logits.argmax(dim=1).tolist()


def test_strategy_weighs_both_labels(setup, outputs, step):
    strategy = HardLabels(setup(), alpha=0.25)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    assert strategy.ce_weight == 0.75
    assert terms == {"hard": 0.25 * hard_label_loss(student.logits, teacher.logits)}
    assert HardLabels(setup()).alpha == 0.5


def test_a_teacher_of_other_classes_is_refused(setup):
    with pytest.raises(PairError, match=r"hard .* student has 3 classes and the teacher 1000"):
        HardLabels(setup(classes=(3, 1000)))
