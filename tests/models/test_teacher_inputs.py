"""How the network of a file of weights is shown images: what is told, what is asked for, and what comes of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models._hub import save_for_hf
from torchvision.transforms.functional import to_pil_image

from kdzoo import UsageError
from kdzoo.inputs import read_input
from kdzoo.models.preprocessing import DatasetImages, StatedInput, check_classes, choose_input, stated_input
from kdzoo.models.taps import TappedModel
from kdzoo.models.weightfile import open_weights
from kdzoo.models.weights import save_weights
from kdzoo.models.zoo import create_model
from kdzoo.refs import DataRef, Input, ModelRef

Make = Callable[..., TappedModel]
MODEL = ModelRef(name="test_resnet")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM_ARGS: dict[str, Any] = {"model": "test_resnet", "in_chans": None, "input_size": None, "img_size": None}
TIMM_ARGS |= {"mean": None, "std": None, "crop_pct": None, "interpolation": ""}


@pytest.fixture
def images(data_ref: Callable[..., DataRef]) -> Callable[..., DatasetImages]:
    """DatasetImages of 32 pixels with ImageNet's normalisation, cropped to 0.875 as files are."""

    def make(channels: int = 3, seen: float = 0.875) -> DatasetImages:
        return DatasetImages(data_ref(channels), IMAGENET[0][:channels], IMAGENET[1][:channels], seen)

    return make


def choose(images: DatasetImages, asked: str = "", told: dict[str, Any] | None = None, model: ModelRef = MODEL) -> Any:
    given = StatedInput(told, "the header of w") if told else None
    return choose_input(read_input(asked) if asked else None, given, model, images, "w.pt")


def test_nothing_told_is_the_datasets_own_way(images: Callable[..., DatasetImages]) -> None:
    shown, line = choose(images())
    assert shown is None
    assert line == (
        "input 32x32, mean 0.485/0.456/0.406, std 0.229/0.224/0.225 (the dataset's own, as neither w.pt nor a "
        "file beside it says otherwise)"
    )


def test_what_equals_the_datasets_own_way_is_left_out(images: Callable[..., DatasetImages]) -> None:
    rounded = {"mean": torch.tensor(IMAGENET[0]).tolist(), "std": list(IMAGENET[1])}  # float32, as old headers have it
    told = rounded | {"size": [32, 32], "crop": 0.875, "interpolation": "bilinear"}
    shown, line = choose(images(), told=told)
    assert shown is None
    assert line.endswith("(from the header of w)")
    shown, _ = choose(images(), told=told | {"std": [0.5]})
    assert shown == Input(std=(0.5, 0.5, 0.5))


def test_what_is_asked_for_wins_and_the_line_says_whence_each_came(images: Callable[..., DatasetImages]) -> None:
    told = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": [64, 64], "crop": 0.7, "interpolation": "bicubic"}
    shown, line = choose(images(), told=told)
    assert shown == Input(mean=(0.5,) * 3, std=(0.5,) * 3, size=(64, 64), crop=0.7, interpolation="bicubic")
    assert line == "input 64x64, mean 0.5, std 0.5, crop 0.7, interpolation bicubic (from the header of w)"
    shown, line = choose(images(), "mean=0.1/0.2/0.3,size=48x40", told)
    assert shown == Input(mean=(0.1, 0.2, 0.3), std=(0.5,) * 3, size=(48, 40), crop=0.7, interpolation="bicubic")
    assert "(mean, size from --teacher-input; std, crop, interpolation from the header of w)" in line
    shown, line = choose(images(), "std=0.4,rest=data", told)
    assert shown == Input(std=(0.4,) * 3)
    assert line.endswith("(std from --teacher-input; the rest is the dataset's)")


def test_grey_images_get_the_mean_over_the_channels_as_timm_does(images: Callable[..., DatasetImages]) -> None:
    shown, _ = choose(images(channels=1), told={"mean": [0.25, 0.5, 0.75], "std": [0.5, 0.5, 0.2]})
    assert shown == Input(mean=(0.5,), std=(0.4,))
    with pytest.raises(UsageError, match=r"mean has 3 numbers: give one, or one for each channel \(1\)"):
        choose(images(channels=1), "mean=0.1/0.2/0.3")


@pytest.mark.parametrize(
    ("told", "remark"),
    [
        ({"crop": 0.95}, "crop 0.95 cannot be shown, as the dataset's images are cropped to 0.875"),
        ({"interpolation": "bicubic"}, "interpolation bicubic is not used, as the dataset's images have that size"),
        ({"interpolation": "lanczos", "size": [64, 64]}, "bicubic is used instead of the interpolation lanczos"),
    ],
)
def test_what_cannot_be_done_is_said(told: dict[str, Any], remark: str, images: Callable[..., DatasetImages]) -> None:
    shown, line = choose(images(), told=told)
    assert remark in line
    assert (shown or Input()).crop is None


