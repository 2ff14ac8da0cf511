from __future__ import annotations

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps

from kdzoo import PairError
from kdzoo_zoo.feature.ickd import InterChannelKD
from kdzoo_zoo.functional import inter_channel_loss


def similarities(fmap):
    """Normalised rows of the Gram matrix of one sample."""
    rows = []
    flat = [channel.reshape(-1) for channel in fmap]
    for one in flat:
        row = torch.stack([(one * other).sum() for other in flat])
        rows.append(row / (row.norm() if row.detach().norm() > 1e-12 else 1e-12))
    return rows


def naive(student_map, teacher_map):
    batch, channels = student_map.shape[:2]
    total = torch.zeros((), dtype=torch.float64)
    for own, theirs in zip(student_map, teacher_map, strict=True):
        for one, other in zip(similarities(own), similarities(theirs), strict=True):
            total = total + ((one - other) ** 2).sum()
    return total / (channels * batch**2)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("channels", [1, 3, 7])  # of few channels the Gram matrix is made, of many it is not
@pytest.mark.parametrize(("one", "other"), [((1, 1), (1, 1)), ((1, 3), (2, 1)), ((2, 2), (3, 1)), ((4, 4), (2, 2))])
def test_equals_the_naive_loop(batch_size, channels, one, other):
    student, teacher = maps(batch_size, channels, *one), maps(batch_size, channels, *other)
    assert_equals_naive(inter_channel_loss, naive, student_map=student, teacher_map=teacher)


@pytest.mark.parametrize("channels", [3, 12])
def test_channels_of_zeros_have_no_similarities(channels):
    student, teacher = maps(2, channels, 2, 2), maps(2, channels, 2, 2)
    with torch.no_grad():
        student[0, 1], teacher[0, 2], student[1] = 0, 0, 0
    expected = naive(student, teacher)
    loss = inter_channel_loss(student, teacher)
    torch.testing.assert_close(loss, expected)
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(loss, [student, teacher]))


def test_equals_the_value_computed_by_hand():
    # Rows (1, 0), (0, 1) against rows (1, 1) / sqrt 2 twice: (1 - 1/sqrt 2)^2 + 1/2 each, over C = 2.
    loss = inter_channel_loss(torch.eye(2).view(1, 2, 1, 2), torch.ones(1, 2, 1, 2))
    assert loss.item() == pytest.approx(2 - 2**0.5)


def test_is_sound_and_zero_at_equality():
    for channels in (3, 12):
        student = maps(2, channels, 2, 2)
        assert_sound(inter_channel_loss, student_map=student, teacher_map=maps(2, channels, 2, 2))
        loss = inter_channel_loss(student, student.detach())
        loss.backward()
        assert abs(loss.item()) < 1e-15
        assert student.grad.abs().max() < 1e-12


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="batch and channels"):
        inter_channel_loss(torch.zeros(2, 4, 2, 2), torch.zeros(2, 1, 2, 2))


@pytest.mark.parametrize(("squared", "factor"), [(False, 4), (True, 1)])
def test_the_term_is_weighted_by_the_batch_or_not(setup, outputs, batch, squared, factor):
    strategy = InterChannelKD(setup(), squared=squared, kernel=3).eval()
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    expected = 2.5 * factor * inter_channel_loss(strategy.adapter(student.stages[2]), teacher.stages[2])
    torch.testing.assert_close(strategy(student, teacher, batch(4)), {"channels": expected})
    assert strategy.adapter[0].kernel_size == (3, 3)


def test_a_pair_without_stages_is_refused(setup):
    with pytest.raises(PairError, match="paired stage"):
        InterChannelKD(setup(teacher=[]))
