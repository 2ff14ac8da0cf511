"""The teacher never learns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kdzoo import PairError
from kdzoo.models.taps import TappedModel
from kdzoo.models.teacher import Teacher

Make = Callable[..., TappedModel]


def test_stays_bit_equal_whatever_mode_is_set(make_model: Make) -> None:
    teacher = Teacher(make_model("test_efficientnet:drop_rate=0.5:drop_path_rate=0.5"))
    system = nn.ModuleDict({"teacher": teacher, "student": nn.Linear(2, 2)})
    images = torch.rand(8, 1, 32, 32)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    first = teacher(images, {"logits", "stages"})
    system.train()
    assert not any(module.training for module in teacher.modules())
    teacher.model.train()  # past its own door
    second = teacher(images, {"logits", "stages"})
    assert system["student"].training
    assert torch.equal(first.logits, second.logits)
    assert all(torch.equal(a, b) for a, b in zip(first.stages, second.stages, strict=True))
    torch.testing.assert_close(dict(teacher.state_dict()), before, rtol=0, atol=0)


def test_signals_carry_no_gradient_and_enter_a_loss(make_model: Make) -> None:
    teacher = Teacher(make_model("test_resnet"))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    out = teacher(torch.rand(2, 1, 32, 32), {"logits", "embedding", "stages"})
    assert not out.logits.requires_grad
    assert not out.embedding.requires_grad
    assert not any(fmap.requires_grad or fmap.is_inference() for fmap in out.stages)
    weight = torch.ones((), requires_grad=True)
    (out.logits * weight).square().sum().backward()
    torch.testing.assert_close(weight.grad, 2 * out.logits.square().sum())


def test_classifier_is_a_detached_copy(make_model: Make) -> None:
    teacher = Teacher(make_model("test_resnet"))
    images = torch.rand(2, 1, 32, 32)
    before = teacher(images, {"logits", "embedding"})
    weight, bias = teacher.classifier()
    assert bias is not None
    torch.testing.assert_close(before.embedding @ weight.T + bias, before.logits)
    weight.zero_()
    assert torch.equal(teacher(images, {"logits"}).logits, before.logits)
    assert teacher.signature() == teacher.model.signature()


def test_a_classifier_that_is_not_there_is_a_pair_error(make_model: Make) -> None:
    with pytest.raises(PairError, match="VOLO has no single last linear layer"):
        Teacher(make_model("volo_d1_224", size=64)).classifier()
