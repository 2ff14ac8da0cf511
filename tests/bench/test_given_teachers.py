"""Given teachers whose classes are in another order, or that need other images: what is said of them, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from small_lab import FIT, Quadrants, Quiet, prepare

from kdzoo.bench import teacher_checks as advices
from kdzoo.bench.executors.local import run_cells
from kdzoo.bench.normalisation import find_normalisation
from kdzoo.data.load import open_data
from kdzoo.inputs import read_input
from kdzoo.models.weightfile import METADATA_KEY
from kdzoo.record import Record
from kdzoo.refs import ModelRef

TEACHER = "test_resnet"
IN_TURN = [1, 2, 3, 0]


def trained(path: Path, *, normalised: bool) -> str:
    """Weights of plain timm that are always right, for images as the dataset normalises them, or as they are."""
    data = open_data("quadrants", lambda _: Quadrants())
    images, labels = data.images("fit", torch.arange(FIT)), data.labels("fit")
    if normalised:
        images = (images - data.mean[0]) / data.std[0]
    torch.manual_seed(0)
    model = timm.create_model(TEACHER, num_classes=4, in_chans=1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        chosen = torch.randperm(FIT)[:32]
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]))
        optimizer.step()
    save_file(model.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A teacher that is right, and has the dataset's classes and images."""
    return trained(tmp_path_factory.mktemp("sound") / "teacher.safetensors", normalised=True)


def reordered(weights_file: str, order: list[int], path: Path, classes: list[str] | None = None) -> str:
    """The teacher with the rows of its last layer in another order."""
    weights = load_file(weights_file)
    for name in ("fc.weight", "fc.bias"):
        weights[name] = weights[name][order].contiguous()
    save_file(weights, path, {METADATA_KEY: json.dumps({"classes": classes})} if classes else {})
    return str(path)


def taught(out: Path, rerun: str = "failed", **config: Any) -> tuple[Record, list[str]]:
    """The record of the one student, and what was said."""
    bench = prepare(out, [], **{"epochs": 1, "teacher": TEACHER} | config)
    said: list[str] = []
    bench.lab.say_with(said.append)
    (record,) = run_cells(bench.plan.cells, bench.lab, Quiet(), rerun)
    return record, said


def test_classes_in_another_order_are_the_reason_of_a_refusal(tmp_path: Path, sound: str) -> None:
    path = reordered(sound, IN_TURN, tmp_path / "teacher.safetensors")
    record, said = taught(tmp_path / "out", teacher_weights=path)
    assert record.status == "failed"
    assert (
        "its classes seem to be in another order: reordered, it scores 100.0% on tune instead of 0.0%" in record.reason
    )
    assert "for 'a' it says 'd', for 'b' it says 'a', for 'c' it says 'b', and so on for 1 more" in record.reason
    assert "train it longer" not in record.reason
    assert "(--trust-teacher)" in record.reason
    assert said == []


def test_a_teacher_that_is_half_right_teaches_and_the_order_is_told(tmp_path: Path, sound: str) -> None:
    path = reordered(sound, [0, 1, 3, 2], tmp_path / "teacher.safetensors", ["a", "b", "dog", "cat"])
    expected = (
        "warning: the teacher test_resnet on quadrants: its classes seem to be in another order: reordered, it "
        "scores 100.0% on tune instead of 50.0% (for 'c' it says 'd' ('cat' in its own file), for 'd' it says 'c' "
        "('dog' in its own file))"
    )
    for _ in range(2):  # it is kept beside the measures, and told to each bench
        record, said = taught(tmp_path / "out", "always", teacher_weights=path)
        assert record.status == "done"
        assert record.teacher is not None
        assert not record.teacher.vouched
        assert said == [expected]
        (folder,) = (tmp_path / "out" / "teachers").iterdir()
        kept = json.loads((folder / "advice.json").read_text())
        assert kept["normalisation"] == ""
        assert expected.endswith(kept["order"])


def test_a_sound_teacher_is_looked_at_once_and_nothing_is_told(
    tmp_path: Path, sound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taught(tmp_path, teacher_weights=sound)[1] == []
    monkeypatch.setattr(advices, "find_reordering", lambda *_: pytest.fail("it was looked at again"))
    assert taught(tmp_path, teacher_weights=sound, epochs=2)[0].status == "done"


def test_a_teacher_that_kdzoo_trained_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advices, "find_reordering", lambda *_: pytest.fail("it has the dataset's classes"))
    bench = prepare(tmp_path, [], epochs=1, teacher_epochs=6)
    assert [each.status for each in run_cells(bench.plan.cells, bench.lab, Quiet(), "failed")] == ["done", "done"]


