"""From a model's text to a network, and one sentence for each wrong text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from timm.models import PretrainedCfg

from kdzoo import StageShape, UsageError
from kdzoo.models.taps import TappedModel
from kdzoo.models.weights import save_weights
from kdzoo.models.zoo import check_model, create_model, plain_arguments, pretrained_classes
from kdzoo.refs import DataRef, ModelRef

Make = Callable[..., TappedModel]
MakeRef = Callable[..., DataRef]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet1o1", "unknown model 'resnet1o1'; did you mean resnet101 or"),
        ("resnet101.a1h", "unknown tag of resnet101 'a1h'; did you mean a1h_in1k"),
        ("resnet101.", "unknown tag of resnet101 ''"),
        ("timm/resnet18", "write hf-hub:timm/resnet18 for a model of the Hugging Face Hub"),
        ("resnet18:num_classes=5", "num_classes cannot be set"),
        ("resnet18:checkpoint_path=evil.pt", "checkpoint_path cannot be set"),
        ("resnet18:pretrained=true", "pretrained cannot be set"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_made(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_model(ModelRef.parse(text))


@pytest.mark.parametrize("text", ["resnet101", "resnet101.a1h_in1k", "vit_tiny_patch16_224:patch_size=4"])
def test_right_names_pass(text: str) -> None:
    check_model(ModelRef.parse(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18:depth=5", "timm's resnet18 takes no argument 'depth'"),
        ("convmixer_768_32:depth=4", "timm's convmixer_768_32 fixes its argument 'depth'"),
        ("resnet18:img_size=big", "img_size must be a whole number of pixels, not 'big'"),
        ("resnet18:img_size=0", "img_size must be a whole number of pixels, not 0"),
        (
            "vit_tiny_patch16_224:patch_size=64",
            "timm refuses vit_tiny_patch16_224:patch_size=64 for 1 x 32 x 32 images",
        ),
        ("inception_v3", "Kernel size can't be greater.*as in inception_v3:img_size=299"),
        ("halonet_h1", r"for 1 x 32 x 32 images \(AssertionError: .*block_size.*as in halonet_h1:img_size=256"),
        ("qwen3_vit_88m_enc", "model qwen3_vit_88m_enc: Qwen3VitEncoder only encodes images"),
        ("mobilenetv3_small_050:global_pool=best", "timm refuses mobilenetv3_small_050:global_pool=best"),
    ],
)
def test_what_timm_refuses_is_one_sentence(text: str, message: str, make_model: Make) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_model(text)
    assert "\n" not in str(caught.value)


def test_size_and_arguments_reach_the_network(make_model: Make) -> None:
    vit = make_model("vit_tiny_patch16_224:patch_size=4:depth=2")
    assert vit.signature().stages == (StageShape(192, 8, 8),) * 2
    assert make_model("vit_tiny_patch16_224:patch_size=4:depth=2:img_size=16").signature().stages[0].height == 4
    assert make_model("test_resnet:img_size=64").signature().stages[0] == StageShape(32, 32, 32)
    assert make_model("test_resnet", channels=3, num_classes=7).signature().num_classes == 7


def test_images_need_not_be_square() -> None:
    data = DataRef(name="wide", fingerprint="0", num_classes=10, channels=1, img_size=(32, 64), fit=8, tune=1, test=1)
    for text in ("vit_tiny_patch16_224:depth=2", "swin_tiny_patch4_window7_224", "test_resnet"):
        tapped = create_model(ModelRef.parse(text), data, [0.5], [0.2])
        stage = tapped.signature().stages[0]
        assert 2 * stage.height == stage.width


def test_plain_arguments_make_the_same_network(data_ref: MakeRef, make_model: Make) -> None:
    text = "vit_tiny_patch16_224:patch_size=4:depth=2"
    arguments = plain_arguments(ModelRef.parse(text), data_ref())
    assert arguments == {
        "model_name": "vit_tiny_patch16_224",
        "num_classes": 10,
        "in_chans": 1,
        "img_size": (32, 32),
        "patch_size": 4,
        "depth": 2,
    }
    timm.create_model(**arguments).load_state_dict(make_model(text).model.state_dict())
    assert "img_size" not in plain_arguments(ModelRef.parse("resnet18:img_size=64"), data_ref())


def test_weights_follow_the_global_seed(make_model: Make, data_ref: MakeRef) -> None:
    first, second = make_model("test_resnet"), make_model("test_resnet")
    torch.testing.assert_close(first.model.state_dict(), second.model.state_dict(), rtol=0, atol=0)
    other = create_model(ModelRef(name="test_resnet"), data_ref(), [0.4], [0.2])  # the generator has moved on
    assert not torch.equal(other.model.conv1[0].weight, first.model.conv1[0].weight)


def test_pretrained_classes() -> None:
    assert pretrained_classes(ModelRef(name="resnet18")) == 1000
    assert pretrained_classes(ModelRef(name="resnetv2_50x1_bit.goog_in21k")) == 21843
    assert pretrained_classes(ModelRef(name="vit_small_patch14_dinov2.lvd142m")) == 0
    assert pretrained_classes(ModelRef(name="resnetv2_18d")) == 1000
    assert pretrained_classes(ModelRef(name="cspdarknet53")) == 1000
    assert pretrained_classes(ModelRef(name="regnety_040_sgn")) is None
    with pytest.raises(UsageError, match="unknown model"):
        pretrained_classes(ModelRef(name="resnet1o1"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_without_network_pretrained_weights_are_one_sentence(data_ref: MakeRef, tmp_path: Path) -> None:
    ref = ModelRef.parse("test_resnet.r160_in1k")
    with pytest.raises(UsageError, match=r"pretrained weights of test_resnet.* cannot be loaded \(.*connect") as caught:
        create_model(ref, data_ref(3, 160, 1000), [0.5] * 3, [0.5] * 3, pretrained=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="the model hf-hub:nobody/nothing cannot be looked up"):
        create_model(ModelRef.parse("hf-hub:nobody/nothing"), data_ref(), [0.5], [0.5])
    with pytest.raises(UsageError, match="cannot be looked up"):
        create_model(ModelRef.parse(f"local-dir:{tmp_path}"), data_ref(), [0.5], [0.5])


@pytest.mark.usefixtures("offline")
def test_wrong_arguments_of_pretrained_models_are_told_as_such(data_ref: MakeRef) -> None:
    with pytest.raises(UsageError, match="takes no argument 'depth'"):
        create_model(ModelRef.parse("test_resnet:depth=3"), data_ref(3), [0.5] * 3, [0.5] * 3, pretrained=True)


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A folder as the hub keeps one: a small network for 5 classes, with a size and normalisation of its own."""
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=5)
    save_weights(model, tmp_path / "model.safetensors", {})
    config: dict[str, Any] = PretrainedCfg(
        num_classes=5, input_size=(3, 48, 48), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), first_conv="conv1.0"
    ).to_dict()
    config |= {"classifier": "fc"}
    text = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": config}
    (tmp_path / "config.json").write_text(json.dumps(text))
    return tmp_path


