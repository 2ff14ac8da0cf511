from __future__ import annotations

import math

import pytest
import torch
from logit_losses import agrees, draw, ignores_an_offset, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import normalized_temperature_loss
from kdzoo_zoo.response.normkd import NormalizedTemperature


def deviation(row):
    mean = sum(row) / len(row)
    return (sum((value - mean) ** 2 for value in row) / (len(row) - 1)).sqrt()


def naive(student_logits, teacher_logits, scale):
    total = 0.0
    for own, theirs in zip(student_logits, teacher_logits, strict=True):
        p, q = (softmax(row, scale * deviation(row)) for row in (theirs, own))
        divergence = sum(t * (t / s).log() for t, s in zip(p, q, strict=True))
        total = total + (scale * deviation(theirs)) ** 2 * divergence
    return total / len(student_logits)


def inputs(samples, classes, scale=2.0):
    logits = {name: value for name, value in draw(samples, classes).items() if name != "target"}
    return logits | {"scale": scale}


@pytest.mark.parametrize("shape", [(1, 2), (5, 4)])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_equals_the_naive_loop(shape, scale):
    agrees(normalized_temperature_loss, naive, inputs(*shape, scale))


def test_equals_the_value_computed_by_hand():
    # Deviations 1 and 2; p_t = (e, 1, e^2), p_s = (1, e, e^2), each over their sum.
    student, teacher = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0]])
    e = math.e
    found = normalized_temperature_loss(student, teacher, 1.0)
    assert found.item() == pytest.approx(4 * (e - 1) / (1 + e + e**2), rel=1e-5)


def test_a_scale_or_a_shift_of_the_student_changes_nothing():
    given = inputs(4, 5)
    other = given | {"student_logits": 3 * given["student_logits"] + 7}
    torch.testing.assert_close(normalized_temperature_loss(**other), normalized_temperature_loss(**given))


def test_constant_rows_are_refused_or_skipped():
    given = {name: value.detach() for name, value in draw(4, 3).items() if name != "target"} | {"scale": 2.0}
    given["student_logits"][0] = 0.1
    given["teacher_logits"][2] = -0.7
    with pytest.raises(ValueError, match="one value in all classes"):
        normalized_temperature_loss(**given)
    for name in ("student_logits", "teacher_logits"):
        given[name].requires_grad_()
    found = normalized_temperature_loss(**given, skip_constant=True)
    rest = {name: given[name][1::2] for name in ("student_logits", "teacher_logits")}
    torch.testing.assert_close(found, normalized_temperature_loss(**rest, scale=2.0) / 2)
    for gradient in torch.autograd.grad(found, [given["student_logits"], given["teacher_logits"]]):
        assert gradient.isfinite().all()
        assert (gradient[::2] == 0).all()


def test_precision_and_extremes():
    keeps_precision(normalized_temperature_loss, inputs(6, 5))
    stays_finite(lambda s, t: normalized_temperature_loss(s, t, 2.0))


def test_an_offset_of_all_logits_costs_no_digits():
    ignores_an_offset(lambda s, t: normalized_temperature_loss(s, t, 2.0))


@pytest.mark.parametrize("size", [1.0, 1e13, 1e18])
def test_gradients_do_not_depend_on_the_size_of_the_logits(size):
    # The loss is of degree 2 in the teacher's logits and of degree 0 in the student's.
    found = []
    for dtype, factor in ((torch.float64, 1.0), (torch.float32, size)):
        torch.manual_seed(0)
        leaves = [(factor * torch.randn(4, 5, dtype=torch.float64)).to(dtype).requires_grad_() for _ in range(2)]
        loss = normalized_temperature_loss(*leaves, 2.0)
        student, teacher = torch.autograd.grad(loss, leaves)
        found.append([student.double() / factor, teacher.double() / factor])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        normalized_temperature_loss(torch.zeros(4, 3), torch.zeros(1, 3), 2.0)


def test_strategy_weighs_it(setup, outputs, step):
    strategy = NormalizedTemperature(setup(), scale=1.5, beta=3.0, ce_weight=0.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    assert terms == {"normkd": 3.0 * normalized_temperature_loss(student.logits, teacher.logits, 1.5)}
    assert (strategy.ce_weight, NormalizedTemperature(setup()).ce_weight) == (0.5, 0.1)
    with pytest.raises(PairError, match=r"normkd .* student has 3 classes and the teacher 1000"):
        NormalizedTemperature(setup(classes=(3, 1000)))
