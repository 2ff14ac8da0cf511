from __future__ import annotations

import math

import pytest
import torch

from kdzoo import PairError, UsageError
from kdzoo_zoo.attention.at import AttentionTransfer
from kdzoo_zoo.functional import attention_map, attention_transfer_loss


def naive_map(feature_map, power):
    rows = []
    for sample in feature_map.tolist():
        height, width = len(sample[0]), len(sample[0][0])
        strength = [
            sum(abs(channel[y][x]) ** power for channel in sample) / len(sample)
            for y in range(height)
            for x in range(width)
        ]
        length = math.sqrt(sum(value**2 for value in strength))
        rows.append([value / max(length, 1e-12) for value in strength])
    return rows


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 2, 5), (4, 6, 3, 3)])
@pytest.mark.parametrize("power", [1, 2, 2.5, 4])
def test_attention_map_equals_the_naive_loop(dtype, shape, power):
    feature_map = torch.randn(shape).to(dtype)
    attention = attention_map(feature_map, power)
    assert attention.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(attention.double(), torch.tensor(naive_map(feature_map, power)).double())


def test_attention_map_equals_the_value_computed_by_hand():
    # Channel means of the squares are (0 + 6, 8 + 0) / 2 = (3, 4): a 3-4-5 triangle.
    feature_map = torch.tensor([[[[0.0, -math.sqrt(8)]], [[math.sqrt(6), 0.0]]]])
    torch.testing.assert_close(attention_map(feature_map), torch.tensor([[0.6, 0.8]]))


def test_attention_map_of_zeros_is_zero_with_finite_gradient():
    feature_map = torch.zeros(2, 3, 2, 2, requires_grad=True)
    attention = attention_map(feature_map)
    attention.sum().backward()
    assert (attention == 0).all()
    assert feature_map.grad.isfinite().all()


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_loss_equals_the_naive_loop_over_channels(batch_size, power):
    student, teacher = torch.randn(batch_size, 2, 3, 4), torch.randn(batch_size, 5, 3, 4)
    expected, count = 0.0, 0
    for s_row, t_row in zip(naive_map(student, power), naive_map(teacher, power), strict=True):
        for s, t in zip(s_row, t_row, strict=True):
            expected, count = expected + (s - t) ** 2, count + 1
    assert attention_transfer_loss(student, teacher, power).item() == pytest.approx(expected / count, rel=1e-4)


def test_the_larger_map_is_average_pooled():
    blocks, small = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 4, 6)
    large = blocks.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    expected = attention_transfer_loss(blocks, small)
    torch.testing.assert_close(attention_transfer_loss(large, small), expected)
    torch.testing.assert_close(attention_transfer_loss(small, large), expected)


def test_sizes_that_do_not_divide_are_pooled_to_the_smaller_height_and_width():
    # Three columns pool to two: (mean of 1 and 2, mean of 2 and 3); three equal rows against one.
    student = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    teacher = torch.tensor([[[[1.5, 2.5]] * 3]]).reshape(1, 1, 3, 2)
    assert attention_transfer_loss(student, teacher, power=1).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_is_zero_at_equality_with_zero_gradient(dtype, batch_size):
    teacher = torch.randn(batch_size, 3, 4, 4).relu().to(dtype)
    student = teacher.clone().requires_grad_()
    loss = attention_transfer_loss(student, teacher)
    loss.backward()
    assert loss.item() == 0.0
    assert (student.grad == 0).all()


def test_gradient_is_right():
    teacher = torch.randn(2, 2, 2, 3, dtype=torch.float64)
    student = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: attention_transfer_loss(s, teacher), student)


def test_memory_layout_does_not_matter():
    student, teacher = torch.randn(2, 4, 6, 6), torch.randn(2, 3, 6, 6)
    expected = attention_transfer_loss(student, teacher)
    torch.testing.assert_close(
        attention_transfer_loss(student.contiguous(memory_format=torch.channels_last), teacher), expected
    )
    torch.testing.assert_close(
        attention_transfer_loss(student.mT.contiguous().mT, teacher.repeat(1, 1, 1, 2)[..., :6]), expected
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_comes_in_the_maps_own_layout(layout):
    student = torch.randn(2, 4, 6, 6).contiguous(memory_format=layout).requires_grad_()
    (slope,) = torch.autograd.grad(attention_transfer_loss(student, torch.randn(2, 3, 6, 6)), student)
    assert slope.stride() == student.stride()


def test_batches_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="batch of student and teacher"):
        attention_transfer_loss(torch.zeros(4, 3, 2, 2), torch.zeros(1, 3, 2, 2))


def test_strategy_sums_over_paired_stages(setup, outputs, step):
    strategy = AttentionTransfer(setup(), power=1.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    losses = [attention_transfer_loss(s, t, 1) for s, t in zip(student.stages, teacher.stages, strict=True)]
    torch.testing.assert_close(terms["attention"], 1000 * sum(losses))
    assert [stage.grad is not None for stage in student.stages] == [True, True, False]
    assert losses[2] == 0  # its common size is 1x1
    assert list(strategy.parameters()) == []


def test_only_paired_stages_count(setup, outputs, step):
    strategy = AttentionTransfer(setup(teacher=[(10, 4, 4), (12, 2, 2)]))
    student, teacher = outputs(strategy.setup.student, 2, trained=True), outputs(strategy.setup.teacher, 2)
    step(strategy, student, teacher)
    assert student.stages[0].grad is None


def test_maps_that_were_kept_give_the_same_terms(setup, outputs, batch):
    strategy = AttentionTransfer(setup())
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    kept = strategy.reduce(teacher)
    assert [tuple(looked_at.shape) for looked_at in kept.stages] == [(4, 64), (4, 12)]
    assert strategy.reduce(kept) is kept
    assert strategy(student, kept, batch(4)) == strategy(student, teacher, batch(4))


def test_what_cannot_be_is_refused(setup):
    with pytest.raises(PairError, match="at needs a paired stage"):
        AttentionTransfer(setup(teacher=[]))
    with pytest.raises(UsageError, match=r"at\.power must be a number at least 1"):
        AttentionTransfer(setup(), power=0.5)


def test_the_default_power_gives_the_numbers_of_any_power():
    # A power next to 2 takes the general way, and autograd's own formula is bit for bit that of the short one.
    maps = torch.randn(3, 4, 5, 5, requires_grad=True)
    (short,) = torch.autograd.grad(attention_map(maps, 2).sum(), maps)
    general = torch.nn.functional.normalize(maps.abs().pow(2).mean(dim=1).flatten(1), dim=1, eps=1e-12)
    (long,) = torch.autograd.grad(general.sum(), maps)
    assert torch.equal(attention_map(maps, 2), general)
    assert torch.equal(short, long)
