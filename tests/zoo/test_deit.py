from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from kdzoo import PairError, UsageError
from kdzoo.combining import combine
from kdzoo_zoo.functional import soft_target_loss
from kdzoo_zoo.response.deit import DistillationToken
from kdzoo_zoo.response.soft import SoftTargets


def test_each_head_has_its_teacher(setup, outputs, step):
    strategy = DistillationToken(setup())
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    answers = [row.index(max(row)) for row in teacher.logits.tolist()]
    expected = sum(-head.log_softmax(0)[y] for head, y in zip(student.heads[1], answers, strict=True)) / 4
    torch.testing.assert_close(terms["answer"], 0.5 * expected)
    assert student.heads[0].grad is None
    assert student.heads[1].grad.abs().sum() > 0
    assert strategy.hard_label_logits(student) is student.heads[0]
    assert strategy.predict(student) is student.logits
    assert strategy.ce_weight == 0.5


def test_of_equal_answers_the_first_counts(setup, outputs, batch):
    strategy = DistillationToken(setup(), alpha=1.0)
    student, teacher = outputs(strategy.setup.student, 2), outputs(strategy.setup.teacher, 2)
    teacher.values["logits"].zero_()
    assert strategy(student, teacher, batch(2))["answer"] == F.cross_entropy(student.heads[1], torch.zeros(2).long())


def test_the_soft_form(setup, outputs, batch):
    strategy = DistillationToken(setup(), alpha=0.1, temperature=3.0)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    terms = strategy(student, teacher, batch(4))
    assert terms == {"soft": 0.1 * soft_target_loss(student.heads[1], teacher.logits, 3.0)}
    assert strategy.ce_weight == 0.9


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [50.0, 1e4])
def test_large_logits_are_finite(dtype, size, setup, outputs, step):
    strategy = DistillationToken(setup())
    student, teacher = outputs(strategy.setup.student, 4, dtype), outputs(strategy.setup.teacher, 4, dtype)
    heads = tuple((size * head.sign()).requires_grad_() for head in student.heads)
    student.values["heads"] = heads
    assert step(strategy, student, teacher)["answer"].isfinite()
    assert heads[1].grad.isfinite().all()


@pytest.mark.parametrize("heads", [("fc",), ("head.0", "head.1"), ("a", "b", "b_dist")])
def test_students_without_a_distillation_head_are_refused(heads, setup):
    pair = setup()
    with pytest.raises(PairError, match="class head and a distillation head, and this one has"):
        DistillationToken(replace(pair, student=replace(pair.student, heads=heads)))
    with pytest.raises(PairError, match=r"deit .* classes and the teacher"):
        DistillationToken(setup(classes=(3, 4)))


def test_in_a_combination_labels_train_the_class_head(setup, outputs):
    combined = combine([SoftTargets, DistillationToken], ["1", "1"])(setup())
    student = outputs(combined.setup.student, 4)
    assert combined.hard_label_logits(student) is student.heads[0]
    assert combined.predict(student) is student.logits

    class Other(DistillationToken):
        name = "other"

    with pytest.raises(UsageError, match="both say which logits the labels train"):
        combine([DistillationToken, Other], ["1", "1"])