def test_pretrained_weights_bring_their_own_input(hub_folder: Path, data_ref: MakeRef) -> None:
    ref = ModelRef.parse(f"local-dir:{hub_folder}")
    assert pretrained_classes(ref) == 5
    tapped = create_model(ref, data_ref(3, 32, 5), [0.4] * 3, [0.2] * 3, pretrained=True)
    assert tapped.input_size == (48, 48)
    torch.testing.assert_close(tapped.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(tapped.std.flatten(), torch.tensor([0.5, 0.6, 0.7]))
    torch.manual_seed(3)
    expected = timm.create_model("test_resnet", num_classes=5).state_dict()
    torch.testing.assert_close(tapped.model.state_dict(), expected, rtol=0, atol=0)


def test_own_input_without_the_weights(hub_folder: Path, data_ref: MakeRef) -> None:
    ref = ModelRef.parse(f"local-dir:{hub_folder}")
    grey = create_model(ref, data_ref(1, 32, 5), [0.4], [0.2], own_input=True)
    assert grey.input_size == (48, 48)
    torch.testing.assert_close(grey.mean.flatten(), torch.tensor([0.2]))
    torch.testing.assert_close(grey.std.flatten(), torch.tensor([0.6]))
    given = create_model(ref, data_ref(3, 32, 5), [0.4] * 3, [0.2] * 3, pretrained=True, own_input=False)
    assert given.input_size == (32, 32)
    torch.testing.assert_close(given.mean.flatten(), torch.full((3,), 0.4))


def test_pretrained_body_with_a_new_head(hub_folder: Path, data_ref: MakeRef) -> None:
    ref = ModelRef.parse(f"local-dir:{hub_folder}")
    tapped = create_model(ref, data_ref(3, 32, 10), [0.4] * 3, [0.2] * 3, pretrained=True)
    torch.manual_seed(3)
    source = timm.create_model("test_resnet", num_classes=5)
    assert torch.equal(tapped.model.conv1[0].weight, source.conv1[0].weight)
    assert tapped.model.fc.weight.shape == (10, 96)