@pytest.mark.parametrize(
    "told",
    [
        *({"mean": "grey"}, {"mean": []}, {"std": [0.0]}, {"std": [float("nan")]}, {"size": 3}, {"size": [0, 3]}),
        *({"crop": 3}, {"crop": "all"}, {"interpolation": ["bilinear"]}, {"interpolation": "cubic"}),
    ],
)
def test_an_impossible_value_is_told_with_its_place(told: dict[str, Any], images: Callable[..., DatasetImages]) -> None:
    (key,) = told
    with pytest.raises(UsageError, match=f"^the header of w: .* cannot be the {key} .*--teacher-input {key}="):
        choose(images(), told=told)


def test_the_models_own_size_stands(images: Callable[..., DatasetImages]) -> None:
    sized = ModelRef.parse("test_resnet:img_size=64")
    shown, line = choose(images(), told={"size": [48, 48], "interpolation": "bicubic"}, model=sized)
    assert shown == Input(interpolation="bicubic")
    assert line.startswith("input 64x64")
    assert "the model's own img_size overrides its size" in line
    with pytest.raises(UsageError, match="size=48 contradicts test_resnet:img_size=64"):
        choose(images(), "size=48", model=sized)
    assert choose(images(), "size=64", model=sized)[0] is None


def test_our_own_header_tells_all(make_model: Make, tmp_path: Path) -> None:
    header = {"mean": [0.5], "std": [0.25], "input_size": [24, 24], "crop_pct": 0.9, "interpolation": "bilinear"}
    save_weights(make_model("test_resnet").model, tmp_path / "w.safetensors", header | {"classes": ["a", "b"]})
    file = open_weights(tmp_path / "w.safetensors")
    told = stated_input(file, MODEL)
    assert told is not None
    assert told.source == "the header of w.safetensors"
    assert told.values == {"mean": [0.5], "std": [0.25], "size": [24, 24], "crop": 0.9, "interpolation": "bilinear"}
    assert file.classes == ("a", "b")


@pytest.mark.parametrize(
    "args", [{}, {"mean": [0.5]}, {"img_size": 40, "crop_pct": 0.9, "interpolation": "bicubic", "std": [0.1, 0.2, 0.3]}]
)
@pytest.mark.parametrize("beside", [False, True])
def test_timms_arguments_mean_what_they_mean_to_timm(
    args: dict[str, Any], beside: bool, make_model: Make, tmp_path: Path
) -> None:
    model = make_model("test_resnet", channels=3).model
    given = TIMM_ARGS | args
    content: dict[str, Any] = {"state_dict": model.state_dict()}
    if beside:
        (tmp_path / "args.yaml").write_text(yaml.safe_dump(given))
    else:
        content["args"] = argparse.Namespace(**given)
    torch.save(content, tmp_path / "w.pth.tar")
    told = stated_input(open_weights(tmp_path / "w.pth.tar"), ModelRef(name="resnet18"))
    assert told is not None
    assert told.source == ("args.yaml beside w.pth.tar" if beside else "args in w.pth.tar")
    meant = resolve_data_config(given, model=model)
    assert told.values["size"] == meant["input_size"][1:]
    assert {key: told.values[key] for key in ("mean", "std", "interpolation")} == {
        key: meant[key] for key in ("mean", "std", "interpolation")
    }
    assert told.values["crop"] == meant["crop_pct"]


def test_timms_config_beside_the_file(make_model: Make, tmp_path: Path) -> None:
    model = make_model("test_resnet", channels=3).model
    save_for_hf(model, tmp_path, {"label_names": [*"abcdefghij"]}, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "crop_pct": 0.7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = open_weights(tmp_path / "model.safetensors")
    told = stated_input(file, MODEL)
    assert told is not None
    assert told.source == "config.json beside model.safetensors"
    assert told.values["mean"] == [0.1, 0.2, 0.3]
    assert (told.values["crop"], told.values["size"]) == (0.7, [160, 160])
    assert file.classes == tuple("abcdefghij")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model_type": "bert"}', '{"architecture": 3}', '{"architecture": "x", "pretrained_cfg": 1}']
)
def test_another_programs_config_tells_nothing(text: str, make_model: Make, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "args.yaml").write_text("model: test_resnet\n")
    torch.save(make_model("test_resnet").model.state_dict(), tmp_path / "w.pt")
    file = open_weights(tmp_path / "w.pt")
    assert stated_input(file, MODEL) is None
    assert file.classes is None


