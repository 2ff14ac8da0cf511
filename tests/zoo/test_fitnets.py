from __future__ import annotations

import pytest
import torch

from kdzoo import PairError, Phase, UsageError
from kdzoo_zoo.feature.fitnets import FitNets
from kdzoo_zoo.functional import hint_loss


def naive_pool(image, height, width):
    """Adaptive average pooling of one channel (nested lists), by its definition."""
    rows, columns = len(image), len(image[0])
    pooled = []
    for i in range(height):
        top, bottom = i * rows // height, -(-(i + 1) * rows // height)
        line = []
        for j in range(width):
            left, right = j * columns // width, -(-(j + 1) * columns // width)
            window = [image[y][x] for y in range(top, bottom) for x in range(left, right)]
            line.append(sum(window) / len(window))
        pooled.append(line)
    return pooled


def naive(student, teacher):
    height, width = (min(student.shape[d], teacher.shape[d]) for d in (2, 3))
    total, count = 0.0, 0
    for s_sample, t_sample in zip(student.tolist(), teacher.tolist(), strict=True):
        for s_channel, t_channel in zip(s_sample, t_sample, strict=True):
            s_pooled, t_pooled = naive_pool(s_channel, height, width), naive_pool(t_channel, height, width)
            for s_line, t_line in zip(s_pooled, t_pooled, strict=True):
                for s, t in zip(s_line, t_line, strict=True):
                    total, count = total + (s - t) ** 2, count + 1
    return total / count


SIZES = [((4, 4), (4, 4)), ((8, 8), (4, 4)), ((3, 5), (7, 2)), ((1, 1), (6, 6)), ((7, 7), (8, 8))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(("student_size", "teacher_size"), SIZES)
def test_equals_the_naive_loop(dtype, batch_size, student_size, teacher_size):
    student = torch.randn(batch_size, 2, *student_size).to(dtype)
    teacher = torch.randn(batch_size, 2, *teacher_size).to(dtype)
    loss = hint_loss(student, teacher)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(naive(student, teacher), rel=1e-5)


def test_equals_the_value_computed_by_hand():
    # The 2x2 map pools to 2.5, which is 1.5 away from 1.
    student = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert hint_loss(student, torch.ones(1, 1, 1, 1)).item() == 2.25


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_does_not_matter(layout):
    student, teacher = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 3, 3)
    expected = hint_loss(student, teacher)
    torch.testing.assert_close(hint_loss(student.contiguous(memory_format=layout), teacher), expected)
    strided = student.repeat(1, 1, 1, 2)[..., :6]
    torch.testing.assert_close(hint_loss(strided, teacher), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_comes_in_the_maps_own_layout(layout):
    student, teacher = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    expected = 2 * (student - teacher) / student.numel()
    student = student.contiguous(memory_format=layout).requires_grad_()
    (slope,) = torch.autograd.grad(hint_loss(student, teacher), student)
    torch.testing.assert_close(slope, expected)
    assert slope.stride() == student.stride()


def test_is_zero_at_equality_and_its_gradient_is_right():
    teacher = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    student = teacher.clone().requires_grad_()
    loss = hint_loss(student, teacher)
    loss.backward()
    assert loss.item() == 0.0
    assert (student.grad == 0).all()
    larger = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: hint_loss(s, teacher), larger)


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (2, 1, 2, 2)])
def test_shapes_that_would_broadcast_are_refused(shape):
    with pytest.raises(ValueError, match="batch and channels"):
        hint_loss(torch.zeros(2, 4, 2, 2), torch.zeros(shape))


@pytest.mark.parametrize(("stages", "middle"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_stage_is_counted_from_the_input_and_0_is_the_middle(setup, stages, middle):
    shapes = [(channels, 2, 2) for channels in range(10, 10 + stages)]
    pair = setup(shapes, [(99, 4, 4), *shapes])
    chosen = FitNets(pair)
    assert (chosen.student_stage, chosen.teacher_stage) == (middle, middle + 1)
    for stage in range(1, stages + 1):
        assert FitNets(pair, stage=stage).student_stage == stage - 1


def test_a_stage_that_the_pair_has_not_is_refused(setup):
    with pytest.raises(PairError, match=r"fitnets\.stage is 4, .* 3 paired stages: choose 1 to 3"):
        FitNets(setup(), stage=4)
    with pytest.raises(UsageError, match=r"fitnets\.stage must be a whole number at least 0"):
        FitNets(setup(), stage=-1)
    with pytest.raises(PairError, match="none"):
        FitNets(setup(student=[]))


def test_the_adapter_learns_with_the_student(setup, outputs, step):
    strategy = FitNets(setup())
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    torch.testing.assert_close(terms["hint"], 100 * hint_loss(strategy.adapter(student.stages[1]), teacher.stages[1]))
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.parameters())
    assert [stage.grad is not None for stage in student.stages] == [False, True, False]
    assert strategy.ce_weight == 1.0


def test_a_trained_adapter_brings_the_hint_to_zero(setup, outputs, step):
    # The teacher's map is what an adapter makes of the student's, so a perfect adapter exists.
    strategy, target = FitNets(setup(), stage=1), FitNets(setup(), stage=1)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    teacher.values["stages"][0].copy_(target.adapter(student.stages[0]).detach())
    optimizer = torch.optim.Adam(strategy.parameters(), lr=0.02)
    losses = []
    for _ in range(400):
        optimizer.zero_grad()
        losses.append(step(strategy, student, teacher)["hint"].item())
        optimizer.step()
    assert losses[-1] < 1e-3 * losses[0]


@pytest.mark.parametrize("training", [True, False])
def test_one_sample_with_a_1x1_map_has_a_finite_gradient(setup, outputs, step, training):
    strategy = FitNets(setup(), stage=3).train(training)
    pair = setup(student=((4, 8, 8), (6, 4, 4), (8, 1, 1)))
    student, teacher = outputs(pair.student, 1, trained=True), outputs(pair.teacher, 1)
    terms = step(strategy, student, teacher)
    assert terms["hint"].isfinite()
    assert student.stages[2].grad.abs().sum() > 0
    assert strategy.adapter.norm.running_mean.abs().sum() == 0


def test_a_hint_that_was_kept_gives_the_same_term(setup, outputs, batch):
    strategy = FitNets(setup(), stage=2).eval()
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    kept = strategy.reduce(teacher)
    assert [tuple(hint.shape) for hint in kept.stages] == [(4, 10, 4, 3)]
    assert strategy.reduce(kept) is kept
    assert strategy(student, kept, batch(4)) == strategy(student, teacher, batch(4))


def test_the_two_stage_form_has_a_hint_phase_without_labels(setup, outputs, step):
    strategy = FitNets(setup(), hint_epochs=3)
    assert strategy.phases(10) == (Phase("hint", 3, hard_labels=False, trains="both"), Phase("main", 7, teacher=False))
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    assert step(strategy, student, teacher, phase="hint").keys() == {"hint"}
    assert step(strategy, student, teacher, phase="main") == {}


def test_the_joint_form_has_one_phase(setup):
    assert FitNets(setup()).phases(10) == (Phase("main", 10),)


def test_hint_epochs_leave_at_least_one_epoch_for_the_main_phase(setup):
    assert FitNets(setup(), hint_epochs=4).phases(5)[1] == Phase("main", 1, teacher=False)
    with pytest.raises(UsageError, match=r"fitnets\.hint_epochs is 5, which leaves no epoch of 5"):
        FitNets(setup(), hint_epochs=5).phases(5)
