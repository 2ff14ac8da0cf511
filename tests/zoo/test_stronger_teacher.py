from __future__ import annotations

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import dist_loss
from kdzoo_zoo.response.dist import Dist

WEIGHTS = {"beta": 2.0, "gamma": 3.0, "temperature": 4.0}


def logits(samples, classes, scale=2.0):
    inputs = draw(samples, classes, scale)
    del inputs["target"]
    return inputs


def correlation(first, second):
    mean = sum(first) / len(first), sum(second) / len(second)
    a, b = [x - mean[0] for x in first], [x - mean[1] for x in second]
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / ((sum(x**2 for x in a) ** 0.5) * (sum(y**2 for y in b) ** 0.5) + 1e-8)


def naive(student_logits, teacher_logits, beta, gamma, temperature):
    q, p = ([softmax(row, temperature) for row in each] for each in (student_logits, teacher_logits))
    rows = [correlation(own, theirs) for own, theirs in zip(q, p, strict=True)]
    columns = [correlation(own, theirs) for own, theirs in zip(zip(*q, strict=True), zip(*p, strict=True), strict=True)]
    inter, intra = 1 - sum(rows) / len(rows), 1 - sum(columns) / len(columns)
    return temperature**2 * (beta * inter + gamma * intra)


@pytest.mark.parametrize("shape", [(2, 2), (5, 4), (3, 7)])
@pytest.mark.parametrize("weights", [WEIGHTS, {"beta": 1.0, "gamma": 0.0, "temperature": 1.0}])
def test_equals_the_naive_loop(shape, weights):
    agrees(dist_loss, naive, logits(*shape) | weights)


def test_equals_the_value_computed_by_hand():
    # Of three classes (4, 1, 1) / 6 and (1, 1, 4) / 6: deviations (2, -1, -1) and (-1, -1, 2), correlation -3 / 6.
    student, teacher = torch.tensor([[4.0, 1.0, 1.0]]).log(), torch.tensor([[1.0, 1.0, 4.0]]).log()
    assert dist_loss(student, teacher, 1.0, 0.0, 1.0).item() == pytest.approx(1.5, rel=1e-5)


def test_one_sample_has_no_relation_between_samples():
    inputs = logits(1, 5)
    found, without = (dist_loss(**inputs, beta=2.0, gamma=gamma, temperature=2.0) for gamma in (3.0, 0.0))
    torch.testing.assert_close(found, without + 4 * 3)
    for own, theirs in zip(
        *(torch.autograd.grad(each, list(inputs.values())) for each in (found, without)), strict=True
    ):
        torch.testing.assert_close(own, theirs)


def test_only_the_relations_count():
    # The student's deviations are half the teacher's: a perfect correlation.
    teacher = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
    student = (teacher + 1 / 3) / 2
    assert dist_loss(student.log(), teacher.log(), 1.0, 1.0, 1.0).abs() < 1e-5


def test_answers_without_a_deviation_have_a_finite_gradient():
    student = torch.zeros(3, 4, requires_grad=True)
    loss = dist_loss(student, torch.randn(3, 4), **WEIGHTS)
    loss.backward()
    assert loss == 16 * 5
    assert student.grad.isfinite().all()


def test_precision_and_extremes():
    keeps_precision(dist_loss, logits(6, 5) | WEIGHTS)
    stays_finite(lambda s, t: dist_loss(s, t, 2.0, 2.0, 1.0))
    stays_finite(lambda s, t: dist_loss(torch.cat([s, t]), torch.cat([t, -s]), 2.0, 2.0, 1.0))


def test_what_cannot_be_compared_is_refused(setup):
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        dist_loss(torch.zeros(4, 3), torch.zeros(1, 3), **WEIGHTS)
    with pytest.raises(PairError, match=r"dist .* student has 3 classes and the teacher 1000"):
        Dist(setup(classes=(3, 1000)))


def test_the_class_passes_its_weights_on(setup, outputs, batch):
    strategy = Dist(setup(), **WEIGHTS)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    assert strategy(student, teacher, batch(4)) == {"dist": dist_loss(student.logits, teacher.logits, **WEIGHTS)}
    assert strategy.ce_weight == 1.0
