from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import Classifier, PairError
from kdzoo_zoo.functional import wasserstein_logit_loss
from kdzoo_zoo.response.wkd_l import WassersteinLogits, class_costs

VALUES = {"gamma": 3.0, "temperature": 2.0}


def inputs(samples, classes):
    cost = torch.rand(classes, classes, dtype=torch.float64) - 0.1  # some below 0
    return draw(samples, classes) | {"cost": cost.requires_grad_()}


def naive(student_logits, teacher_logits, target, cost, gamma, temperature, regularization=0.05, iterations=10):
    named = moved = 0.0
    for own, theirs, y in zip(student_logits, teacher_logits, target.tolist(), strict=True):
        named = named - softmax(theirs)[y] * softmax(own)[y].log()
        others = [c for c in range(len(own)) if c != y]
        count = range(len(others))
        p, q = softmax(own[others], temperature), softmax(theirs[others], temperature)
        price = [[torch.relu(cost[i, j]) + 1e-8 for j in others] for i in others]
        kernel = [[torch.exp(-price[i][j] / regularization) for j in count] for i in count]
        u = [torch.tensor(1 / len(others), dtype=own.dtype)] * len(others)
        for _ in range(iterations):
            v = [q[j] / (sum(kernel[i][j] * u[i] for i in count) + 1e-8) for j in count]
            u = [p[i] / (sum(kernel[i][j] * v[j] for j in count) + 1e-8) for i in count]
        moved = moved + sum(u[i] * kernel[i][j] * v[j] * price[i][j] for i in count for j in count)
    return (named + gamma * moved) / len(target)


@pytest.mark.parametrize("shape", [(1, 2), (4, 3), (3, 6)])
@pytest.mark.parametrize("values", [{}, {"regularization": 0.5, "iterations": 3}])
def test_equals_the_naive_loop(shape, values):
    agrees(wasserstein_logit_loss, naive, inputs(*shape) | VALUES | values)


def test_equals_the_value_computed_by_hand():
    # Beside the label (1/2, 1/2) is moved to (1/5, 4/5) at a cost of c. The flow x of the first class to itself solves
    # x (3/10 + x) = e^(2 c / r) (1/2 - x) (1/5 - x), and what moves is 7/10 - 2 x.
    cost, regularization = 0.1, 0.05
    odds = math.exp(2 * cost / regularization)
    a, b, c = odds - 1, -(0.7 * odds + 0.3), 0.1 * odds
    stays = (-b - math.sqrt(b**2 - 4 * a * c)) / (2 * a)
    student, teacher = torch.zeros(1, 3).double(), torch.tensor([[-200.0, 0.0, math.log(4)]]).double()
    prices = cost * (1 - torch.eye(3)).double()
    found = wasserstein_logit_loss(student, teacher, torch.tensor([0]), prices, 1.0, 1.0, regularization, 100)
    assert found.item() == pytest.approx(cost * (0.7 - 2 * stays), rel=1e-5)


def test_the_labels_own_costs_do_not_count():
    given = inputs(1, 4)
    given["target"][0] = 2
    other = given["cost"].detach().clone()
    other[2], other[:, 2] = 5.0, 7.0
    torch.testing.assert_close(
        wasserstein_logit_loss(**given, **VALUES), wasserstein_logit_loss(**given | {"cost": other}, **VALUES)
    )


def test_precision_and_extremes():
    keeps_precision(wasserstein_logit_loss, inputs(6, 5) | VALUES)
    cost = class_costs(Classifier(torch.randn(4, 8), None), 1.0)
    for label in (0, 3):
        for temperature in (1.0, 8.0):
            stays_finite(
                lambda s, t, label=label, temperature=temperature: wasserstein_logit_loss(
                    s, t, torch.tensor([label]), cost, 600.0, temperature
                )
            )


def test_what_does_not_fit_is_refused(setup):
    label, cost = torch.zeros(4, dtype=torch.int64), torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        wasserstein_logit_loss(torch.zeros(4, 3), torch.zeros(1, 3), label, cost, **VALUES)
    with pytest.raises(ValueError, match=r"cost of 4 classes has the shape \(3, 3\)"):
        wasserstein_logit_loss(torch.zeros(4, 4), torch.zeros(4, 4), label, cost, **VALUES)
    with pytest.raises(PairError, match=r"wkd_l .* student has 3 classes and the teacher 1000"):
        WassersteinLogits(setup(classes=(3, 1000)))


def test_costs_are_those_of_the_rows_of_the_last_layer():
    weight = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [1.0, 0.0]])
    cost = class_costs(Classifier(weight, None), kappa=2.0)
    torch.testing.assert_close(cost[0], torch.tensor([0.0, 1 - math.exp(-2), 1 - math.exp(-4), 0.0]))
    assert class_costs(Classifier(torch.zeros(3, 2), None), 1.0).isfinite().all()


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1.0), (149, 1.0), (194, 0.5), (239, 0.0)])
def test_the_transport_loses_weight_in_the_last_epochs(epoch, factor, setup, outputs, batch):
    strategy = WassersteinLogits(setup())
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    now = replace(batch(4), epoch=epoch, epochs=240)
    cost = class_costs(strategy.setup.classifier, 1.0)
    expected = wasserstein_logit_loss(student.logits, teacher.logits, now.labels, cost, factor * 600, 8.0)
    torch.testing.assert_close(strategy(student, teacher, now), {"transport": expected})
    assert set(strategy.reduce(teacher).values) == {"logits"}


def test_without_a_decay_it_keeps_its_weight(setup, outputs, batch):
    strategy = WassersteinLogits(setup(), decay_from=1.0)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    first, last = (strategy(student, teacher, replace(batch(4), epoch=epoch, epochs=10)) for epoch in (0, 9))
    assert first == last
