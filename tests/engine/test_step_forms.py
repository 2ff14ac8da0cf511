"""The fast forms of a step give what the plain ones give: optimizers, memory formats."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from small_lab import make_registry, run
from timm.optim import list_optimizers
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Strategy, Terms
from kdzoo.engine.optim import form_of, has_plain_gradients, load_optimizer, make_optimizer
from kdzoo.engine.train import Training
from kdzoo.models.memory_format import keep_format, lay_out, memory_format
from kdzoo.models.taps import TappedModel
from kdzoo.models.teacher import Teacher
from kdzoo.recipe import Recipe

CPU = torch.device("cpu")
STEPS = 5


def recipe(optimizer: str) -> Recipe:
    return Recipe(name="r", epochs=1, batch_size=8, lr=0.01, optimizer=optimizer, weight_decay=0.05, momentum=0.8)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    model = nn.Sequential(*layers)
    lay_out(model, CPU)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not model[0].weight.is_contiguous()
    return model


def fill(model: nn.Module, step: int) -> None:
    """Gradients by autograd."""
    torch.manual_seed(step)
    model.zero_grad()
    model(torch.randn(6, 3, 6, 6)).square().mean().backward()


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        fill(model, number)
        optimizer.step()


def plain_form(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group.update({name: False for name in ("foreach", "fused") if name in group})
    return optimizer


def tried() -> list[str]:
    """Every optimizer that gets another form on a CPU."""
    known = [str(name) for name in list_optimizers(exclude_filters=["bnb*", "fused*"])]
    return [name for name in known if form_of(name, CPU, plain_gradients=True)]


def test_the_common_optimizers_are_fused_and_many_go_by_lists() -> None:
    for name in ("sgd", "momentum", "adam", "adamw"):
        assert form_of(name, CPU, plain_gradients=True) == {"fused": True}
        assert form_of(name, CPU, plain_gradients=False) == {"foreach": True}
    for name in ("lamb", "nadamw", "lion", "radam", "adan"):
        assert form_of(name, CPU, plain_gradients=True) == {"foreach": True}
    assert form_of("adafactor", CPU, plain_gradients=True) == {}
    assert form_of("adamw", torch.device("cuda"), plain_gradients=True) == {}


@pytest.mark.parametrize("name", tried())
@pytest.mark.parametrize("plain_gradients", [True, False])
def test_a_form_changes_rounding_only(name: str, plain_gradients: bool) -> None:
    fast, slow = network(), network()
    chosen = make_optimizer(fast, recipe(name), plain_gradients=plain_gradients)
    steps(fast, chosen, range(STEPS))
    steps(slow, plain_form(make_optimizer(slow, recipe(name))), range(STEPS))
    start = network()
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6)
    moved = [not torch.equal(a, b) for a, b in zip(fast.parameters(), start.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_resuming_is_bit_equal(name: str) -> None:
    whole = network()
    steps(whole, make_optimizer(whole, recipe(name), plain_gradients=True), range(STEPS))
    cut = network()
    first = make_optimizer(cut, recipe(name), plain_gradients=True)
    steps(cut, first, range(2))
    kept = copy.deepcopy(first.state_dict())
    second = make_optimizer(cut, recipe(name), plain_gradients=True)
    load_optimizer(second, kept)
    steps(cut, second, range(2, STEPS))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_state_in_another_memory_order_is_put_in_order(name: str) -> None:
    """As in a checkpoint of a version without formats and forms: fused kernels would read it wrongly in silence."""
    expected, found = network(), network()
    steps(expected, plain_form(make_optimizer(expected, recipe(name))), range(STEPS))
    first = plain_form(make_optimizer(found, recipe(name)))
    steps(found, first, range(2))
    kept = first.state_dict()
    for values in kept["state"].values():
        values.update({key: value.contiguous() for key, value in values.items() if torch.is_tensor(value)})
    second = make_optimizer(found, recipe(name), plain_gradients=True)
    load_optimizer(second, kept)
    assert all(group["fused"] for group in second.param_groups)
    steps(found, second, range(2, STEPS))
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


class OwnGradients(Strategy):
    """Sets the gradients itself, from tensors whose memory order is anybody's."""

    name = "own-gradients"
    family = "test"
    signals = ("logits",)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"square": student.logits.square().mean()}

    def gradients(self, terms: Terms, backward: Any) -> None:
        found = torch.autograd.grad(sum(terms.values()), backward.parameters, allow_unused=True)
        for parameter, gradient in zip(backward.parameters, found, strict=True):
            parameter.grad = None if gradient is None else gradient.contiguous()


class SumOfTerms(OwnGradients):
    """The same terms, left to the engine."""

    name = "sum-of-terms"
    gradients = Strategy.gradients


