"""A network through torch.compile gives each choice of signals, in each mode, for batches of any size."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import timm
import torch

from kdzoo.engine.devices import compile_network
from kdzoo.models.taps import TappedModel

CHOICES = [{"logits"}, {"embedding"}, {"logits", "embedding"}, {"stages"}, {"logits", "stages", "embedding"}]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace the networks, and leave out the C++ compiler, which takes minutes."""
    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: original(self, backend="eager"))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_each_choice_of_signals_is_that_of_the_network(name: str) -> None:
    arguments = {"img_size": 32, "depth": 2} if name == "test_vit" else {}
    model = timm.create_model(name, num_classes=5, **arguments)
    network = TappedModel(model, (0.5,) * 3, (0.5,) * 3, (32, 32))
    compile_network(network)
    plain = copy.deepcopy(network)
    assert plain._compiled_call_impl is None  # a copy runs without
    for train, size in ((True, 4), (False, 4), (False, 1)):
        network.train(train)
        plain.train(train)
        for choice in (*CHOICES, *CHOICES):  # twice, so that nothing of the first call stays
            images = torch.rand(size, 3, 32, 32)
            with torch.set_grad_enabled(train):
                found, expected = network(images, choice).values, plain(images, choice).values
            assert found.keys() == expected.keys() == choice
            torch.testing.assert_close(dict(found), dict(expected))


def test_gradients_flow_through_all_signals() -> None:
    network = TappedModel(timm.create_model("test_resnet", num_classes=5), (0.5,) * 3, (0.5,) * 3, (32, 32))
    compile_network(network)
    plain = copy.deepcopy(network)
    images = torch.rand(4, 3, 32, 32)
    for each in (network, plain):
        outputs = each(images, {"logits", "stages", "embedding"})
        loss = outputs.logits.square().mean() + outputs.embedding.square().mean()
        (loss + sum(stage.square().mean() for stage in outputs.stages)).backward()
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_maps_before_activations_are_those_of_the_network() -> None:
    network = TappedModel(timm.create_model("test_resnet", num_classes=5), (0.5,) * 3, (0.5,) * 3, (32, 32))
    network.signature()  # as before every training
    compile_network(network)
    plain = copy.deepcopy(network)
    images = torch.rand(4, 3, 32, 32)
    slopes = []
    for each in (network, plain):
        outputs = each(images, {"logits", "pre_stages"})
        loss = outputs.logits.square().mean() + sum(before.square().mean() for before in outputs.pre_stages)
        slopes.append((loss, torch.autograd.grad(loss, list(each.parameters()))))
    torch.testing.assert_close(*slopes)
