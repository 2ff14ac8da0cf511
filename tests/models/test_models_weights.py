"""Weights that plain timm reads, and files that are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from kdzoo import UsageError
from kdzoo.models.taps import TappedModel
from kdzoo.models.weights import file_digest, load_weights, save_weights

Make = Callable[..., TappedModel]


def test_plain_timm_loads_a_saved_student_in_two_lines(make_model: Make, tmp_path: Path) -> None:
    student = make_model("test_resnet").eval()
    save_weights(student.model, tmp_path / "student.safetensors", {"cell": "0123", "strategy": "soft"})

    model = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "student.safetensors"))

    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(model.eval()((images - 0.4) / 0.2), student(images, {"logits"}).logits)
    with safetensors.safe_open(tmp_path / "student.safetensors", "pt") as file:
        assert json.loads(file.metadata()["kdzoo"]) == {"cell": "0123", "strategy": "soft"}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("view", torch.arange(12.0).view(3, 4).T)
        self.register_buffer("part", torch.arange(100)[::2])


def test_tied_and_non_contiguous_tensors_survive(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = Tied(), Tied()
    save_weights(source, tmp_path / "tied.safetensors", {})
    target.load_state_dict(safetensors.torch.load_file(tmp_path / "tied.safetensors"))
    torch.testing.assert_close(dict(target.state_dict()), dict(source.state_dict()), rtol=0, atol=0)
    assert target.second.weight is target.first.weight


def test_channels_last_students_are_saved(make_model: Make, tmp_path: Path) -> None:
    student = make_model("test_resnet", channels=3).model.to(memory_format=torch.channels_last)
    save_weights(student, tmp_path / "a.safetensors", {})
    other = make_model("test_resnet", channels=3)
    nn.init.zeros_(other.model.conv1[0].weight)
    load_weights(other.model, tmp_path / "a.safetensors")
    torch.testing.assert_close(other.model.state_dict(), student.state_dict(), rtol=0, atol=0)


def test_same_weights_give_the_same_bytes(make_model: Make, tmp_path: Path) -> None:
    model = make_model("test_resnet").model
    digests = set()
    for i in range(4):
        save_weights(model, tmp_path / f"{i}.safetensors", {"b": "1", "a": "2", "c": "3"})
        digests.add(file_digest(tmp_path / f"{i}.safetensors"))
    assert digests == {hashlib.sha256((tmp_path / "0.safetensors").read_bytes()).hexdigest()}


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_reads_torch_files(wrap: Callable[..., object], prefix: str, make_model: Make, tmp_path: Path) -> None:
    source = make_model("test_resnet").model
    torch.save(wrap({prefix + name: tensor for name, tensor in source.state_dict().items()}), tmp_path / "t.pth")
    target = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    load_weights(target, tmp_path / "t.pth")
    torch.testing.assert_close(target.state_dict(), source.state_dict(), rtol=0, atol=0)


class Unsafe:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def other_classes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"fc.weight": torch.zeros(1000, 96), "fc.bias": torch.zeros(1000)}


def without_stem(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("conv1.0")}


def with_teacher(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"teacher.fc.weight": torch.zeros(2)}


def of_other_shape(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"conv1.0.weight": torch.zeros(1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_classes, "are for 1000 classes, and 10 are needed"),
        (without_stem, "lack 'conv1.0.weight': they belong to another model"),
        (with_teacher, "also hold 'teacher.fc.weight'"),
        (lambda state: with_teacher(without_stem(state)), "lack 'conv1.0.weight' and also hold 'teacher.fc.weight'"),
        (of_other_shape, r"another shape at 'conv1.0.weight' \(\[1, 1, 1, 1\] instead of \[.*\]\)"),
        (lambda state: dict(list(state.items())[:1]), "lack .*, .*, .* and [0-9]+ more"),
    ],
)
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_of_another_network_are_refused(
    change: Callable[..., dict[str, Tensor]], message: str, kind: str, make_model: Make, tmp_path: Path
) -> None:
    path = tmp_path / f"w.{kind}"
    state = {name: torch.ones_like(tensor) for name, tensor in make_model("test_resnet").model.state_dict().items()}
    if kind == "pt":
        torch.save(change(state), path)
    else:
        safetensors.torch.save_file(change(state), path)
    target = make_model("test_resnet").model
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(UsageError, match=message) as caught:
        load_weights(target, path)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(dict(target.state_dict()), before, rtol=0, atol=0)


def test_unsafe_files_are_refused_and_not_run(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Unsafe()}, "unsafe.pt")
    with pytest.raises(UsageError, match="not safe to load"):
        load_weights(make_model("test_resnet").model, Path("unsafe.pt"))
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_damaged_and_missing_files_are_refused(name: str, make_model: Make, tmp_path: Path) -> None:
    model = make_model("test_resnet").model
    path = tmp_path / name
    with pytest.raises(UsageError, match=f"the weights .*{name} cannot be read: no such file"):
        load_weights(model, path)
    if name.endswith(".pt"):
        torch.save(model.state_dict(), path)
    else:
        save_weights(model, path, {})
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello", b"\x00" * 64):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="damaged"):
            load_weights(model, path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="cannot be read: the path is no plain file but a folder"):
        load_weights(model, path)


def test_files_without_a_state_dict_are_refused(make_model: Make, tmp_path: Path) -> None:
    for content in ([torch.zeros(2)], {"state_dict": {}}, {"epoch": 3}):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(UsageError, match="hold no state dict"):
            load_weights(make_model("test_resnet").model, tmp_path / "w.pt")


def test_digest_of_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: no such file"):
        file_digest(tmp_path / "none.pt")
