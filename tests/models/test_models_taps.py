"""The taps: one pass, the asked signals, the plain network's logits."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Setup, Strategy, UsageError
from kdzoo.declarations import SIGNALS, pair_stages
from kdzoo.models.taps import TappedModel

Make = Callable[..., TappedModel]

VIT = "vit_tiny_patch16_224:patch_size=4:depth=5"
TRAINED_ALIKE = [
    "test_resnet:drop_rate=0.3:drop_path_rate=0.3",
    "test_vit:drop_rate=0.3:drop_path_rate=0.3",
    "test_efficientnet:drop_rate=0.3:drop_path_rate=0.3",
    "mobilenetv3_small_050:drop_rate=0.3",
    "deit_tiny_distilled_patch16_224:depth=2:drop_rate=0.3",
    "levit_128s:drop_rate=0.3",
    "repvit_m0_9",
    "gmixer_12_224:drop_rate=0.3",
    "test_convnext:drop_rate=0.3:drop_path_rate=0.3",
    "test_maxvit:drop_rate=0.3",
    "efficientvim_m1:drop_rate=0.3",
]


@pytest.mark.parametrize("text", TRAINED_ALIKE)
def test_training_mode_equals_the_plain_network(text: str, make_model: Make) -> None:
    tapped = make_model(text, size=64).train()
    plain = copy.deepcopy(tapped.model)
    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    expected = plain((images - 0.4) / 0.2)
    torch.manual_seed(2)
    out = tapped(images, {"logits", "stages", "embedding"})

    torch.testing.assert_close(out.logits, expected)
    torch.testing.assert_close(dict(tapped.model.named_buffers()), dict(plain.named_buffers()))
    out.logits.square().sum().backward()
    expected.square().sum().backward()
    gradients = [{n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (tapped.model, plain)]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("signals", [{"logits"}, {"stages"}, {"embedding"}, {"classifier"}, {"stages", "embedding"}])
@pytest.mark.parametrize("text", ["test_resnet", VIT])
def test_gives_exactly_the_asked_signals_in_one_pass(text: str, signals: set[str], make_model: Make) -> None:
    tapped = make_model(text).eval()
    passes = []
    first = next(module for module in tapped.model.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda *_: passes.append(1))
    images = torch.rand(2, 1, 32, 32)
    everything = tapped(images, SIGNALS)
    passes.clear()
    out = tapped(images, signals)

    assert len(passes) == (signals != {"classifier"})
    assert set(out.values) == signals
    for signal in signals:
        torch.testing.assert_close(out.values[signal], everything.values[signal])


def test_logits_alone_run_the_plain_network_and_nothing_else(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tapped = make_model("test_resnet").eval()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the taps were opened")

    monkeypatch.setattr(tapped.model, "forward_intermediates", never)
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(tapped(images, {"logits"}).logits, tapped.model((images - 0.4) / 0.2))
    tapped(images, {"logits", "embedding"})


def test_leaves_no_hook_behind_even_when_the_network_fails(make_model: Make) -> None:
    tapped = make_model("test_resnet")
    with pytest.raises(RuntimeError):
        tapped(torch.rand(2, 5, 32, 32), {"embedding"})
    assert not any(module._forward_pre_hooks for module in tapped.modules())


def test_stages_of_a_hierarchical_network_are_its_last_maps(make_model: Make) -> None:
    tapped = make_model("resnet18").eval()
    seen: dict[str, Tensor] = {}
    for name in ("act1", "layer1", "layer2", "layer3", "layer4"):
        tapped.model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    stages = tapped(torch.rand(2, 1, 32, 32), {"stages"}).stages
    assert len(stages) == len(seen)
    for stage, expected in zip(stages, seen.values(), strict=True):
        assert torch.equal(stage, expected)


# Name -> the activation of each stage's map, and the batch normalisation before it.
ACTIVATIONS: dict[str, list[tuple[str, str] | None]] = {
    "resnet10t": [
        ("act1", "bn1"),
        *((f"layer{i}.0.act2", f"layer{i}.0.bn2") for i in range(1, 5)),
    ],  # one with shortcut
    "regnetx_002": [
        ("stem.bn.act", "stem.bn"),
        *((f"s{i + 1}.b{n}.act3", f"s{i + 1}.b{n}.conv3.bn") for i, n in enumerate((1, 1, 4, 7))),
    ],
    "vgg11_bn": [*((f"features.{i}", f"features.{i - 1}") for i in (2, 6, 13, 20, 27)), None],  # the last one is pooled
    "vgg11": [*((f"features.{i}", "") for i in (1, 4, 9, 14, 19)), None],
    "seresnet18": [
        ("act1", "bn1"),
        *((f"layer{i}.1.act2", "") for i in range(1, 5)),
    ],  # scaled behind the normalisation
    "repvgg_a0": [("stem.act", ""), *((f"stages.{i}.{n}.act", "") for i, n in enumerate((1, 3, 13, 0)))],  # three added
    "test_efficientnet": [("blocks.0.0.bn1.act", "blocks.0.0.bn1"), *[None] * 4],
    "resnetv2_18": [None] * 5,
    "test_vit:patch_size=8": [None] * 4,
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("text", ACTIVATIONS)
def test_maps_before_activations(text: str, training: bool, make_model: Make) -> None:
    tapped = make_model(text, size=64).train(training)
    images = torch.rand(2, 1, 64, 64)
    plain = copy.deepcopy(tapped)(images, {"logits", "stages"})
    out = tapped(images, {"logits", "stages", "pre_stages"})

    torch.testing.assert_close(out.logits, plain.logits, rtol=0, atol=0)
    found = tapped.pre_activations()
    for own, before, stage, norm in zip(plain.stages, out.pre_stages, ACTIVATIONS[text], found, strict=True):
        assert before.shape == own.shape
        assert (norm is None) == (stage is None)
        if stage is None:
            assert torch.equal(before, own)
            continue
        assert torch.equal(tapped.model.get_submodule(stage[0])(before.detach().clone()), own)
        assert norm is not None
        if not stage[1]:
            assert norm == (None, None)
            continue
        expected = tapped.model.get_submodule(stage[1])
        assert norm.weight is not expected.weight
        assert torch.equal(norm.weight, expected.weight)
        assert torch.equal(norm.bias, expected.bias)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in tapped.modules())


def test_gradients_pass_through_maps_before_activations(make_model: Make) -> None:
    tapped = make_model("resnet10t").train()
    before = tapped(torch.rand(2, 1, 32, 32), {"pre_stages"}).pre_stages[-1]
    assert (before < 0).any()
    (slope,) = torch.autograd.grad(before.sum(), tapped.model.get_submodule("layer4.0.bn2").bias)
    torch.testing.assert_close(slope, torch.full_like(slope, before[:, 0].numel()))


def test_stages_of_a_vit_are_evenly_spaced_blocks_without_prefix_tokens(make_model: Make) -> None:
    tapped = make_model("vit_tiny_patch16_224:patch_size=8:depth=6").eval()
    seen: list[Tensor] = []
    for block in tapped.model.get_submodule("blocks").children():
        block.register_forward_hook(lambda _, __, out: seen.append(out))
    stages = tapped(torch.rand(2, 1, 32, 32), {"stages"}).stages
    assert [stage.shape for stage in stages] == [(2, 192, 4, 4)] * 4
    for stage, number in zip(stages, (0, 2, 3, 5), strict=True):
        tokens = seen[number][:, 1:]
        for row in range(4):
            for column in range(4):
                assert torch.equal(stage[:, :, row, column], tokens[:, 4 * row + column])


def test_a_shallow_vit_gives_each_block(make_model: Make) -> None:
    assert len(make_model("vit_tiny_patch16_224:patch_size=8:depth=3").signature().stages) == 3


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("resnetv2_18", 512),  # a 1x1 convolution
        ("iformer_t", 256),  # a normalisation inside the head
        ("repvit_m0_9", 768),  # two normalisations, each with its head
        ("levit_128s", 768),  # two normalised heads on one input
        ("deit_tiny_distilled_patch16_224:depth=1", 384),  # two heads on two tokens
        ("efficientformerv2_s0", 176),  # two heads on one input
        ("resnet50_clip", 2048),  # attention pooling, whose tokens all pass the layer
        ("crossvit_tiny_240:img_size=240", 288),  # two branches
    ],
)
def test_classifier_is_the_linear_layer_from_embedding_to_logits(text: str, width: int, make_model: Make) -> None:
    tapped = make_model(text, size=64).train()
    out = tapped(torch.rand(4, 1, 64, 64), {"logits", "embedding", "classifier"})
    weight, bias = out.classifier
    assert weight.shape == (10, width)
    torch.testing.assert_close(out.embedding @ weight.T + bias, out.logits, rtol=1e-4, atol=1e-5)
    assert weight.requires_grad


@pytest.mark.parametrize("text", ["volo_d1_224", "efficientvim_m1"])
def test_heads_that_are_not_one_layer_are_a_pair_error(text: str, make_model: Make) -> None:
    tapped = make_model(text, size=64)
    with pytest.raises(PairError, match="no single last linear layer"):
        tapped(torch.rand(2, 1, 64, 64), {"logits", "classifier"})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("deit_tiny_distilled_patch16_224:depth=1", ("head", "head_dist")),
        ("levit_128s", ("head.linear", "head_dist.linear")),
        ("repvit_m0_9", ("head.head.l", "head.head_dist.l")),
        ("crossvit_tiny_240:img_size=240", ("head.0", "head.1")),
        ("test_resnet", ("fc",)),
    ],
)
def test_heads_are_those_whose_mean_the_logits_are(
    text: str, names: tuple[str, ...], training: bool, make_model: Make
) -> None:
    tapped = make_model(text, size=64).train(training)
    assert tapped.signature().heads == names
    images = torch.rand(4, 1, 64, 64)
    out = tapped(images, {"heads", "logits", "stages"})
    assert [head.shape for head in out.heads] == [(4, 10)] * len(names)
    torch.testing.assert_close(torch.stack(out.heads).mean(dim=0), out.logits)
    if training:
        slopes = torch.autograd.grad(
            out.heads[0].sum(), tapped.model.get_submodule(names[-1]).weight, allow_unused=True
        )
        assert (slopes[0] is None) == (len(names) > 1)
    assert not any(module._forward_hooks for module in tapped.modules())


def test_heads_that_are_not_averaged_are_a_pair_error(make_model: Make) -> None:
    tapped = make_model("efficientvim_m1", size=64)
    with pytest.raises(PairError, match="not the mean of its heads"):
        tapped(torch.rand(2, 1, 64, 64), {"heads"})


def test_converts_normalisation_and_size(make_model: Make) -> None:
    tapped = make_model("test_resnet:img_size=48", channels=3).eval()
    images = torch.rand(2, 3, 32, 32)
    resized = F.interpolate(images, size=(48, 48), mode="bilinear", antialias=True)
    expected = tapped.model((resized - 0.4) / 0.2)
    torch.testing.assert_close(tapped(images, {"logits"}).logits, expected)
    assert torch.equal(tapped(images, {"stages"}).stages[0], tapped(resized, {"stages"}).stages[0])


def test_normalises_each_channel_by_its_own_figures() -> None:
    model = timm.create_model("test_resnet", num_classes=10).eval()
    tapped = TappedModel(model, [0.1, 0.2, 0.3], [1.0, 2.0, 4.0], (32, 32)).eval()
    images = torch.rand(1, 3, 32, 32)
    by_hand = torch.stack([(images[:, 0] - 0.1) / 1, (images[:, 1] - 0.2) / 2, (images[:, 2] - 0.3) / 4], dim=1)
    torch.testing.assert_close(tapped(images, {"logits"}).logits, model(by_hand))
    assert not {"mean", "std"} & set(tapped.state_dict())


@pytest.mark.parametrize("text", ["test_resnet", "coat_tiny", "levit_128s", "gemma4_vit_167m:depth=1:img_size=96"])
def test_signature_changes_nothing(text: str, make_model: Make) -> None:
    tapped = make_model(text, size=64).train()
    list(tapped.model.modules())[-1].eval()
    modes = [module.training for module in tapped.modules()]
    state = {name: tensor.clone() for name, tensor in tapped.model.state_dict().items()}
    random = torch.get_rng_state()
    fresh = TappedModel(tapped.model, [0.4], [0.2], tapped.input_size)
    assert fresh.signature() == tapped.signature()
    assert fresh.signature() is fresh.signature()
    assert [module.training for module in tapped.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert {tensor.device.type for tensor in tapped.model.state_dict().values()} == {"cpu"}
    torch.testing.assert_close(dict(tapped.model.state_dict()), state, rtol=0, atol=0)


HEADS = {
    "test_resnet": True,
    "test_resnet:drop_rate=0.3": True,
    "densenet121": True,
    "test_resnet:global_pool=max": False,
    "test_efficientnet": False,  # a convolution before pooling
    "test_convnext": False,  # a norm after it
    "resnetv2_50": False,  # a norm before it
    "resmlp_12_224": False,  # a norm that changes nothing as long as it is not trained
    "shvit_s1": False,  # BatchNorm in the head, likewise
    "vgg11": False,
    "test_vit:patch_size=8": False,
    "deit_tiny_distilled_patch16_224:depth=2": False,
}


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("text", HEADS)
def test_a_head_that_only_pools_and_is_linear_is_known(text: str, size: int, make_model: Make) -> None:
    # At 32 pixels the last map of most has one position, where all kinds of pooling give the same.
    assert make_model(text, size=size).signature().head_pools == HEADS[text]


def test_a_copy_is_independent(make_model: Make) -> None:
    tapped = make_model("test_resnet").eval()
    images = torch.rand(2, 1, 32, 32)
    before = tapped(images, {"embedding"}).embedding
    other = copy.deepcopy(tapped)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(tapped(images, {"embedding"}).embedding, before)
    assert other(images, {"embedding"}).embedding.abs().max() == 0


def test_unknown_signal_is_named(make_model: Make) -> None:
    with pytest.raises(UsageError, match="unknown signals \\['maps'\\]"):
        make_model("test_resnet")(torch.rand(2, 1, 32, 32), {"maps"})


class Maps(Strategy):
    """A 1x1 convolution on each paired stage, and a linear layer between the embeddings, from shapes alone."""

    name = "maps"
    signals = ("stages", "embedding")

    def build(self, setup: Setup) -> None:
        pairs = setup.paired_shapes()
        self.adapters = nn.ModuleList(nn.Conv2d(student.channels, teacher.channels, 1) for student, teacher in pairs)
        self.linear = nn.Linear(setup.student.embedding, setup.teacher.embedding)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        maps = student.values["logits"].new_zeros(())
        for adapter, (s, t) in zip(self.adapters, self.setup.stage_pairs, strict=True):
            adapted = F.adaptive_avg_pool2d(adapter(student.stages[s]), teacher.stages[t].shape[-2:])
            maps = maps + F.mse_loss(adapted, teacher.stages[t])
        return {"maps": maps, "embedding": F.mse_loss(self.linear(student.embedding), teacher.embedding)}


@pytest.mark.parametrize("student_text", ["test_resnet", VIT])
@pytest.mark.parametrize("teacher_text", ["resnet18", "test_vit:patch_size=8"])
def test_cnn_and_vit_serve_each_other(teacher_text: str, student_text: str, make_model: Make) -> None:
    student, teacher = make_model(student_text), make_model(teacher_text).eval()
    signatures = student.signature(), teacher.signature()
    setup = Setup(*signatures, pair_stages(*signatures), num_classes=10, num_samples=80)
    strategy = Maps(setup)
    images = torch.rand(3, 1, 32, 32)
    batch = Batch(images, torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), torch.arange(3))
    with torch.no_grad():
        taught = teacher(images, {"stages", "embedding"})
    terms = strategy(student(images, {"logits", "stages", "embedding"}), taught, batch)
    torch.stack(list(terms.values())).sum().backward()
    first = next(iter(student.model.parameters()))
    assert first.grad is not None
    assert first.grad.abs().max() > 0
