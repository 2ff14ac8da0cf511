"""What people's files of weights look like: timm's checkpoints, Lightning's, averages, other types, and misfits."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import Tensor, nn

from kdzoo import UsageError
from kdzoo.models.taps import TappedModel
from kdzoo.models.weightfile import open_weights
from kdzoo.models.weights import fit_weights, load_weights

Make = Callable[..., TappedModel]
State = dict[str, Tensor]


def timm_args(**changes: Any) -> argparse.Namespace:
    """The arguments of timm's ``train.py`` that concern us, as it saves them."""
    values = {"model": "test_resnet", "num_classes": 10, "in_chans": 1, "input_size": None, "img_size": 32}
    values |= {"mean": None, "std": None, "crop_pct": None, "interpolation": "", "lr": 0.1, "opt": "sgd"}
    return argparse.Namespace(**values | changes)


def timm_checkpoint(model: nn.Module, folder: Path, average: nn.Module | None = None, **args: Any) -> Path:
    """What timm's own saver writes during a training."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = None if average is None else ModelEmaV3(average)
    saver = CheckpointSaver(
        model, optimizer, timm_args(**args), kept, checkpoint_dir=str(folder), recovery_dir=str(folder)
    )
    saver.save_checkpoint(3, metric=50.0)
    return folder / "last.pth.tar"


def same(model: nn.Module, state: State) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.fixture
def source(make_model: Make) -> nn.Module:
    """A network whose weights, averages of batches among them, are not those of a new one."""
    model = make_model("test_resnet").model
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    return model


@pytest.fixture
def target(make_model: Make) -> nn.Module:
    return make_model("test_resnet").model


def test_timms_training_checkpoint_loads_safely(source: nn.Module, target: nn.Module, tmp_path: Path) -> None:
    path = timm_checkpoint(source, tmp_path)
    assert load_weights(target, path) == ()
    assert same(target, source.state_dict())
    file = open_weights(path)
    assert file.average is None
    assert file.timm_args is not None
    assert file.timm_args[0] == "args in last.pth.tar"


def test_the_average_is_found_and_taken_where_it_is_asked_for(
    source: nn.Module, target: nn.Module, make_model: Make, tmp_path: Path
) -> None:
    average = make_model("test_resnet").model
    file = open_weights(timm_checkpoint(source, tmp_path, average))
    assert file.average == "state_dict_ema"
    assert fit_weights(target, file, file.average) == ("its state_dict_ema, the moving average, is used",)
    assert same(target, average.state_dict())
    assert fit_weights(target, file) == ()
    assert same(target, source.state_dict())


@pytest.mark.parametrize(("first", "taken"), [("state_dict_ema", "state_dict_ema"), ("other", "model_ema")])
def test_timms_order_of_averages(first: str, taken: str, source: nn.Module, tmp_path: Path) -> None:
    state = source.state_dict()
    torch.save({"model": state, "model_ema": state, first: state}, tmp_path / "w.pt")
    assert open_weights(tmp_path / "w.pt").average == taken


def test_an_average_that_is_none_is_not_there(source: nn.Module, target: nn.Module, tmp_path: Path) -> None:
    torch.save({"state_dict": source.state_dict(), "state_dict_ema": None}, tmp_path / "w.pt")
    file = open_weights(tmp_path / "w.pt")
    assert file.average is None
    fit_weights(target, file)
    assert same(target, source.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"model_state_dict": s, "epoch": 3},
        lambda s: {"net": s},
        lambda s: {"state_dict": {"model": s, "step": 1}},
        lambda s: {"args": {"lr": 0.1}, "state_dict": s},
    ],
)
def test_nested_state_dicts(
    wrap: Callable[[State], object], source: nn.Module, target: nn.Module, tmp_path: Path
) -> None:
    torch.save(wrap(source.state_dict()), tmp_path / "w.pt")
    assert load_weights(target, tmp_path / "w.pt") == ()
    assert same(target, source.state_dict())


@pytest.mark.parametrize("prefix", ["model.", "net.backbone.", "model._orig_mod.", "student.module."])
def test_a_prefix_is_taken_off_and_said(prefix: str, source: nn.Module, target: nn.Module, tmp_path: Path) -> None:
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.0"}, tmp_path / "w.ckpt")
    assert load_weights(target, tmp_path / "w.ckpt") == (f"the prefix {prefix} is removed from the names",)
    assert same(target, source.state_dict())


def test_torchs_averaged_model(source: nn.Module, target: nn.Module, tmp_path: Path) -> None:
    torch.save(torch.optim.swa_utils.AveragedModel(source).state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(target, source.state_dict())


def test_missing_counters_of_batches_are_filled_in(source: nn.Module, target: nn.Module, tmp_path: Path) -> None:
    counters = {name: tensor for name, tensor in target.state_dict().items() if name.endswith("num_batches_tracked")}
    state = {name: tensor for name, tensor in source.state_dict().items() if name not in counters}
    assert counters
    for prefix in ("", "model."):
        torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "w.pt")
        load_weights(target, tmp_path / "w.pt")
        assert same(target, state | counters)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_read_and_said(
    dtype: torch.dtype, source: nn.Module, target: nn.Module, tmp_path: Path
) -> None:
    torch.save(
        {n: t.to(dtype) if t.is_floating_point() else t for n, t in source.state_dict().items()}, tmp_path / "w.pt"
    )
    assert load_weights(target, tmp_path / "w.pt") == (f"{str(dtype)[6:]} is read as float32",)
    assert same(target, {name: t.to(dtype).to(t.dtype) for name, t in source.state_dict().items()})


def without(state: State, *starts: str) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(starts)}


def with_nan(state: State) -> State:
    state["fc.weight"][3, 5] = math.nan
    return state


def with_infinity(state: State) -> State:
    state["bn1.running_var"] = state["bn1.running_var"].half() * 1e30
    return state


def of_twins(state: State) -> State:
    return {f"{side}.{name}": tensor for side in ("student", "teacher") for name, tensor in state.items()}


MISFITS: list[tuple[Callable[[State], State], str]] = [
    (with_nan, "hold NaN or infinity at 'fc.weight': their training diverged; use an earlier checkpoint"),
    (with_infinity, "hold NaN or infinity at 'bn1.running_var'"),
    (lambda s: without(s, "fc."), "have no classifier: 'fc.weight', 'fc.bias' are missing"),
    (
        lambda s: without(s, "fc.") | {"last.weight": s["fc.weight"], "last.bias": s["fc.bias"]},
        "have their classifier under another name, 'last.weight', and 'fc.weight', 'fc.bias' is expected",
    ),
    (of_twins, r"hold several networks of this kind \(under 'student.', 'teacher.'\)"),
    (lambda s: {f"model.{n}": t for n, t in s.items()} | {"loss.weight": torch.ones(4)}, "also hold 'loss.weight'"),
    (lambda s: s | {"fc.bias": s["fc.bias"].to(torch.int8)}, r"are not plain numbers at fc.bias \(int8\)"),
    (lambda s: s | {"fc.weight": s["fc.weight"].to_sparse()}, r"are not plain numbers at fc.weight \(sparse_coo\)"),
]


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(("change", "message"), MISFITS)
def test_what_is_wrong_with_the_values_or_names_is_told(
    change: Callable[[State], State], message: str, source: nn.Module, target: nn.Module, tmp_path: Path
) -> None:
    torch.save(change({name: tensor.clone() for name, tensor in source.state_dict().items()}), tmp_path / "w.pt")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(UsageError, match=message) as caught:
        load_weights(target, tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert same(target, before)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ({}, {"num_classes": 7}, "are for 10 classes, and 7 are needed"),
        ({"channels": 3}, {}, r"take images of 3 channels, and these have 1 \(conv1.0.weight\)"),
        ({"text": "test_vit", "channels": 3}, {"text": "test_vit"}, "take images of 3 channels, and these have 1"),
        ({"text": "test_vit:depth=3"}, {"text": "test_vit"}, "are of another depth: 3 blocks in blocks, and 6 are"),
        ({"text": "resnet10t"}, {"text": "resnet14t"}, "lack 'layer1.0.conv3.weight'"),
        ({"text": "resnet18"}, {"text": "resnet34"}, "are of another depth: 2 blocks in layer1, and 3 are needed"),
        ({"text": "test_vit"}, {"text": "test_vit:embed_dim=32:num_heads=1"}, "are of another width"),
        ({"text": "test_vit", "size": 64}, {"text": "test_vit"}, r"are for images of another size.*\(\[1, 17, 64\]"),
        (
            {"text": "test_vit:patch_size=8"},
            {"text": "test_vit"},
            "have patches of 8 x 8 pixels, and the model 16 x 16 .*: write the model as NAME:patch_size=8",
        ),
    ],
)
def test_another_geometry_is_told_as_what_it_is(
    theirs: dict[str, Any], ours: dict[str, Any], message: str, make_model: Make, tmp_path: Path
) -> None:
    torch.save(make_model(**{"text": "test_resnet"} | theirs).model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=message) as caught:
        load_weights(make_model(**{"text": "test_resnet"} | ours).model, tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


class Other:
    """Neither a tensor nor a plain value."""


@pytest.mark.parametrize("place", ["args", "state_dict", "hyper_parameters"])
def test_a_namespace_opens_no_door_for_other_objects(
    place: str, source: nn.Module, target: nn.Module, tmp_path: Path
) -> None:
    content = {"state_dict": source.state_dict(), "args": timm_args(), place: argparse.Namespace(inner=Other())}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="hold more than tensors, which is not safe to load"):
        load_weights(target, tmp_path / "w.pt")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
