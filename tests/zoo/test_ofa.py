from __future__ import annotations

from functools import partial

import pytest
import torch
from naive_compare import assert_finite, assert_precisions, assert_same
from torch import nn

from kdzoo import Batch, PairError, StageShape
from kdzoo_zoo.feature.ofa import OneForAll
from kdzoo_zoo.feature.stage_heads import ConvolutionHead, TokenHead
from kdzoo_zoo.functional import one_for_all_loss

CNN, VIT = ((4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2), (64, 1, 1)), ((12, 7, 7),) * 4


def naive(student, teacher, target, eps, temperature):
    total = torch.zeros((), dtype=torch.float64)
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        own, theirs = ([(v / temperature).exp() for v in row] for row in (s, t))
        for c in range(len(s)):
            p_s, p_t, one = own[c] / sum(own), theirs[c] / sum(theirs), float(c == y)
            total = total - ((p_t + one) ** eps - one) * p_s.log()
    return total / len(student)


@pytest.mark.parametrize("eps", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("batch_size", "classes"), [(1, 2), (4, 5)])
def test_equals_the_naive_loop(eps, temperature, batch_size, classes):
    target = torch.randint(classes, (batch_size,))
    values = {"target": target, "eps": eps, "temperature": temperature}
    pair = (2 * torch.randn(batch_size, classes) for _ in range(2))
    assert_same(partial(one_for_all_loss, **values), partial(naive, **values), *pair)


def test_equals_the_value_computed_by_hand():
    # The teacher gives 0.8 and 0.2, the student 1/2 each: (1.8^2 - 1 + 0.2^2) log 2.
    loss = one_for_all_loss(torch.zeros(1, 2), torch.tensor([[4.0, 1.0]]).log(), torch.tensor([0]), 2.0, 1.0)
    assert loss.item() == pytest.approx((1.8**2 - 1 + 0.2**2) * torch.tensor(2.0).log().item())


@pytest.mark.parametrize("eps", [0.5, 1.0, 1.5])
def test_precision_and_finiteness(eps):
    target = torch.tensor([0, 1, 2])
    loss = partial(one_for_all_loss, target=target, eps=eps, temperature=1.0)
    assert_precisions(loss, torch.randn(3, 4), torch.randn(3, 4))
    for scale in (50.0, 1e4):
        for teacher in (scale * torch.eye(4)[:3], -scale * torch.eye(4)[:3], scale * torch.randn(3, 4)):
            assert_finite(loss, scale * torch.randn(3, 4), teacher)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="logits of student and teacher"):
        one_for_all_loss(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), 1.0, 1.0)
    with pytest.raises(ValueError, match="one class of each sample"):
        one_for_all_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), 1.0, 1.0)


def test_heads_of_maps_have_a_block_for_each_stage_below():
    for below in range(4):
        head = ConvolutionHead(6, below, 20, 3)
        strides = [module.stride for module in head.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
        assert strides == [(2, 2), (1, 1)] * below
        assert head(torch.randn(2, 6, 8, 8)).shape == (2, 3)
    widths = [
        module.num_features for module in ConvolutionHead(6, 3, 20, 3).modules() if hasattr(module, "num_features")
    ]
    assert widths == [6, 12, 12, 24, 24, 20]


@pytest.mark.parametrize(
    ("grid", "merges"),
    [((4, 4), 0), ((7, 7), 0), ((8, 8), 0), ((14, 14), 1), ((16, 16), 1), ((28, 28), 2), ((15, 15), 0)],
)
def test_heads_of_tokens_merge_them_down_to_seven_a_side(grid, merges):
    head = TokenHead(StageShape(8, *grid), below=2, classes=3)
    assert (len(head.merges), len(head.blocks)) == (merges, 2)
    assert head(torch.randn(2, 8, *grid)).shape == (2, 3)
    assert len(TokenHead(StageShape(8, *grid), below=0, classes=3).blocks) == 1


def test_tokens_are_merged_two_by_two_in_swins_order():
    head = TokenHead(StageShape(4, 14, 14), below=0, classes=3)
    (merge,) = head.merges
    merge.norm, merge.linear = nn.Identity(), nn.Identity()
    x = torch.arange(2 * 2 * 4.0).reshape(1, 2, 2, 4)
    expected = torch.cat([x[:, 0, 0], x[:, 1, 0], x[:, 0, 1], x[:, 1, 1]], dim=1)
    torch.testing.assert_close(merge(x)[:, 0, 0], nn.functional.gelu(expected))


@pytest.mark.parametrize(("student", "teacher"), [(CNN, CNN), (CNN, VIT), (VIT, CNN), (VIT, VIT), (CNN[:2], VIT)])
def test_every_pair_has_heads_on_the_deepest_stages(setup, outputs, step, student, teacher):
    strategy = OneForAll(setup(student, teacher), heads=0.5, final=2.0, eps=1.5)
    own, theirs = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, own, theirs)
    target = torch.zeros(4, dtype=torch.int64)
    loss = partial(one_for_all_loss, teacher_logits=theirs.logits, target=target, eps=1.5, temperature=1.0)
    torch.testing.assert_close(terms["final"], 2 * loss(own.logits))
    assert len(strategy.stage_heads) == min(4, len(student))
    stages = own.stages[-len(strategy.stage_heads) :]
    answers = [head(stage) for head, stage in zip(strategy.stage_heads, stages, strict=True)]
    torch.testing.assert_close(terms["heads"], 0.5 * sum(loss(answer) for answer in answers))
    assert [stage.grad is not None for stage in own.stages] == [
        len(student) - place <= 4 for place in range(len(student))
    ]
    assert all(weight.grad is not None for weight in strategy.parameters())
    assert strategy.ce_weight == 1.0


def test_a_weight_of_zero_leaves_its_term_out(setup, outputs, step):
    given = [outputs(network, 4, trained=True) for network in (setup().student, setup().teacher)]
    assert set(step(OneForAll(setup(), heads=0.0), *given)) == {"final"}
    assert set(step(OneForAll(setup(), final=0.0), *given)) == {"heads"}


def test_the_label_of_mixed_targets_is_the_likeliest(setup, outputs):
    strategy = OneForAll(setup(), eps=2.0, heads=0.0)
    own, theirs = (outputs(network, 2) for network in (strategy.setup.student, strategy.setup.teacher))
    labels = torch.tensor([2, 1])
    plain = Batch(inputs=None, labels=labels, targets=labels, index=torch.arange(2))
    mixed = torch.tensor([[0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])
    assert strategy(own, theirs, plain) == strategy(own, theirs, Batch(None, torch.zeros(2), mixed, torch.arange(2)))


def test_pairs_that_it_cannot_serve_are_refused(setup):
    with pytest.raises(PairError, match="3 classes and the teacher 4"):
        OneForAll(setup(classes=(3, 4)))
    with pytest.raises(PairError, match="4 does not divide their width 6"):
        OneForAll(setup(((6, 4, 4),) * 3))
    with pytest.raises(PairError, match="ofa puts heads on the student's stages"):
        OneForAll(setup(student=[]))