def test_arguments_that_timm_refuses_are_one_sentence(make_model: Make, tmp_path: Path) -> None:
    args = argparse.Namespace(**TIMM_ARGS | {"img_size": "large"})
    torch.save({"model": make_model("test_resnet").model.state_dict(), "args": args}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"args in w.pt cannot be understood.*give --teacher-input rest=data"):
        stated_input(open_weights(tmp_path / "w.pt"), MODEL)


@pytest.mark.parametrize(
    ("interpolation", "size", "crop"),
    [
        *(("bilinear", 32, 0.875), ("bilinear", 24, 0.95), ("bilinear", 48, 1.0), ("bilinear", 40, 0.7)),
        *(("bicubic", 32, 0.875), ("bicubic", 24, 0.95), ("bicubic", 48, 1.0), ("bicubic", 40, 0.7)),
        # Where a pixel's centre falls between two, torch and Pillow choose differently: sizes without such pixels.
        *(("nearest", 64, 1.0), ("nearest", 16, 1.0), ("nearest", 56, 0.875)),
    ],
)
def test_a_network_sees_what_timms_evaluation_would_show_it(
    interpolation: str, size: int, crop: float, data_ref: Callable[..., DataRef]
) -> None:
    torch.manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), size=32, mode="bicubic").clamp(0, 1)[0]
    picture: Image.Image = to_pil_image(image)
    timms = create_transform(size, crop_pct=crop, interpolation=interpolation, mean=[0.5] * 3, std=[0.25] * 3)
    shown = Input(mean=(0.5,) * 3, std=(0.25,) * 3, size=(size, size), crop=crop, interpolation=interpolation)
    model = create_model(MODEL, data_ref(channels=3), (0.0,) * 3, (1.0,) * 3, shown=shown)
    exact = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    ours = model._convert(exact)
    assert ours.shape == (1, 3, size, size)
    # Pillow rounds to whole grey levels, after either direction; one is 1/255 before the normalisation.
    torch.testing.assert_close(ours[0], timms(picture), rtol=0, atol=1.5 / 255 / 0.25)


def test_a_crop_counts_from_the_originals(data_ref: Callable[..., DataRef]) -> None:
    model = create_model(MODEL, data_ref(), (0.0,), (1.0,), shown=Input(crop=0.7), seen=0.875)
    image = torch.zeros(1, 1, 32, 32)
    image[..., 4:28, 4:28] = 1  # the middle 24 of 32 pixels; 0.7 / 0.875 of them are 25.6
    seen = model._convert(image)
    assert seen.shape == image.shape
    assert seen[..., 16, 16].item() == 1
    assert 0 < (seen < 0.5).float().mean().item() < 0.15


def test_with_rest_data_the_flag_gives_exactly_one_input(images: Callable[..., DatasetImages]) -> None:
    told = {"mean": [0.9] * 3, "std": [0.9] * 3, "size": [8, 8], "crop": 0.1}
    for flag, shown in (
        ("rest=data", None),
        ("rest=data,mean=0.1/0.2/0.3", Input(mean=(0.1, 0.2, 0.3))),
        (
            "rest=data,std=0.5/0.5/0.5,size=40x48,crop=0.7,interpolation=nearest",
            Input(std=(0.5,) * 3, size=(40, 48), crop=0.7, interpolation="nearest"),
        ),
    ):
        assert choose(images(), flag, told)[0] == shown


def test_a_flag_and_yaml_say_the_same() -> None:
    flag = read_input("mean=0.5,std=0.1/0.2/0.3,size=32x48,crop=0.9,interpolation=bicubic,rest=data")
    assert flag == read_input(
        {"mean": 0.5, "std": [0.1, 0.2, 0.3], "size": "32x48", "crop": 0.9, "interpolation": "bicubic", "rest": "data"}
    )
    assert flag.size == (32, 48)
    assert read_input({"size": 32, "mean": None}).size == (32, 32)


def test_classes_in_another_order_are_refused_and_other_names_warned_of() -> None:
    assert check_classes(None, ["a", "b"], "w") == ""
    assert check_classes(("a", "b"), ["a", "b"], "w") == ""
    with pytest.raises(UsageError, match="w have the dataset's classes in another order"):
        check_classes(("1", "2", "10"), ["1", "10", "2"], "w")
    warning = check_classes(("tench", "shark"), ["cat", "dog"], "w")
    assert warning == (
        "the weights w were trained for other classes by name: their class 0 is 'tench', and the dataset's is 'cat'"
    )
