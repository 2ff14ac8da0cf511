from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from naive_compare import assert_finite, assert_precisions, assert_same

from kdzoo_zoo.feature.itrd import InformationTheoretic
from kdzoo_zoo.functional import information_correlation_loss, information_mutual_loss


def naive_correlation(student, teacher, alpha):
    batch, width = student.shape
    total = torch.zeros((), dtype=torch.float64)
    for d in range(width):
        standard = []
        for x in (student, teacher):
            mean = sum(x[b, d] for b in range(batch)) / batch
            deviation = (sum((x[b, d] - mean) ** 2 for b in range(batch)) / (batch - 1)) ** 0.5
            standard.append([(x[b, d] - mean) / deviation for b in range(batch)])
        c = sum(s * t for s, t in zip(*standard, strict=True)) / batch
        total = total + ((c - 1) ** 2) ** alpha
    return total.log2()


def naive_mutual(student, teacher):
    batch = len(student)

    def unit(x):
        return [[v / sum(w**2 for w in row) ** 0.5 for v in row] for row in x]

    def gram(rows):
        return [[sum(v * w for v, w in zip(one, other, strict=True)) for other in rows] for one in rows]

    def purity(matrix):
        trace = sum(matrix[i][i] for i in range(batch))
        return sum((matrix[i][j] / trace) ** 2 for i in range(batch) for j in range(batch))

    own, theirs = gram(unit(student)), gram(unit(teacher))
    joint = [[own[i][j] * theirs[i][j] for j in range(batch)] for i in range(batch)]
    return purity(own) - purity(joint)


@pytest.mark.parametrize("alpha", [0.75, 1.01, 1.5])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_the_correlation_equals_the_naive_loop(alpha, batch_size):
    pair = torch.randn(batch_size, 3), torch.randn(batch_size, 3)
    assert_same(partial(information_correlation_loss, alpha=alpha), partial(naive_correlation, alpha=alpha), *pair)


@pytest.mark.parametrize(("batch_size", "widths"), [(1, (3, 3)), (4, (3, 5)), (5, (2, 2))])
def test_the_mutual_information_equals_the_naive_loop(batch_size, widths):
    assert_same(information_mutual_loss, naive_mutual, *(torch.randn(batch_size, width) for width in widths))


def test_equal_the_values_computed_by_hand():
    # Two samples, standardised, are +-sqrt(1/2): c is 1/2 where both rise, -1/2 where one falls.
    pair = torch.tensor([[0.0, 0.0], [7.0, 7.0]]), torch.tensor([[3.0, 3.0], [4.0, -4.0]])
    assert information_correlation_loss(*pair, alpha=2.0).item() == pytest.approx(math.log2(1 / 16 + 81 / 16))
    # The student's samples are at right angles, the teacher's alike: G = J = 1, of trace 2.
    assert information_mutual_loss(torch.eye(2), torch.ones(2, 1)).item() == pytest.approx(0.0)
    assert information_mutual_loss(torch.ones(2, 1), torch.eye(2)).item() == pytest.approx(0.5)


def test_precision_and_finiteness():
    pair = torch.randn(6, 4), torch.randn(6, 4)
    dead = torch.cat([pair[0][:, :2], torch.zeros(6, 1), torch.full((6, 1), 0.1)], dim=1)
    for loss in (partial(information_correlation_loss, alpha=1.01), information_mutual_loss):
        assert_precisions(loss, *pair)
        for student in (pair[0][:1], torch.zeros(6, 4), 1e4 * pair[0], pair[1], dead):
            assert_finite(loss, student, pair[1][: len(student)])
            assert_finite(loss, pair[1][: len(student)], student)


def test_a_constant_dimension_counts_as_uncorrelated():
    student, teacher = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    student[:, 1] = 0.3
    teacher[:, 0] = student[:, 0]
    loss = information_correlation_loss(student, teacher, alpha=1.0)
    assert loss.item() == pytest.approx(torch.tensor(1 + (1 / 5) ** 2, dtype=torch.float64).log2().item())


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="embeddings of student and teacher"):
        information_correlation_loss(torch.zeros(2, 3), torch.zeros(2, 1), 1.01)
    with pytest.raises(ValueError, match="batch of student and teacher"):
        information_mutual_loss(torch.zeros(2, 3), torch.zeros(1, 3))


def test_the_terms_and_their_weights(setup, outputs, step):
    strategy = InformationTheoretic(setup(), correlation=3.0, mutual=0.5, alpha=1.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    adapted = strategy.adapter(student.embedding)
    torch.testing.assert_close(terms["correlation"], 3 * information_correlation_loss(adapted, teacher.embedding, 1.5))
    torch.testing.assert_close(terms["mutual"], 0.5 * information_mutual_loss(adapted, teacher.embedding))
    assert set(step(InformationTheoretic(setup(), correlation=0.0), student, teacher)) == {"mutual"}
    assert set(step(InformationTheoretic(setup(), mutual=0.0), student, teacher)) == {"correlation"}
