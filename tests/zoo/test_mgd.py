from __future__ import annotations

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps
from torch import nn

from kdzoo import PairError
from kdzoo_zoo.feature.mgd import MaskedGeneration
from kdzoo_zoo.functional import masked_generation_loss


def naive(generated_map, teacher_map):
    total = torch.zeros((), dtype=torch.float64)
    for own, theirs in zip(generated_map, teacher_map, strict=True):
        for one, other in zip(own.flatten(), theirs.flatten(), strict=True):
            total = total + (one - other) ** 2
    return total / len(generated_map)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 2, 3), (2, 4, 3, 3)])
def test_equals_the_naive_loop(shape):
    assert_equals_naive(masked_generation_loss, naive, generated_map=maps(*shape), teacher_map=maps(*shape))


def test_equals_the_value_computed_by_hand():
    assert masked_generation_loss(torch.zeros(2, 1, 1, 2), torch.full((2, 1, 1, 2), 3.0)).item() == 18.0


def test_is_sound_and_zero_at_equality():
    student = maps(2, 3, 4, 4)
    assert_sound(masked_generation_loss, generated_map=student, teacher_map=maps(2, 3, 4, 4))
    loss = masked_generation_loss(student, student.detach())
    loss.backward()
    assert loss == 0
    assert not student.grad.any()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="maps"):
        masked_generation_loss(torch.zeros(2, 4, 2, 2), torch.zeros(2, 4, 1, 1))


@pytest.mark.parametrize(("masks", "shape"), [("channels", (4, 10, 1, 1)), ("positions", (4, 1, 4, 3))])
def test_a_share_of_channels_or_positions_is_dropped(setup, outputs, batch, masks, shape):
    pair = setup([(10, 4, 4)], [(10, 5, 3)])
    strategy = MaskedGeneration(pair, masks=masks, dropped=0.5)
    seen = []
    strategy.generation = nn.Module()
    strategy.generation.forward = lambda x: seen.append(x) or x
    student, teacher = outputs(pair.student, 4), outputs(pair.teacher, 4)
    student.values["stages"][0].fill_(1.0)
    strategy(student, teacher, batch(4))
    mask = seen[0].view(4, 10, 4, 3)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    reduced = mask[:, :, :1, :1] if masks == "channels" else mask[:, :1]
    assert reduced.shape == shape
    assert torch.equal(reduced.expand_as(mask), mask)


def test_nothing_dropped_gives_the_public_loss(setup, outputs, step):
    strategy = MaskedGeneration(setup(), dropped=0.0)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    pooled = strategy.adapter(student.stages[2]).mean(dim=(2, 3), keepdim=True)
    expected = 1.2e-3 * masked_generation_loss(strategy.generation(pooled), teacher.stages[2])
    torch.testing.assert_close(terms["generated"], expected)
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.parameters())


def test_masks_are_drawn_anew(setup, outputs, batch):
    strategy = MaskedGeneration(setup())
    student, teacher = outputs(strategy.setup.student, 8), outputs(strategy.setup.teacher, 8)
    assert strategy(student, teacher, batch(8)) != strategy(student, teacher, batch(8))


def test_a_pair_without_stages_is_refused(setup):
    with pytest.raises(PairError, match="paired stage"):
        MaskedGeneration(setup(teacher=[]))
