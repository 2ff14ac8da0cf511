from __future__ import annotations

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps, pooled

from kdzoo import PairError
from kdzoo_zoo.feature.catkd import ClassAttentionTransfer
from kdzoo_zoo.functional import class_activation_map, class_attention_loss


def naive(student_map, teacher_map, size, normalize):
    def attention(fmap):
        rows = []
        for row in pooled(fmap, size, size).flatten(0, 1).flatten(1):
            rows.append(row / row.norm() if normalize else row)
        return torch.stack(rows)

    difference = attention(student_map) - attention(teacher_map)
    return sum(x * x for x in difference.flatten()) / difference.numel()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(("one", "other"), [((4, 4), (2, 2)), ((1, 1), (3, 5))])
def test_equals_the_naive_loop(normalize, size, one, other):
    arguments = {"student_map": maps(2, 3, *one), "teacher_map": maps(2, 3, *other)}
    assert_equals_naive(class_attention_loss, naive, **arguments, size=size, normalize=normalize)


def test_equals_the_value_computed_by_hand():
    # (0.6, 0.8, 0, 0) against (0.8, 0.6, 0, 0).
    student, teacher = (torch.tensor([[[[a, b], [0.0, 0.0]]]]) for a, b in ((3.0, 4.0), (4.0, 3.0)))
    assert class_attention_loss(student, teacher, 2, normalize=True).item() == pytest.approx(0.02)
    assert class_attention_loss(student, teacher, 2, normalize=False).item() == pytest.approx(0.5)


@pytest.mark.parametrize("normalize", [False, True])
def test_is_sound_and_zero_at_equality(normalize):
    student = maps(2, 3, 4, 4)

    def loss(student_map, teacher_map):
        return class_attention_loss(student_map, teacher_map, 2, normalize)

    assert_sound(loss, student_map=student, teacher_map=maps(2, 3, 4, 4))
    found = loss(student, student.detach())
    found.backward()
    assert found == 0
    assert not student.grad.any()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="batch and classes"):
        class_attention_loss(torch.zeros(2, 4, 2, 2), torch.zeros(2, 1, 2, 2), 2, normalize=True)


def test_the_means_of_the_maps_are_the_logits():
    fmap, weight = torch.randn(2, 5, 3, 4), torch.randn(7, 5)
    means = class_activation_map(fmap, weight).mean(dim=(2, 3))
    torch.testing.assert_close(means, fmap.mean(dim=(2, 3)) @ weight.T)


@pytest.fixture
def strategy(setup):
    return ClassAttentionTransfer(setup(teacher=((8, 8, 8), (12, 3, 3)), pooled=(True, True)))


def test_compares_the_maps_before_pooling(strategy, outputs, step):
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    whole = [class_activation_map(x.stages[-1], x.classifier.weight) for x in (student, teacher)]
    torch.testing.assert_close(terms["attention"], 15 * class_attention_loss(*whole, 2, normalize=True))
    assert student.stages[2].grad.abs().sum() > 0
    assert student.classifier.weight.grad.abs().sum() > 0


def test_the_student_predicts_without_its_bias(strategy, outputs):
    student = outputs(strategy.setup.student, 4)
    expected = student.embedding @ student.classifier.weight.T
    torch.testing.assert_close(strategy.predict(student), expected)


def test_pairs_that_have_no_activation_maps_are_refused(setup):
    with pytest.raises(PairError, match="the student's head"):
        ClassAttentionTransfer(setup(pooled=(False, True)))
    with pytest.raises(PairError, match="the teacher's head"):
        ClassAttentionTransfer(setup(pooled=(True, False)))
    with pytest.raises(PairError, match="3 classes and the teacher 4"):
        ClassAttentionTransfer(setup(classes=(3, 4), pooled=(True, True)))
    with pytest.raises(PairError, match="a single position"):
        ClassAttentionTransfer(setup(pooled=(True, True)))
    assert ClassAttentionTransfer(setup(pooled=(True, True)), normalize=False)
