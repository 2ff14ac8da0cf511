from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdzoo import PairError
from kdzoo_zoo.feature.lift import Lift
from kdzoo_zoo.functional import hint_loss

NARROW, WIDE, FINE = ((4, 4, 4),) * 3, ((10, 4, 4),) * 4, ((10, 8, 8),) * 3
CNN = ((4, 8, 8), (6, 4, 4), (8, 2, 2))


def naive_lift(strategy, tokens, norm):
    """Token by token, from the layers' weights."""
    state = strategy.state_dict()
    first, second = "lift.layers.0", "lift.layers.1"
    out = []
    for token in tokens:
        if norm == "before":
            normed = F.layer_norm(token, token.shape, state[f"{first}.weight"], state[f"{first}.bias"])
            out.append(state[f"{second}.weight"] @ normed + state[f"{second}.bias"])
        else:
            lifted = state[f"{first}.weight"] @ token
            out.append(F.layer_norm(lifted, lifted.shape, state[f"{second}.weight"], state[f"{second}.bias"]))
    return torch.stack(out)


@pytest.mark.parametrize("norm", ["before", "after"])
@pytest.mark.parametrize("teacher", [WIDE, FINE, NARROW])
def test_term_and_prediction_come_from_the_lifted_tokens(setup, outputs, step, norm, teacher):
    strategy = Lift(setup(NARROW, teacher), norm=norm, beta=0.5).double()
    own, theirs = (outputs(n, 2, torch.float64, trained=True) for n in (strategy.setup.student, strategy.setup.teacher))
    terms = step(strategy, own, theirs)
    last = own.stages[-1].detach()
    lifted = torch.stack([naive_lift(strategy, sample.flatten(1).T, norm).T.unflatten(1, (4, 4)) for sample in last])
    torch.testing.assert_close(terms["tokens"], 0.5 * hint_loss(lifted, theirs.stages[-1]))
    head = strategy.head
    expected = torch.stack([head.weight @ sample.flatten(1).mean(dim=1) + head.bias for sample in lifted])
    torch.testing.assert_close(strategy.predict(own), expected)
    assert [stage.grad is not None for stage in own.stages] == [False, False, True]
    assert all(weight.grad is not None for weight in strategy.lift.parameters())


def test_the_layer_and_the_head_stay_in_the_student(setup):
    strategy = Lift(setup(NARROW, WIDE))
    assert set(strategy.deployed) == {name for name, _ in strategy.named_children()}
    assert sum(weight.numel() for weight in strategy.parameters()) == 2 * 4 + (4 * 10 + 10) + (10 * 3 + 3)


def test_tokens_that_were_kept_give_the_same_term(setup, outputs, batch):
    strategy = Lift(setup(NARROW, FINE))
    own, theirs = (outputs(n, 2) for n in (strategy.setup.student, strategy.setup.teacher))
    kept = strategy.reduce(theirs)
    assert kept.stages[0].shape == (2, 10, 4, 4)
    assert strategy.reduction() == {"stages": ("stages.2 pooled to 4x4",)}
    assert strategy(own, kept, batch(2)) == strategy(own, theirs, batch(2))


@pytest.mark.parametrize(
    ("student", "teacher", "who"), [(CNN, WIDE, "student"), (NARROW, CNN, "teacher"), (NARROW[:1], WIDE, "student")]
)
def test_networks_with_several_resolutions_are_refused(setup, student, teacher, who):
    with pytest.raises(PairError, match=f"the {who} has stages of several shapes: choose a ViT"):
        Lift(setup(student, teacher))
