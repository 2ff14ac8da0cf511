from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from logit_losses import agrees, draw, ignores_an_offset, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import curriculum_temperature_loss, soft_target_loss
from kdzoo_zoo.response.ctkd import CurriculumTemperature, temperature_reversal
from kdzoo_zoo.response.distributions import divergence


def naive(student_logits, teacher_logits, raw_temperature, reversal, start=1.0, span=20.0):
    """With the gradient as it is, not reversed, but for the factor -1 that stands for a reversal of 1."""
    assert reversal == 1.0
    raw = 2 * raw_temperature.detach() - raw_temperature
    temperature = start + span / (1 + torch.exp(-raw[0]))
    total = 0.0
    for own, theirs in zip(student_logits, teacher_logits, strict=True):
        p, q = softmax(theirs, temperature), softmax(own, temperature)
        total = total + sum(t * (t / s).log() for t, s in zip(p, q, strict=True))
    return temperature**2 * total / len(student_logits)


def inputs(samples, classes, raw=0.3):
    logits = {name: value for name, value in draw(samples, classes).items() if name != "target"}
    return logits | {"raw_temperature": torch.tensor([raw], dtype=torch.float64, requires_grad=True), "reversal": 1.0}


@pytest.mark.parametrize("shape", [(1, 2), (5, 4)])
@pytest.mark.parametrize("raw", [-3.0, 0.0, 1.0])
@pytest.mark.parametrize("bounds", [{}, {"start": 2.0, "span": 5.0}])
def test_equals_the_naive_loop(shape, raw, bounds):
    agrees(curriculum_temperature_loss, naive, inputs(*shape, raw) | bounds)


def test_value_is_that_of_soft_targets_at_its_temperature():
    given = inputs(4, 3, raw=1.0)
    temperature = 1 + 20 / (1 + math.exp(-1))
    assert temperature == pytest.approx(15.6, abs=0.05)
    loss = curriculum_temperature_loss(**given)
    assert loss.shape == ()
    torch.testing.assert_close(loss, soft_target_loss(given["student_logits"], given["teacher_logits"], temperature))


@pytest.mark.parametrize("reversal", [0.0, 0.25, 2.0])
def test_the_gradient_of_the_temperature_alone_is_reversed(reversal):
    given = inputs(4, 3)
    leaves = [given["student_logits"], given["raw_temperature"]]
    one, other = (
        torch.autograd.grad(curriculum_temperature_loss(**given | {"reversal": factor}), leaves)
        for factor in (1.0, reversal)
    )
    torch.testing.assert_close(other[0], one[0])
    torch.testing.assert_close(other[1], reversal * one[1])


def test_precision_and_extremes():
    keeps_precision(curriculum_temperature_loss, inputs(6, 5))
    for raw in (-1e4, 0.0, 1e4):
        stays_finite(lambda s, t, raw=raw: curriculum_temperature_loss(s, t, torch.tensor([raw]), 1.0))


def test_an_offset_of_all_logits_costs_no_digits():
    ignores_an_offset(lambda s, t: curriculum_temperature_loss(s, t, torch.tensor([0.3], dtype=s.dtype), 1.0))


def test_nor_does_it_cost_digits_of_the_gradient_in_the_temperature():
    student, teacher = ((64 * 3 * torch.randn(5, 6)).round() / 64 for _ in range(2))
    found = []
    for dtype, offset in ((torch.float64, 0.0), (torch.float32, 1e4)):
        raw = torch.tensor([0.3], dtype=torch.float32).to(dtype).requires_grad_()
        loss = curriculum_temperature_loss(student.to(dtype) + offset, teacher.to(dtype) - offset, raw, 1.0)
        found.append(torch.autograd.grad(loss, raw)[0].double())
    # Its parts, from T^2 and from the softmaxes, nearly cancel.
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("besides", [None, torch.tensor([1, 0, 2])])
def test_the_gradient_of_a_mass_in_the_temperature_is_right(besides):
    """No loss of the zoo has it: the mass is log sum exp(z / T), whose derivative by T is - (mean of z) / T^2."""
    student, teacher = (torch.randn(3, 4, dtype=torch.float64) for _ in range(2))
    temperatures = [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (2.0, 3.0)]
    masses = divergence(student, teacher, *temperatures, besides=besides)[1:]
    for mass, logits, temperature in zip(masses, (student, teacher), temperatures, strict=True):
        expected = 0.0
        for row in range(3):
            counting = [logits[row, c] for c in range(4) if besides is None or c != besides[row]]
            shares = softmax(counting, temperature.detach())
            expected -= sum(p * z for p, z in zip(shares, counting, strict=True)) / temperature.detach() ** 2
        (found,) = torch.autograd.grad(mass.sum(), temperature, retain_graph=True)
        torch.testing.assert_close(found, expected)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        curriculum_temperature_loss(torch.zeros(4, 3), torch.zeros(1, 3), torch.ones(1), 1.0)
    with pytest.raises(ValueError, match="raw_temperature is one number"):
        curriculum_temperature_loss(torch.zeros(4, 3), torch.zeros(4, 3), torch.ones(4), 1.0)


@pytest.mark.parametrize(
    ("epoch", "epochs", "expected"),
    [
        (0, 240, (1 - math.cos(math.pi / 10)) / 2),
        (4, 240, 0.5),
        (8, 240, (1 - math.cos(0.9 * math.pi)) / 2),
        (9, 240, 1.0),
        (239, 240, 1.0),
        (0, 5, 1.0),
    ],
)
def test_the_curriculum_is_a_cosine_of_the_epoch(epoch, epochs, expected, batch):
    now = replace(batch(1), epoch=epoch, epochs=epochs)
    assert temperature_reversal(now, 10 / 240) == pytest.approx(expected)


def test_strategy_trains_its_temperature_against_the_student(setup, outputs, step):
    strategy = CurriculumTemperature(setup(), beta=0.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    expected = 0.5 * curriculum_temperature_loss(student.logits, teacher.logits, torch.ones(1), 1.0)
    torch.testing.assert_close(terms, {"ctkd": expected})
    assert strategy.ce_weight == 0.1
    (raw,) = strategy.parameters()
    with torch.no_grad():
        raw -= 0.1 * raw.grad  # what the optimizer does
    assert curriculum_temperature_loss(student.logits, teacher.logits, raw, 1.0) > terms["ctkd"] / 0.5


def test_a_teacher_of_other_classes_is_refused(setup):
    with pytest.raises(PairError, match=r"ctkd .* student has 3 classes and the teacher 1000"):
        CurriculumTemperature(setup(classes=(3, 1000)))
