from __future__ import annotations

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import Batch, PairError
from kdzoo_zoo.functional import (
    batch_correlation_loss,
    class_correlation_loss,
    multi_level_loss,
    soft_target_loss,
)
from kdzoo_zoo.response.mlkd import MultiLevel

CORRELATIONS = [batch_correlation_loss, class_correlation_loss]


def logits(samples, classes, scale=2.0):
    inputs = draw(samples, classes, scale)
    del inputs["target"]
    return inputs


def naive_batch(student_logits, teacher_logits, temperature):
    q, p = ([softmax(row, temperature) for row in each] for each in (student_logits, teacher_logits))
    total, samples = 0.0, range(len(q))
    for i in samples:
        for j in samples:
            own, theirs = (sum(a * b for a, b in zip(each[i], each[j], strict=True)) for each in (q, p))
            total = total + (own - theirs) ** 2
    return total / len(q)


def naive_class(student_logits, teacher_logits, temperature):
    q, p = ([softmax(row, temperature) for row in each] for each in (student_logits, teacher_logits))
    total, classes = 0.0, range(len(q[0]))
    for i in classes:
        for j in classes:
            own, theirs = (sum(row[i] * row[j] for row in each) for each in (q, p))
            total = total + (own - theirs) ** 2
    return total / len(q[0])


@pytest.mark.parametrize(("loss", "naive"), [*zip(CORRELATIONS, [naive_batch, naive_class], strict=True)])
@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (5, 3), (4, 4)])  # fewer samples than classes, and more
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_correlations_equal_the_naive_loops(loss, naive, shape, temperature):
    agrees(loss, naive, logits(*shape) | {"temperature": temperature})


@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (5, 3)])
def test_the_sum_equals_the_naive_loop(shape):
    def naive(student_logits, teacher_logits, temperatures):
        pair, total = (student_logits, teacher_logits), 0.0
        for temperature in temperatures:
            soft = soft_target_loss(*pair, temperature)
            total = total + soft + naive_batch(*pair, temperature) + naive_class(*pair, temperature)
        return total

    agrees(multi_level_loss, naive, logits(*shape) | {"temperatures": (4.0, 2.0, 1.0)})


def test_equals_the_value_computed_by_hand():
    # Student (1/2, 1/2) twice, its Grams all 1/2; the teacher's are the identity.
    student, teacher = torch.zeros(2, 2), torch.tensor([[100.0, 0.0], [0.0, 100.0]])
    for loss in CORRELATIONS:
        assert loss(student, teacher, 1.0).item() == pytest.approx(4 * 0.25 / 2)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_is_zero_at_equality_with_zero_gradient_and_never_below(shape):
    student = (5 * torch.randn(shape)).requires_grad_()
    loss = multi_level_loss(student, student.detach().clone(), (4.0, 2.0))
    loss.backward()
    assert loss == 0
    assert student.grad.abs().max() < 1e-5
    for loss in CORRELATIONS:
        for close in (1.0, 1e-2, 1e-4):
            assert loss(student, student + close * torch.randn(shape), 1.0) >= 0


def test_precision_and_extremes():
    for shape in ((6, 5), (5, 6)):
        keeps_precision(multi_level_loss, logits(*shape) | {"temperatures": (4.0, 2.0)})
        for loss in CORRELATIONS:
            keeps_precision(loss, logits(*shape) | {"temperature": 2.0})
    stays_finite(lambda s, t: multi_level_loss(s, t, (1.0, 4.0)))
    stays_finite(lambda s, t: multi_level_loss(torch.cat([s, t]), torch.cat([t, -s]), (1.0, 4.0)))


def test_what_cannot_be_compared_is_refused(setup):
    for loss, last in [*((each, 1.0) for each in CORRELATIONS), (multi_level_loss, [1.0])]:
        with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
            loss(torch.zeros(4, 3), torch.zeros(1, 3), last)
    with pytest.raises(ValueError, match="at least one temperature"):
        multi_level_loss(torch.zeros(4, 3), torch.zeros(4, 3), [])
    with pytest.raises(PairError, match=r"mlkd .* student has 3 classes and the teacher 1000"):
        MultiLevel(setup(classes=(3, 1000)))


def test_each_temperature_counts_once_and_labels_get_the_rest(setup, outputs, batch):
    strategy = MultiLevel(setup(), temperature=3.0, alpha=0.75)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    expected = 0.75 * multi_level_loss(student.logits, teacher.logits, (2.0, 3.0, 5.0, 6.0))
    torch.testing.assert_close(strategy(student, teacher, batch(4)), {"levels": expected})
    assert (strategy.ce_weight, strategy.views) == (0.25, 1)
    assert MultiLevel(setup()).temperatures == [2.0, 3.0, 4.0, 5.0, 6.0]


def test_two_views_are_compared_apart(setup, outputs, batch):
    strategy = MultiLevel(setup(), two_views=True, alpha=1.0)
    assert strategy.views == 2
    student, teacher = outputs(strategy.setup.student, 6), outputs(strategy.setup.teacher, 6)
    halves = zip(student.logits.chunk(2), teacher.logits.chunk(2), strict=True)
    expected = torch.stack([multi_level_loss(*pair, (2.0, 3.0, 4.0, 5.0, 6.0)) for pair in halves]).mean()
    seen: Batch = batch(6)
    torch.testing.assert_close(strategy(student, teacher, seen), {"levels": expected})