def test_gradients_that_a_strategy_sets_are_not_read_by_fused_kernels(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "without_baseline": True, "epochs": 1}
    bench = run(tmp_path, [OwnGradients, SumOfTerms], **config)
    own, left = bench.only("own-gradients"), bench.only("sum-of-terms")
    assert own.status == left.status == "done", own.traceback
    for name, value in left.curve[0].terms.items():
        assert own.curve[0].terms[name] == pytest.approx(value, rel=1e-4)


class PlainMean(Strategy):
    """A mean over each map, as one would write it: autograd gives its gradient in the order of the dimensions."""

    name = "plain-mean"
    family = "test"
    signals = ("stages",)
    found: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        for each in student.stages:
            each.register_hook(lambda gradient, each=each: self.found.append((each, gradient)))
        return {"mean": torch.stack([each.square().mean() for each in student.stages]).sum()}


def test_gradients_of_maps_come_back_in_the_maps_own_layout(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(PlainMean, "found", found)
    bench = run(tmp_path, [PlainMean], teacher_weights=teacher_file, without_baseline=True, epochs=1)
    assert bench.only("plain-mean").status == "done", bench.only("plain-mean").traceback
    assert found
    assert any(not each.is_contiguous() for each, _ in found)
    for each, gradient in found:
        assert gradient.is_contiguous(memory_format=torch.channels_last), each.shape


class Silent(torch.autograd.Function):
    """Gives its input no gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        return None


def test_a_map_without_a_gradient_stays_without_one() -> None:
    leaf = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    feature_map = leaf * 1
    keep_format([feature_map])
    Silent.apply(feature_map).sum().backward()
    assert leaf.grad is None


def test_who_sets_gradients_is_known_of_combinations_too() -> None:
    registry = make_registry(OwnGradients)
    for name, plain in (("soft", True), ("soft+at", True), ("own-gradients", False), ("soft+own-gradients", False)):
        kind = registry.strategy(name).value
        assert has_plain_gradients(kind) is plain, name


def timm_network(name: str, **arguments: Any) -> nn.Module:
    return timm.create_model(name, num_classes=4, **arguments)


@pytest.mark.parametrize("name", ["resnet10t", "test_resnet", "mobilenetv3_small_050", "regnetx_002"])
def test_networks_with_batch_normalisation_are_laid_out_by_channels(name: str) -> None:
    assert memory_format(timm_network(name), CPU) is torch.channels_last
    assert memory_format(timm_network(name), torch.device("cuda")) is torch.contiguous_format


@pytest.mark.parametrize(
    "name", ["test_vit", "test_convnext", "test_nfnet", "mixer_s32_224", "repvgg_a0", "mobileone_s0"]
)
def test_others_stay_as_they_are(name: str) -> None:
    model = timm_network(name)
    assert memory_format(model, CPU) is torch.contiguous_format
    lay_out(model, CPU)
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_a_huge_convolution_and_a_strided_one_beside_it_count() -> None:
    fits = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert memory_format(fits, CPU) is torch.channels_last
    assert memory_format(nn.Sequential(*fits, nn.Conv2d(512, 4096, 7, device="meta")), CPU) is torch.contiguous_format
    assert memory_format(fits, CPU, beside=nn.Conv2d(8, 8, 1, stride=2)) is torch.contiguous_format
    assert memory_format(fits, CPU, beside=nn.Conv2d(8, 8, 3, stride=2)) is torch.channels_last
    assert memory_format(fits, CPU, beside=nn.Conv2d(16, 8, 1, stride=2)) is torch.channels_last


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the weights of each trained student lie by channels after its first step."""
    seen: list[bool] = []
    start = Training.start_phase

    def watched(self: Training, phase: Any) -> None:
        start(self, phase)
        weights = [parameter for parameter in self.distiller.student.parameters() if parameter.ndim == 4]
        seen.append(all(each.is_contiguous(memory_format=torch.channels_last) for each in weights))

    monkeypatch.setattr(Training, "start_phase", watched)
    return seen


def test_a_training_in_either_format_learns_the_same(
    tmp_path: Path, teacher_file: str, formats: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"teacher_weights": teacher_file, "without_baseline": True, "epochs": 2, "recipe": {"ema": 0.9}}
    fast = run(tmp_path / "fast", ["at"], **config).only("at")
    monkeypatch.setattr("kdzoo.engine.train.lay_out", lambda *_, **__: None)
    plain = run(tmp_path / "plain", ["at"], **config).only("at")
    assert formats == [True, False]
    assert fast.id == plain.id
    for one, other in zip(fast.curve, plain.curve, strict=True):
        assert one.terms == pytest.approx(other.terms, rel=0.02)


def test_a_network_with_3d_convolutions_trains_and_teaches() -> None:
    model = timm_network("lambda_resnet26t")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lay_out(model, CPU)
    assert model.get_submodule("stem.conv1.conv").weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    teacher = Teacher(TappedModel(model, (0.5,) * 3, (0.5,) * 3, (64, 64)))
    assert teacher(torch.rand(2, 3, 64, 64), {"logits"}).logits.shape == (2, 4)
