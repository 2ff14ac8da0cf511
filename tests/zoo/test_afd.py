from __future__ import annotations

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps

from kdzoo import PairError
from kdzoo_zoo.feature.afd import AttentiveFeatures, ChannelAttention
from kdzoo_zoo.functional import attention_feature_loss


def naive(student_map, teacher_map, channel_attention):
    total = torch.zeros((), dtype=torch.float64)
    for own, theirs, rho in zip(student_map, teacher_map, channel_attention, strict=True):
        for one, other, weight in zip(own, theirs, rho, strict=True):
            difference = one / (one.norm() + 1e-6) - other / (other.norm() + 1e-6)
            total = total + weight * sum(x * x for x in difference.flatten()) / difference.numel()
    return total / len(student_map)


def attention(batch_size, channels):
    return torch.rand(batch_size, channels, dtype=torch.float64).softmax(dim=1).requires_grad_()


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (3, 2, 5), (2, 4, 4)])
def test_equals_the_naive_loop(batch_size, shape):
    arguments = {"student_map": maps(batch_size, *shape), "teacher_map": maps(batch_size, *shape)}
    assert_equals_naive(attention_feature_loss, naive, **arguments, channel_attention=attention(batch_size, shape[0]))


def test_equals_the_value_computed_by_hand():
    # (0.6, 0.8) against (0.8, 0.6): 0.08 over two positions.
    student, teacher = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[4.0, 3.0]]]])
    assert attention_feature_loss(student, teacher, torch.ones(1, 1)).item() == pytest.approx(0.04, rel=1e-4)


def test_is_sound_and_zero_at_equality():
    student = maps(2, 3, 4, 4)
    rho = attention(2, 3).detach()

    def loss(student_map, teacher_map):
        return attention_feature_loss(student_map, teacher_map, rho.to(student_map.dtype))

    assert_sound(loss, student_map=student, teacher_map=maps(2, 3, 4, 4))
    found = loss(student, student.detach())
    found.backward()
    assert abs(found.item()) < 1e-15
    assert student.grad.abs().max() < 1e-12


def test_shapes_that_do_not_fit_are_refused():
    one = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="maps"):
        attention_feature_loss(one, torch.zeros(2, 3, 2, 4), torch.ones(2, 3))
    with pytest.raises(ValueError, match="attention"):
        attention_feature_loss(one, one, torch.ones(1, 3))


def test_the_attention_of_each_sample_sums_to_one():
    layer = ChannelAttention(6)
    fmap = torch.randn(3, 6, 2, 2)
    rho = layer(fmap)
    gates = layer.excite(layer.squeeze(fmap.mean(dim=(2, 3))).relu()).sigmoid()
    torch.testing.assert_close(rho, gates / gates.sum(dim=1, keepdim=True))
    with torch.no_grad():
        layer.excite.bias.fill_(-1e4)  # gates of 0, whose shares are still told apart
    assert layer(fmap).sum(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_the_deepest_stage_of_more_than_one_position_is_compared(setup, outputs, step):
    strategy = AttentiveFeatures(setup())
    assert strategy.compared == [(1, 1, (4, 3))]
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    assert step(strategy, student, teacher)["features"] > 0
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.parameters())
    assert [stage.grad is not None for stage in student.stages] == [False, True, False]
    assert len(AttentiveFeatures(setup(), stages=5).compared) == 2


def test_equal_channels_need_no_adapter(setup, outputs, batch):
    shapes = ((4, 8, 8), (6, 4, 4))
    strategy = AttentiveFeatures(setup(shapes, shapes))
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    target = teacher.stages[1]
    expected = 500 * attention_feature_loss(student.stages[1], target, strategy.attention[0](target))
    torch.testing.assert_close(strategy(student, teacher, batch(4)), {"features": expected})


def test_maps_of_one_position_are_refused(setup):
    with pytest.raises(PairError, match="more than one"):
        AttentiveFeatures(setup([(4, 1, 1)], [(4, 2, 2)]))
