from __future__ import annotations

import math

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import entropy_adaptive_loss
from kdzoo_zoo.response.eakd import EntropyAdaptiveKD


def logits(samples, classes):
    inputs = draw(samples, classes)
    del inputs["target"]
    return inputs


def naive(student_logits, teacher_logits, temperature, entropy_temperature=3.0, bound=None):
    total = 0.0
    for own, theirs in zip(student_logits, teacher_logits, strict=True):
        of_student, of_teacher = (
            -sum(x * (x + 1e-10).log() for x in softmax(row.detach(), entropy_temperature)) for row in (own, theirs)
        )
        weight = of_teacher * (1 + of_student / (bound or math.log(len(own)))) / 2
        p, q = softmax(theirs, temperature), softmax(own, temperature)
        total = total + weight * sum(a * (a / b).log() for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student_logits)


@pytest.mark.parametrize("shape", [(1, 2), (5, 4), (3, 7)])
@pytest.mark.parametrize(
    "values",
    [{"temperature": 4.0}, {"temperature": 1.0, "entropy_temperature": 2.0}, {"temperature": 2.0, "bound": 100.0}],
)
def test_equals_the_naive_loop(shape, values):
    agrees(entropy_adaptive_loss, naive, logits(*shape) | values)


def test_equals_the_value_computed_by_hand():
    # Two classes, teacher (3/4, 1/4), student (1/2, 1/2), whose entropy is the largest: the weight is the teacher's.
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    entropy = 2 * math.log(2) - 0.75 * math.log(3)
    found = entropy_adaptive_loss(student, teacher, 1.0, 1.0)
    assert found.item() == pytest.approx(entropy * (math.log(2) - entropy), rel=1e-5)
    halved = entropy_adaptive_loss(student, teacher, 1.0, 1.0, bound=1e9)
    assert halved.item() == pytest.approx(found.item() / 2, rel=1e-5)


def test_is_zero_at_equality_with_zero_gradient():
    student = (5 * torch.randn(6, 4)).requires_grad_()
    loss = entropy_adaptive_loss(student, student.detach().clone(), 4.0)
    loss.backward()
    assert loss == 0
    assert student.grad.abs().max() < 1e-5


def test_precision_and_extremes():
    keeps_precision(entropy_adaptive_loss, logits(6, 5) | {"temperature": 4.0})
    stays_finite(lambda s, t: entropy_adaptive_loss(s, t, 1.0, 1.0))


def test_what_cannot_be_compared_is_refused(setup):
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        entropy_adaptive_loss(torch.zeros(4, 3), torch.zeros(1, 3), 1.0)
    with pytest.raises(PairError, match=r"eakd .* student has 3 classes and the teacher 1000"):
        EntropyAdaptiveKD(setup(classes=(3, 1000)))


@pytest.mark.parametrize(("divisor", "bound"), [("log K", None), ("K", 3.0)])
def test_the_class_passes_its_values_on(divisor, bound, setup, outputs, batch):
    values = {"temperature": 2.0, "entropy_temperature": 5.0}
    strategy = EntropyAdaptiveKD(setup(), **values, divisor=divisor, beta=0.5, ce_weight=0.25)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    expected = 0.5 * entropy_adaptive_loss(student.logits, teacher.logits, **values, bound=bound)
    assert strategy(student, teacher, batch(4)) == {"soft": expected}
    assert strategy.ce_weight == 0.25
