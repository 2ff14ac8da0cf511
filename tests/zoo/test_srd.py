from __future__ import annotations

from functools import partial

import pytest
import torch
from naive_compare import assert_finite, assert_precisions, assert_same

from kdzoo import PairError
from kdzoo_zoo.feature.srd import SimpleRecipe
from kdzoo_zoo.functional import log_power_loss, soft_target_loss


def naive(student, teacher, power):
    batch, width = student.shape
    total = torch.zeros((), dtype=torch.float64)
    for d in range(width):
        normalized = []
        for x in (student, teacher):
            mean = sum(x[b, d] for b in range(batch)) / batch
            variance = sum((x[b, d] - mean) ** 2 for b in range(batch)) / batch
            normalized.append([(x[b, d] - mean) / (variance + 1e-4) ** 0.5 for b in range(batch)])
        for s, t in zip(*normalized, strict=True):
            total = total + abs(s - t) ** power
    return total.log()


@pytest.mark.parametrize("power", [1.0, 2.0, 2.5, 4.0])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_equals_the_naive_loop(power, batch_size):
    pair = torch.randn(batch_size, 3), torch.randn(batch_size, 3)
    assert_same(partial(log_power_loss, power=power), partial(naive, power=power), *pair)


def test_equals_the_value_computed_by_hand():
    # Normalised, but for the epsilon, to 1, -1 and -1, 1: the difference is 2 four times.
    pair = torch.tensor([[30.0, 5.0], [10.0, 9.0]]), torch.tensor([[-8.0, 70.0], [8.0, -70.0]])
    assert log_power_loss(*pair, power=3.0).item() == pytest.approx(torch.tensor(4 * 8.0).log().item(), rel=1e-4)


def test_precision_and_finiteness():
    pair = torch.randn(6, 4), torch.randn(6, 4)
    assert_precisions(log_power_loss, *pair)
    for student in (pair[0][:1], torch.zeros(6, 4), 1e4 * pair[0], pair[1], pair[1] + 1e-9):
        for power in (1.0, 3.0, 4.0):
            assert_finite(partial(log_power_loss, power=power), student, pair[1][: len(student)])


def test_equal_embeddings_have_a_gradient_of_zero():
    embedding = torch.randn(4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(log_power_loss(embedding, embedding.detach()), embedding)
    assert (slope == 0).all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="embeddings of student and teacher"):
        log_power_loss(torch.zeros(2, 3), torch.zeros(2, 1))


def test_the_terms_and_their_weights(setup, outputs, step):
    strategy = SimpleRecipe(setup(), beta=3.0, soft=0.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    projected = strategy.project(student.embedding)
    torch.testing.assert_close(terms["power"], 3 * log_power_loss(projected, teacher.embedding))
    torch.testing.assert_close(terms["soft"], 0.5 * soft_target_loss(student.logits, teacher.logits, 1.0))
    # The layer's bias is normalised away.
    assert strategy.project.weight.grad.abs().sum() > 0
    assert strategy.ce_weight == 1.0


def test_other_classes_are_refused_unless_there_are_no_soft_targets(setup, outputs, step):
    pair = setup(classes=(3, 4))
    with pytest.raises(PairError, match=r"3 classes and the teacher 4: set srd\.soft=0, or"):
        SimpleRecipe(pair)
    assert set(step(SimpleRecipe(pair, soft=0.0), *(outputs(n, 4, trained=True) for n in (pair.student, pair.teacher))))