def test_another_normalisation_that_lifts_accuracy_is_told(tmp_path: Path) -> None:
    path = trained(tmp_path / "teacher.safetensors", normalised=False)
    record, _ = taught(tmp_path / "out", teacher_weights=path)
    assert record.status == "failed"
    hint = "with images normalised by mean 0 and std 1 it scores 100.0% on 20 samples of tune instead of "
    assert hint in record.reason
    assert "(--teacher-input mean=0,std=1); set that input, give other weights" in record.reason


class Levels(torch.nn.Module):
    """Stands for a teacher: it names the class whose level the mean of the normalised image is nearest to."""

    def __init__(self, used: tuple[list[float], list[float]], needed: tuple[float, float], channels: int) -> None:
        super().__init__()
        self.model = torch.nn.Module()
        for name, values in zip(("mean", "std"), used, strict=True):
            self.model.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))
        self.levels = (torch.linspace(0.1, 0.9, 4) - needed[0]) / needed[1]

    def forward(self, images: torch.Tensor, signals: set[str]) -> Any:
        seen = ((images - self.model.mean) / self.model.std).mean(dim=(1, 2, 3))
        return type("Outputs", (), {"logits": -(seen[:, None] - self.levels).abs()})


class Grey:
    """Stands for loaded data: images of one level each, which is the class."""

    def __init__(self, channels: int, n: int = 400) -> None:
        quadrants = open_data("quadrants", lambda _: Quadrants())
        self.ref = quadrants.ref.model_copy(update={"channels": channels, "tune": n})
        self.mean, self.std = (0.3,) * channels, (0.2,) * channels
        self.n, self.channels, self.seen = n, channels, 0

    def labels(self, split: str) -> torch.Tensor:
        return torch.arange(self.n) * 4 // self.n  # in the order of the classes

    def eval_batches(self, split: str, size: int, device: torch.device, *, only: list[int]) -> Any:
        for place in only:
            index = torch.arange(self.n)[place * size : (place + 1) * size]
            self.seen += len(index)
            level = 0.1 + 0.8 / 3 * self.labels(split)[index].float()
            images = level.view(-1, 1, 1, 1).expand(-1, self.channels, 2, 2)
            yield type("Batch", (), {"inputs": images, "index": index})


def tried(data: Grey, teacher: Levels, model: str = "test_resnet") -> Any:
    images = torch.cat([batch.inputs for batch in data.eval_batches("tune", 64, torch.device("cpu"), only=range(999))])
    guesses = teacher(images, set()).logits.argmax(dim=1).numpy()
    data.seen = 0
    parse: Callable[[str], ModelRef] = ModelRef.parse
    return find_normalisation(teacher, parse(model), data, guesses, torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("channels", "needed", "flag"),
    [
        (1, (0.5, 0.5), ("0.5", "0.5")),
        (3, (0.5, 0.5), ("0.5", "0.5")),
        (1, (0.0, 1.0), ("0", "1")),
        (3, (0.0, 1.0), ("0", "1")),
        (1, (0.449, 0.226), ("0.449", "0.226")),
        (3, (0.449, 0.226), ("0.485/0.456/0.406", "0.229/0.224/0.225")),
    ],
)
def test_each_plain_normalisation_is_found(channels: int, needed: tuple[float, float], flag: tuple[str, str]) -> None:
    data = Grey(channels)
    far = ([2.0] * channels, [0.2] * channels)
    found = tried(data, Levels(far, needed, channels))
    assert found is not None
    assert (found.mean, found.std) == flag
    asked = read_input(f"mean={found.mean},std={found.std}")  # as --teacher-input reads it
    assert asked.mean == tuple(map(float, flag[0].split("/")))
    assert (found.samples, found.before, found.after) == (400, 25.0, 100.0)


def test_that_of_timms_weights_of_the_model_is_found() -> None:
    clip = ([0.0] * 3, [0.05] * 3)
    found = tried(Grey(3), Levels(clip, (0.5, 0.5), 3), "vit_base_patch16_224")
    assert found is not None
    assert (found.mean, found.std) == ("0.5", "0.5")


def test_nothing_is_told_where_the_used_one_serves() -> None:
    data = Grey(1)
    assert tried(data, Levels(([0.5], [0.5]), (0.5, 0.5), 1)) is None
    assert tried(data, Levels(([0.51], [0.49]), (0.5, 0.5), 1)) is None


def test_few_samples_are_not_believed_and_many_are_not_all_tried() -> None:
    few = Grey(1, 12)
    assert tried(few, Levels(([2.0], [0.2]), (0.5, 0.5), 1)) is None
    many = Grey(1, 40_000)
    found = tried(many, Levels(([2.0], [0.2]), (0.5, 0.5), 1))
    assert found is not None
    assert found.samples == many.seen == 1024
    assert found.after == 100.0
    assert 20 < found.before < 30  # from all classes, though they lie one after another
