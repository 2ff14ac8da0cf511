from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps, pooled

from kdzoo import Classifier, PairError
from kdzoo.combining import combine
from kdzoo_zoo.feature.simkd import ReusedClassifier
from kdzoo_zoo.functional import reused_classifier_loss
from kdzoo_zoo.response.soft import SoftTargets


def naive(student_map, teacher_map):
    size = [min(student_map.shape[d], teacher_map.shape[d]) for d in (2, 3)]
    total, count = torch.zeros((), dtype=torch.float64), 0
    for one, other in zip(pooled(student_map, *size).flatten(), pooled(teacher_map, *size).flatten(), strict=True):
        total, count = total + (one - other) ** 2, count + 1
    return total / count


SIZES = [((2, 2), (2, 2)), ((4, 4), (2, 2)), ((3, 2), (5, 5)), ((1, 1), (3, 3))]


@pytest.mark.parametrize(("one", "other"), SIZES)
def test_equals_the_naive_loop(one, other):
    student, teacher = maps(2, 3, *one), maps(2, 3, *other)
    assert_equals_naive(reused_classifier_loss, naive, student_map=student, teacher_map=teacher)


def test_equals_the_value_computed_by_hand_and_is_sound():
    assert reused_classifier_loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 4, 4), 3.0)).item() == 9.0
    assert_sound(reused_classifier_loss, student_map=maps(2, 3, 4, 4), teacher_map=maps(2, 3, 2, 2))


@pytest.fixture
def strategy(setup):
    return ReusedClassifier(setup(teacher=((8, 8, 8), (12, 3, 3)), pooled=(False, True)))


def test_the_student_predicts_by_the_teachers_classifier(strategy, outputs):
    strategy.eval()
    student = outputs(strategy.setup.student, 4)
    weight, bias = strategy.setup.classifier
    means = strategy.projector(student.stages[2]).mean(dim=(2, 3))
    torch.testing.assert_close(strategy.predict(student), means @ weight.T + bias)
    assert strategy.deployed == ("projector", "head")
    assert strategy.ce_weight == 0


def test_the_classifier_stays_and_the_projector_learns(strategy, outputs, step):
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    expected = reused_classifier_loss(strategy.projector(student.stages[2]), teacher.stages[1])
    torch.testing.assert_close(terms["features"], expected)
    assert not any(weight.requires_grad for weight in strategy.head.parameters())
    assert all(weight.grad is not None for weight in strategy.projector.parameters())
    widths = [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in strategy.projector[::3]]
    assert widths == [(8, 6, 1), (6, 6, 3), (6, 12, 1)]


def test_a_classifier_without_a_bias_is_taken(strategy, outputs):
    setup = strategy.setup
    bare = ReusedClassifier(replace(setup, classifier=Classifier(setup.classifier.weight, None))).eval()
    student = outputs(setup.student, 2)
    means = bare.projector(student.stages[2]).mean(dim=(2, 3))
    torch.testing.assert_close(bare.predict(student), means @ setup.classifier.weight.T)


@pytest.mark.parametrize("combined", [False, True])
def test_the_projector_runs_once_in_a_step(combined, strategy, outputs, batch):
    given = [outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)]
    apart = strategy(*given, batch(4))["features"]
    norm, before = strategy.projector[1], strategy.projector[1].num_batches_tracked.item()
    if combined:
        whole = combine((ReusedClassifier, SoftTargets), ("1", "1"))(strategy.setup)
        part = next(iter(whole.each()))
        part.load_state_dict(strategy.state_dict())
        norm, strategy = part.projector[1], whole
        given[1] = strategy.reduce(given[1])
    strategy.predict(given[0])
    terms = strategy(*given, batch(4))
    assert norm.num_batches_tracked.item() == before + 1
    torch.testing.assert_close(terms["simkd.features" if combined else "features"], apart)


def test_what_was_predicted_without_gradients_is_computed_again(strategy, outputs, step):
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    with torch.no_grad():
        strategy.predict(student)
    step(strategy, student, teacher)
    assert all(weight.grad is not None for weight in strategy.projector.parameters())


def test_a_teacher_of_another_head_is_refused(setup):
    with pytest.raises(PairError, match="choose a teacher such as"):
        ReusedClassifier(setup(pooled=(True, False)))
    with pytest.raises(PairError, match="needs a map of the student"):
        ReusedClassifier(setup(student=[], pooled=(False, True)))
