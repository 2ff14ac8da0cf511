from __future__ import annotations

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound

from kdzoo import PairError
from kdzoo_zoo.feature.srrl import SoftmaxRegression
from kdzoo_zoo.functional import softmax_regression_loss


def naive(student_embedding, teacher_embedding, classifier_weight, classifier_bias, regression_weight=1.0):
    def logits(embedding):
        rows = []
        for row in embedding:
            scores = [(weights * row).sum() for weights in classifier_weight]
            rows.append(torch.stack(scores) + (0 if classifier_bias is None else classifier_bias))
        return torch.stack(rows)

    features = sum((s - t) ** 2 for s, t in zip(student_embedding.flatten(), teacher_embedding.flatten(), strict=True))
    pairs = zip(logits(student_embedding).flatten(), logits(teacher_embedding).flatten(), strict=True)
    classes = len(student_embedding) * len(classifier_weight)
    return features / student_embedding.numel() + regression_weight * sum((s - t) ** 2 for s, t in pairs) / classes


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("batch_size", "width", "classes"), [(1, 1, 2), (1, 4, 2), (3, 5, 4)])
@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_equals_the_naive_loop(batch_size, width, classes, bias, weight):
    assert_equals_naive(
        softmax_regression_loss,
        naive,
        student_embedding=random(batch_size, width),
        teacher_embedding=random(batch_size, width),
        classifier_weight=random(classes, width),
        classifier_bias=random(classes) if bias else None,
        regression_weight=weight,
    )


def test_equals_the_value_computed_by_hand():
    # Features (1 + 0) / 2; one logit, 2 x 1 apart.
    student, teacher, layer = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])
    assert softmax_regression_loss(student, teacher, layer, torch.tensor([7.0])).item() == 4.5


def test_is_sound_and_zero_at_equality():
    layer = torch.randn(3, 5)
    student = random(4, 5)

    def loss(student_embedding, teacher_embedding):
        return softmax_regression_loss(student_embedding, teacher_embedding, layer.to(student_embedding.dtype), None)

    assert_sound(loss, student_embedding=student, teacher_embedding=random(4, 5))
    found = loss(student, student.detach())
    found.backward()
    assert found == 0
    assert not student.grad.any()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="embeddings"):
        softmax_regression_loss(torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(4, 3), None)


def test_the_adapter_meets_the_teachers_embedding(setup, outputs, step):
    strategy = SoftmaxRegression(setup(), regression=2.0, beta=3.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    adapted = strategy.adapter(student.stages[2]).mean(dim=(2, 3))
    expected = 3 * softmax_regression_loss(adapted, teacher.embedding, *teacher.classifier, 2.0)
    torch.testing.assert_close(terms["regression"], expected)
    assert adapted.shape == (4, 7)
    assert adapted.min() >= 0
    assert strategy.adapter.weight.grad.abs().sum() > 0


def test_a_student_without_stages_is_refused(setup):
    with pytest.raises(PairError, match="map of the student"):
        SoftmaxRegression(setup(student=[]))
