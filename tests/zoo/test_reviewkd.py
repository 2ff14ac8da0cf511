from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps, pooled

from kdzoo import PairError
from kdzoo_zoo.feature.reviewkd import ReviewKD
from kdzoo_zoo.functional import hierarchical_context_loss


def naive(student_maps, teacher_maps):
    total = torch.zeros((), dtype=torch.float64)
    for student, teacher in zip(student_maps, teacher_maps, strict=True):
        height = student.shape[2]
        level, weight, weights = ((student - teacher) ** 2).mean(), 1.0, 1.0
        for k in (4, 2, 1):
            if k >= height:
                continue
            weight /= 2
            weights += weight
            level = level + weight * ((pooled(student, k, k) - pooled(teacher, k, k)) ** 2).mean()
        total = total + level / weights
    return total


SIZES = [(1, 1), (2, 2), (3, 5), (4, 4), (5, 5), (6, 3), (7, 7), (8, 8), (12, 8), (2, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_equals_the_naive_loop(size, batch_size):
    levels = [[maps(batch_size, 2, *size), maps(batch_size, 3, 8, 8)] for _ in range(2)]
    assert_equals_naive(hierarchical_context_loss, naive, student_maps=levels[0], teacher_maps=levels[1])


def test_equals_the_value_computed_by_hand():
    # Mean of squares 10 / 4 with weight 1, square of the mean 1 with weight 1/2, over 3/2: (2.5 + 0.5) / 1.5.
    student = torch.tensor([[[[1.0, 3.0], [0.0, 0.0]]]])
    assert hierarchical_context_loss([student], [torch.zeros(1, 1, 2, 2)]).item() == pytest.approx(2.0)


def test_is_sound_and_zero_at_equality():
    level = maps(2, 3, 8, 8)
    assert_sound(hierarchical_context_loss, student_maps=[level], teacher_maps=[maps(2, 3, 8, 8)])
    loss = hierarchical_context_loss([level], [level.detach()])
    loss.backward()
    assert loss == 0
    assert not level.grad.any()


def test_unequal_levels_are_refused():
    with pytest.raises(ValueError, match="1 levels and the teacher 2"):
        hierarchical_context_loss([torch.zeros(1, 1, 2, 2)], [torch.zeros(1, 1, 2, 2)] * 2)
    with pytest.raises(ValueError, match="maps of a level"):
        hierarchical_context_loss([torch.zeros(1, 1, 2, 2)], [torch.zeros(1, 1, 4, 4)])


def test_levels_go_from_the_embedding_to_the_shallowest_stage(setup):
    strategy = ReviewKD(setup(), mid=3)
    assert strategy.compared == ((2, 2), (1, 1), (0, 0))
    shapes = [(fusion.enter[0].in_channels, fusion.leave[0].out_channels) for fusion in strategy.fusions]
    assert shapes == [(5, 7), (8, 12), (6, 10), (4, 8)]
    assert [fusion.attend is None for fusion in strategy.fusions] == [True, False, False, False]
    assert {fusion.leave[0].in_channels for fusion in strategy.fusions} == {3}
    assert ReviewKD(setup()).fusions[0].leave[0].in_channels == 5  # the width of the deepest level


def test_the_stem_of_five_stages_is_left_out(setup):
    shapes = [(4, 16 // 2**i, 16 // 2**i) for i in range(5)]
    assert ReviewKD(setup(shapes, shapes)).compared == ((4, 4), (3, 3), (2, 2), (1, 1))
    assert ReviewKD(setup(shapes, shapes), levels=1).compared == ((4, 4),)


def test_a_fusion_is_what_the_method_says(setup, outputs):
    strategy = ReviewKD(setup(), mid=3).eval()
    student = outputs(strategy.setup.student, 2)
    first, second = strategy.fusions[:2]
    deeper = first.enter(student.embedding[:, :, None, None])
    own = second.enter(student.stages[2])
    raised = deeper.expand(-1, -1, 2, 2)
    logits = second.attend[0](torch.cat([own, raised], dim=1)).sigmoid()
    fused = (logits[:, :1] * own + logits[:, 1:] * raised)[:, :, :1, :1]  # the nearest value at the teacher's 1 x 1
    out, handed = second(student.stages[2], deeper)
    torch.testing.assert_close(handed, fused)
    torch.testing.assert_close(out, second.leave(fused))


def test_weight_warm_up_and_gradients(setup, outputs, batch):
    strategy = ReviewKD(setup(), ramp=0.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    strategy.eval()

    def term(epoch):
        return strategy(student, teacher, replace(batch(4), epoch=epoch, epochs=10))["review"]

    first, half, last = term(0), term(4), term(9)
    torch.testing.assert_close(half, 5 * first)
    torch.testing.assert_close(last, half)
    last.backward()
    assert all(stage.grad.abs().sum() > 0 for stage in (*student.stages, student.embedding))
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.parameters())


def test_the_teacher_is_read_before_its_activations_and_the_student_after(setup, outputs, batch):
    strategy = ReviewKD(setup(), ramp=0.0, beta=1.0).eval()
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    levels = [student.embedding[:, :, None, None], *reversed(student.stages)]
    targets = [teacher.embedding[:, :, None, None], *reversed(teacher.pre_stages)]
    fused, deeper = [], None
    for fusion, level in zip(strategy.fusions, levels, strict=True):
        out, deeper = fusion(level, deeper)
        fused.append(out)
    found = strategy(student, strategy.reduce(teacher), batch(4))["review"]
    torch.testing.assert_close(found, hierarchical_context_loss(fused, targets))


def test_a_pair_without_stages_is_refused(setup):
    with pytest.raises(PairError, match="paired stage"):
        ReviewKD(setup(student=[]))
