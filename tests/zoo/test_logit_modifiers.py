"""Standardised and sorted logits, and what strategies beside them see."""

from __future__ import annotations

import math

import pytest
import torch

from kdzoo import Outputs, PairError, UsageError
from kdzoo.combining import combine
from kdzoo_zoo.functional import decoupled_loss, soft_target_loss, sort_logits, standardize_logits
from kdzoo_zoo.response.dkd import DecoupledKD
from kdzoo_zoo.response.hard import HardLabels
from kdzoo_zoo.response.ls import StandardizedLogits
from kdzoo_zoo.response.soft import SoftTargets
from kdzoo_zoo.response.sort import SortedLogits


def naive_standard(logits):
    rows = []
    for row in logits:
        mean = sum(row) / len(row)
        deviation = (sum((value - mean) ** 2 for value in row) / (len(row) - 1)).sqrt()
        rows.append(torch.stack([(value - mean) / (1e-7 + deviation) for value in row]))
    return torch.stack(rows)


def naive_sorted(logits, target):
    rows = []
    for row, y in zip(logits, target.tolist(), strict=True):
        others = sorted((c for c in range(len(row)) if c != y), key=lambda c, row=row: -row[c].item())
        values = sorted(row, key=lambda value: -value.item())
        given = dict(zip([y, *others], values, strict=True))
        rows.append(torch.stack([given[c] for c in range(len(row))]))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (4, 8)])
def test_both_equal_the_naive_loops(shape):
    logits, weights = torch.randn(shape, dtype=torch.float64, requires_grad=True), torch.randn(shape).double()
    target = torch.randint(shape[1], shape[:1])
    for found, expected in (
        (standardize_logits(logits), naive_standard(logits)),
        (sort_logits(logits, target), naive_sorted(logits, target)),
    ):
        torch.testing.assert_close(found, expected)
        slopes = [torch.autograd.grad((weights * each).sum(), logits)[0] for each in (found, expected)]
        torch.testing.assert_close(*slopes)


def test_values_computed_by_hand():
    assert standardize_logits(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [pytest.approx([-1, 0, 1], abs=1e-6)]
    half = 1 / math.sqrt(2)
    assert standardize_logits(torch.tensor([[3.0, 9.0]])).tolist() == [pytest.approx([-half, half])]
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0]]).expand(3, 4)
    assert sort_logits(logits, torch.tensor([0, 2, 3])).tolist() == [[4, 3, 2, 1], [3, 2, 4, 1], [3, 2, 1, 4]]
    assert sort_logits(torch.tensor([[5.0, 5.0, 1.0]]), torch.tensor([2])).tolist() == [[5, 1, 5]]


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_row_gives_zeros_without_a_gradient(value, dtype):
    logits = torch.full((2, 7), value, dtype=dtype)
    logits[1] = torch.arange(7)
    logits.requires_grad_()
    found = standardize_logits(logits)
    (found * torch.arange(7)).sum().backward()
    assert (found[0] == 0).all()
    assert (logits.grad[0] == 0).all()
    assert logits.grad[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_becomes_float32_and_extremes_stay_finite(dtype):
    logits = torch.tensor([[1e4, 0.0, -1e4], [50.0, -50.0, 0.0], [1e4, 1e4, 1e4]], dtype=dtype).requires_grad_()
    for found in (standardize_logits(logits), sort_logits(logits, torch.tensor([1, 1, 1]))):
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        (gradient,) = torch.autograd.grad(found.square().sum(), logits)
        assert gradient.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(standardize_logits(logits), standardize_logits(logits.float()))


def make(setup, *kinds, **values):
    return combine(kinds, ["1"] * len(kinds))(setup, **values)


def test_others_see_both_networks_standardised(setup, outputs, step):
    strategy = make(setup(), SoftTargets, DecoupledKD, StandardizedLogits, **{"dkd.warm_up": 0.0, "ce_weight": 0.1})
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    own, theirs = standardize_logits(student.logits), standardize_logits(teacher.logits)
    labels = torch.zeros(4, dtype=torch.int64)
    torch.testing.assert_close(
        terms,
        {
            "soft.soft": 9 * 0.9 * soft_target_loss(own, theirs, 4.0),
            "dkd.dkd": 9 * decoupled_loss(own, theirs, labels, 1.0, 8.0, 4.0),
        },
    )
    assert strategy.ce_weight == 0.1
    assert strategy.predict(student) is student.logits


def test_the_teacher_is_put_right_and_the_student_is_not(setup, outputs, step):
    strategy = make(setup(), SoftTargets, SortedLogits)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    right = sort_logits(teacher.logits, torch.zeros(4, dtype=torch.int64))
    assert not torch.equal(right, teacher.logits)
    torch.testing.assert_close(
        step(strategy, student, teacher), {"soft.soft": 0.9 * soft_target_loss(student.logits, right, 4.0)}
    )


def test_the_bank_keeps_whole_logits_for_them(setup, outputs, batch):
    strategy = make(setup(), HardLabels, SortedLogits)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    kept = strategy.reduce(Outputs({"logits": teacher.logits}))
    assert all(torch.equal(value, teacher.logits) for value in kept.values.values())
    assert strategy.reduction() in ({}, {"hard.logits": "logits", "sort.logits": "logits"})
    expected = 0.5 * torch.nn.functional.cross_entropy(student.logits, torch.zeros(4, dtype=torch.int64))
    for given in (teacher, kept):
        torch.testing.assert_close(strategy(student, given, batch(4)), {"hard.hard": expected})


@pytest.mark.parametrize("kind", [StandardizedLogits, SortedLogits])
def test_they_do_not_stand_alone(kind, setup, outputs, batch):
    with pytest.raises(PairError, match="student has 3 classes and the teacher 1000"):
        kind(setup(classes=(3, 1000)))
    signals = outputs(setup().student, 4)
    with pytest.raises(UsageError, match=f"combine it with one, as in soft\\+{kind.name}"):
        kind(setup())(signals, signals, batch(4))
