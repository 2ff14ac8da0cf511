from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import decoupled_loss, generalized_decoupled_loss
from kdzoo_zoo.response.gdkd import GeneralizedDecoupledKD

WEIGHTS = {"w0": 1.0, "w1": 2.0, "w2": 8.0, "k": 2, "temperature": 4.0}


def logits(samples, classes):
    inputs = draw(samples, classes)
    del inputs["target"]
    return inputs


def divergence(p, q):
    return sum(a / sum(p) * ((a / sum(p)) / (b / sum(q))).log() for a, b in zip(p, q, strict=True))


def naive(student_logits, teacher_logits, w0, w1, w2, k, temperature):
    total = 0.0
    for own, theirs in zip(student_logits, teacher_logits, strict=True):
        p, q = softmax(theirs, temperature), softmax(own, temperature)
        order = sorted(range(len(p)), key=lambda c: -theirs[c].item())
        (p_top, q_top), (p_rest, q_rest) = (
            ([p[c] for c in part], [q[c] for c in part]) for part in (order[:k], order[k:])
        )
        shares = divergence([sum(p_top), sum(p_rest)], [sum(q_top), sum(q_rest)])
        total = total + w0 * shares + w1 * divergence(p_top, q_top) + w2 * divergence(p_rest, q_rest)
    return temperature**2 * total / len(student_logits)


@pytest.mark.parametrize(("shape", "k"), [((1, 2), 1), ((5, 4), 2), ((3, 7), 5), ((4, 3), 1)])
@pytest.mark.parametrize("weights", [(1.0, 2.0, 8.0), (0.5, 0.0, 1.0)])
def test_equals_the_naive_loop(shape, k, weights):
    agrees(
        generalized_decoupled_loss,
        naive,
        logits(*shape) | dict(zip(("w0", "w1", "w2"), weights, strict=True)) | {"k": k, "temperature": 3.0},
    )


def test_equals_the_values_computed_by_hand():
    # Teacher (4, 4, 2, 1, 1) / 12, two classes set apart; the student 1/5 each.
    student, teacher = torch.zeros(1, 5), torch.tensor([[4.0, 4.0, 2.0, 1.0, 1.0]]).log()
    shares = 2 / 3 * math.log(2 / 3 / (2 / 5)) + 1 / 3 * math.log(1 / 3 / (3 / 5))
    rest = math.log(3) + 0.5 * math.log(0.5) + 0.5 * math.log(0.25)
    found = generalized_decoupled_loss(student, teacher, 1.0, 50.0, 10.0, k=2, temperature=1.0)
    assert found.item() == pytest.approx(shares + 10 * rest, rel=1e-5)


def test_with_one_class_it_is_the_decoupled_loss_of_the_teachers_first():
    inputs = logits(4, 6)
    first = inputs["teacher_logits"].argmax(dim=1)
    found = generalized_decoupled_loss(**inputs, w0=2.0, w1=9.0, w2=3.0, k=1, temperature=2.0)
    torch.testing.assert_close(found, decoupled_loss(**inputs, target=first, alpha=2.0, beta=3.0, temperature=2.0))


def test_is_zero_at_equality_with_zero_gradient():
    student = (5 * torch.randn(6, 7)).requires_grad_()
    loss = generalized_decoupled_loss(student, student.detach().clone(), **WEIGHTS)
    loss.backward()
    assert loss == 0
    assert student.grad.abs().max() < 1e-5


def test_precision_and_extremes():
    keeps_precision(generalized_decoupled_loss, logits(6, 5) | WEIGHTS)
    for k in (1, 2, 3):
        stays_finite(lambda s, t, k=k: generalized_decoupled_loss(s, t, 1.0, 2.0, 8.0, k, 1.0))


def test_what_cannot_be_compared_is_refused(setup):
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        generalized_decoupled_loss(torch.zeros(4, 3), torch.zeros(1, 3), **WEIGHTS)
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k is {k}: of 3 classes"):
            generalized_decoupled_loss(torch.zeros(4, 3), torch.zeros(4, 3), **WEIGHTS | {"k": k})
    with pytest.raises(PairError, match=r"gdkd .* 5 most likely .* dataset has 5"):
        GeneralizedDecoupledKD(setup(classes=(5, 5)))
    with pytest.raises(PairError, match=r"gdkd .* student has 6 classes and the teacher 1000"):
        GeneralizedDecoupledKD(setup(classes=(6, 1000)))


@pytest.mark.parametrize(("epoch", "factor"), [(0, 0.05), (19, 1.0), (200, 1.0)])
def test_its_weight_rises_over_the_first_epochs(epoch, factor, setup, outputs, batch):
    strategy = GeneralizedDecoupledKD(setup(), **WEIGHTS)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    now = replace(batch(4), epoch=epoch, epochs=240)
    expected = factor * generalized_decoupled_loss(student.logits, teacher.logits, **WEIGHTS)
    torch.testing.assert_close(strategy(student, teacher, now), {"gdkd": expected})
