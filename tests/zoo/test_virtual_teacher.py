from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo_zoo.functional import virtual_teacher_loss
from kdzoo_zoo.response.tfkd import TeacherFreeKD


def inputs(samples, classes):
    given = draw(samples, classes)
    del given["teacher_logits"]
    return given


def naive(student_logits, target, correct_probability=0.99, temperature=20.0, soften_student=False):
    total = 0.0
    for row, y in zip(student_logits, target.tolist(), strict=True):
        other = (1 - correct_probability) / (len(row) - 1)
        made_up = torch.tensor([correct_probability if c == y else other for c in range(len(row))], dtype=row.dtype)
        q, p = softmax(made_up, temperature), softmax(row, temperature if soften_student else 1.0)
        total = total + sum(a * (a / b).log() for a, b in zip(q, p, strict=True))
    return total / len(target)


@pytest.mark.parametrize("shape", [(1, 2), (5, 4), (3, 7)])
@pytest.mark.parametrize(
    "values",
    [{}, {"correct_probability": 0.9, "temperature": 1.0}, {"correct_probability": 0.05, "temperature": 0.1}],
)
@pytest.mark.parametrize("soften_student", [False, True])
def test_equals_the_naive_loop(shape, values, soften_student):
    agrees(virtual_teacher_loss, naive, inputs(*shape) | values | {"soften_student": soften_student})


def test_equals_the_value_computed_by_hand():
    # Of three classes u = (0.8, 0.1, 0.1); with T = 0.7 / log 2 the label has twice the weight: q = (1/2, 1/4, 1/4).
    found = virtual_teacher_loss(torch.zeros(1, 3), torch.tensor([0]), 0.8, 0.7 / math.log(2))
    assert found.item() == pytest.approx(math.log(3) - 1.5 * math.log(2), rel=1e-5)


def test_a_student_that_answers_as_the_made_up_teacher_has_nothing_to_learn():
    made_up = torch.tensor([[0.98, 0.01, 0.01]], dtype=torch.float64)
    student = (made_up / 5.0).requires_grad_()
    loss = virtual_teacher_loss(student, torch.tensor([0]), 0.98, 5.0)
    loss.backward()
    assert loss.abs() < 1e-12
    assert student.grad.abs().max() < 1e-12


def test_precision_and_extremes():
    keeps_precision(virtual_teacher_loss, inputs(6, 5))
    stays_finite(lambda s, t: virtual_teacher_loss(s, torch.tensor([1])))
    for share in (0.0, 1.0):
        for temperature in (1e-3, 1e3):
            assert virtual_teacher_loss(torch.randn(3, 4), torch.arange(3), share, temperature).isfinite()
    with pytest.raises(ValueError, match="needs two classes"):
        virtual_teacher_loss(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("soften_student", [False, True])
def test_labels_get_the_rest(soften_student, setup, outputs, batch):
    strategy = TeacherFreeKD(setup(), alpha=0.25, soften_student=soften_student)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 0)
    mixed = replace(batch(4), targets=torch.tensor([[0.4, 0.6, 0.0]] * 4))
    for now, label in ((batch(4), 0), (mixed, 1)):
        labels = torch.full((4,), label)
        expected = 0.25 * virtual_teacher_loss(student.logits, labels, soften_student=soften_student)
        assert strategy(student, teacher, now) == {"virtual": expected}
    assert strategy.ce_weight == 0.75
