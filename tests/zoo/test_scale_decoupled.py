from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from logit_losses import agrees, keeps_precision, softmax, stays_finite

from kdzoo import Outputs, PairError
from kdzoo_zoo.functional import scale_decoupled_loss, soft_target_loss
from kdzoo_zoo.response.sdd import ScaleDecoupled

STAGES = ((8, 8, 8), (12, 4, 4))


def inputs(samples, classes, parts):
    logits = {
        name: (2 * torch.randn(samples, classes, parts, dtype=torch.float64)).requires_grad_()
        for name in ("student_logits", "teacher_logits")
    }
    return logits | {"target": torch.randint(classes, (samples,))}


def naive(student_logits, teacher_logits, target, temperature, complementary=2.0):
    total, (samples, classes, parts) = 0.0, student_logits.shape
    for b in range(samples):
        right = [
            max(range(classes), key=lambda c, b=b, n=n: teacher_logits[b, c, n].item()) == target[b]
            for n in range(parts)
        ]
        for n in range(parts):
            p, q = (softmax(x[b, :, n], temperature) for x in (teacher_logits, student_logits))
            weight = complementary if right[n] != right[0] else 1.0
            total = total + weight * sum(x * (x / y).log() for x, y in zip(p, q, strict=True))
    return temperature**2 * total / (samples * parts)


@pytest.mark.parametrize("shape", [(1, 2, 1), (5, 3, 5), (2, 4, 21)])
@pytest.mark.parametrize("values", [{"temperature": 4.0}, {"temperature": 1.0, "complementary": 3.0}])
def test_equals_the_naive_loop(shape, values):
    agrees(scale_decoupled_loss, naive, inputs(*shape) | values)


def test_equals_the_value_computed_by_hand():
    # Right in the whole, wrong in the first part, right in the second; each divergence is log 2 - H(3/4).
    odds = [[math.log(3), 0.0], [0.0, math.log(3)], [math.log(3), 0.0]]
    teacher = torch.tensor(odds).T[None]
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = scale_decoupled_loss(torch.zeros(1, 2, 3), teacher, torch.tensor([0]), 1.0)
    assert found.item() == pytest.approx((1 + 2 + 1) * divergence / 3, rel=1e-5)


def test_the_whole_alone_is_soft_targets():
    given = inputs(4, 5, 1)
    pair = given["student_logits"].squeeze(2), given["teacher_logits"].squeeze(2)
    torch.testing.assert_close(scale_decoupled_loss(**given, temperature=3.0), soft_target_loss(*pair, 3.0))


def test_is_zero_at_equality_with_zero_gradient():
    student = (5 * torch.randn(6, 4, 5)).requires_grad_()
    loss = scale_decoupled_loss(student, student.detach().clone(), torch.arange(6) % 4, 4.0)
    loss.backward()
    assert loss == 0
    assert student.grad.abs().max() < 1e-5


def test_precision_and_extremes():
    keeps_precision(scale_decoupled_loss, inputs(6, 5, 3) | {"temperature": 4.0})
    stays_finite(
        lambda s, t: scale_decoupled_loss(
            torch.stack([s, t], dim=2), torch.stack([t, -s], dim=2), torch.tensor([0]), 1.0
        )
    )


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"logits .* \(4, 3, 2\) and \(4, 3, 1\)"):
        scale_decoupled_loss(torch.zeros(4, 3, 2), torch.zeros(4, 3, 1), torch.zeros(4, dtype=torch.int64), 1.0)


def test_cells_are_given_to_each_networks_own_last_layer(setup, outputs, batch):
    strategy = ScaleDecoupled(setup(STAGES, ((8, 8, 8), (6, 6, 7)), pooled=(True, True)), alpha=0.5)
    assert (strategy.scales, strategy.ce_weight) == ([2, 4], 0.5)
    student, teacher = outputs(strategy.setup.student, 3, trained=True), outputs(strategy.setup.teacher, 3)

    def answers(network):
        columns = [network.logits]
        for scale in (2, 4):
            pooled = F.adaptive_avg_pool2d(network.stages[-1], scale)
            columns += [
                F.linear(pooled[:, :, row, column], *network.classifier)
                for row in range(scale)
                for column in range(scale)
            ]
        return torch.stack(columns, dim=2)

    assert answers(student).shape == (3, 3, 21)
    labels = batch(3).labels
    expected = {"cells": 0.5 * scale_decoupled_loss(answers(student), answers(teacher), labels, 4.0)}
    kept = strategy.reduce(teacher)
    assert [tuple(cells.shape) for cells in kept.values["cells"]] == [(3, 6, 2, 2), (3, 6, 4, 4)]
    assert strategy.reduction() == {
        "logits": "logits",
        "cells": ("stages.1 pooled to 2x2", "stages.1 pooled to 4x4"),
    }
    for given in (teacher, kept):
        terms = strategy(student, given, batch(3))
        torch.testing.assert_close(terms, expected)
    terms["cells"].backward()
    assert student.classifier.weight.grad.abs().sum() > 0


def test_the_bank_shares_a_map_that_has_the_size_of_its_cells(setup):
    assert ScaleDecoupled(setup(STAGES, STAGES, pooled=(True, True))).reduction()["cells"] == (
        "stages.1 pooled to 2x2",
        "stages.1",
    )


def test_a_scale_finer_than_a_map_is_left_out(setup, outputs, batch):
    strategy = ScaleDecoupled(setup(STAGES, ((8, 8, 8), (6, 2, 3)), pooled=(True, True)))
    assert strategy.scales == [2]
    student, teacher = outputs(strategy.setup.student, 3), outputs(strategy.setup.teacher, 3)
    assert strategy(student, teacher, batch(3))["cells"] > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pooled": (False, True)}, "the student has more than average pooling"),
        ({"pooled": (True, False)}, "the teacher has more than average pooling"),
        ({"pooled": (True, True), "teacher": ((8, 8, 8), (9, 1, 1))}, "single position: raise --img-size"),
        ({"pooled": (True, True), "classes": (3, 9)}, "student has 3 classes and the teacher 9"),
    ],
)
def test_pairs_without_local_answers_are_refused(more, message, setup):
    with pytest.raises(PairError, match=f"sdd .*{message}"):
        ScaleDecoupled(setup(**{"student": STAGES, "teacher": STAGES} | more))


def test_a_last_layer_without_a_bias_is_served(setup, outputs, batch):
    strategy = ScaleDecoupled(setup(STAGES, STAGES, pooled=(True, True)))
    networks = [outputs(each, 3) for each in (strategy.setup.student, strategy.setup.teacher)]
    plain = [
        Outputs(dict(network.values) | {"classifier": network.classifier._replace(bias=None)}) for network in networks
    ]
    assert strategy(*plain, batch(3))["cells"] > 0
