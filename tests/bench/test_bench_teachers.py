"""Teachers: where their weights come from, that they are measured once, and that they never change."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_lab import STEPS, Quiet, prepare, run, same_tensors

from kdzoo import PairError, Strategy, UsageError
from kdzoo.bench.executors.local import run_cells
from kdzoo.bench.lab import Lab
from kdzoo.models.taps import TappedModel
from kdzoo.models.weights import file_digest
from kdzoo.store import Store


def _state(bench: Any, cell: Any) -> dict[str, torch.Tensor]:
    taught = bench.lab.teacher(cell)
    return {name: value.clone() for name, value in taught.teacher.state_dict().items()}


@pytest.mark.parametrize("strategy", ["soft", "fitnets", "at", "rkd"])
def test_a_teacher_is_the_same_bits_before_and_after(strategy: str, tmp_path: Path, teacher_file: str) -> None:
    bench = prepare(tmp_path, [strategy], teacher_weights=teacher_file, recipe={"weight_decay": 0.1}, epochs=1)
    before = _state(bench, bench.plan.cells[0])
    assert run_cells(bench.plan.cells, bench.lab, Quiet(), "failed")[-1].status == "done"
    assert same_tensors(before, _state(bench, bench.plan.cells[0]))
    plain = {f"model.model.{name}": value for name, value in load_file(teacher_file).items()}
    assert same_tensors(plain, before)


def test_a_trained_teacher_is_a_cell_of_its_own_that_comes_first(tmp_path: Path) -> None:
    bench = run(tmp_path, ["soft"], teacher_epochs=6, epochs=1, seeds=2)
    teacher, *students = bench.records
    assert (teacher.cell.kind, str(teacher.cell.student)) == ("teacher", "test_efficientnet")
    assert teacher.cell.teacher is None
    assert teacher.cell.recipe.epochs == 6
    assert len(students) == 4
    for record in students:
        assert record.status == "done", record.reason
        assert record.cell.teacher.weights == "trained"
        # The teacher computes in another memory layout than the student that it was, so the last digits differ.
        assert record.teacher.test == pytest.approx(teacher.test, rel=1e-5)
        assert record.teacher.tune == pytest.approx(teacher.tune, rel=1e-5)
        assert record.teacher.size == teacher.student
    assert len(list((tmp_path / "teachers").iterdir())) == 1


def test_a_later_bench_shares_the_teacher_and_its_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, [], teacher_epochs=6, epochs=1)
    monkeypatch.setattr(Lab, "_measure", lambda *_: pytest.fail("the teacher was measured again"))
    ran = []
    report = Quiet(on_step=lambda cell, epoch, done: ran.append((cell.kind, cell.strategy.name)))
    bench = run(tmp_path, ["soft"], report, teacher_epochs=6, epochs=1)
    assert bench.only("soft").status == "done"
    assert ran == [("student", "soft")] * STEPS


@pytest.fixture(scope="module")
def with_file(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> Any:
    return run(tmp_path_factory.mktemp("file"), [], teacher_weights=teacher_file, epochs=1)


def test_a_file_is_known_by_its_content_and_not_its_path(with_file: Any, tmp_path: Path, teacher_file: str) -> None:
    assert [record.cell.kind for record in with_file.records] == ["student"]
    copy = shutil.copy(teacher_file, tmp_path / "elsewhere.safetensors")
    other = prepare(tmp_path / "out", [], teacher_weights=str(copy), epochs=1)
    assert other.plan.cells == with_file.plan.cells
    assert teacher_file not in json.dumps(with_file.records[0].cell.model_dump(mode="json"))


def test_a_file_that_changes_while_the_bench_runs_does_not_teach(tmp_path: Path, teacher_file: str) -> None:
    copy = Path(shutil.copy(teacher_file, tmp_path / "teacher.safetensors"))
    bench = prepare(tmp_path / "out", [], teacher_weights=str(copy), epochs=1)
    changed = load_file(copy)
    changed["classifier.bias"] += 1
    save_file(changed, copy)
    (record,) = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed")
    assert record.status == "failed"
    assert "changed while the bench ran" in record.reason


def _five_classes(weights: dict[str, Any]) -> None:
    weights["classifier.weight"], weights["classifier.bias"] = torch.zeros(5, 32), torch.zeros(5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_five_classes, "are for 5 classes, and 4 are needed"),
        (lambda weights: weights.update(extra=torch.zeros(2)), "also hold 'extra'"),
        (lambda weights: weights.pop("conv_stem.weight"), "lack 'conv_stem.weight'"),
    ],
    ids=["classes", "unknown key", "missing key"],
)
def test_weights_that_do_not_fit_are_refused_before_anything_trains(
    change: Any, sentence: str, tmp_path: Path, teacher_file: str
) -> None:
    weights = load_file(teacher_file)
    change(weights)
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(UsageError, match=sentence):
        prepare(tmp_path / "out", [], teacher_weights=str(tmp_path / "bad.safetensors"))
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.safetensors cannot be read"):
        prepare(tmp_path / "out", [], teacher_weights=str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("kind", ["folder", "named pipe", "device"])
@pytest.mark.parametrize("name", ["odd.safetensors", "odd.pth"])
def test_a_file_of_weights_is_a_plain_one(name: str, kind: str, tmp_path: Path) -> None:
    """Reading a pipe would wait, and reading /dev/zero would not end."""
    path = tmp_path / name
    match kind:
        case "folder":
            path.mkdir()
        case "named pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=f"is no plain file but a {kind}"):
        prepare(tmp_path / "out", [], teacher_weights=str(path))
    with pytest.raises(UsageError, match=f"is no plain file but a {kind}"):
        file_digest(path)


def test_pretrained_weights_for_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="were trained for 1000 classes, and 4 classes are needed; take"):
        prepare(tmp_path / "out", [], teacher_weights="pretrained")


def test_pretrained_weights_without_network_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("kdzoo.bench.teachers.pretrained_classes", lambda ref: 4)
    with pytest.raises(UsageError, match=r"pretrained weights of test_efficientnet cannot be loaded .*connect"):
        prepare(tmp_path / "out", [], teacher_weights="pretrained")


def test_auto_means_the_same_with_and_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of other classes, and no tag in the name: trained from scratch; nothing is looked up."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    bench = prepare(tmp_path, [], teacher_weights="auto")
    assert [cell.kind for cell in bench.plan.cells] == ["teacher", "student"]
    assert bench.plan.cells[1].teacher.weights == "trained"


@pytest.fixture
def measured(tmp_path: Path, teacher_file: str) -> tuple[Any, Path]:
    bench = run(tmp_path, [], teacher_weights=teacher_file, epochs=1)
    (folder,) = (tmp_path / "teachers").iterdir()
    return bench, folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("measures.json", b""),
        ("measures.json", b'{"size": 1}'),
        ("guesses.npy", b""),
        ("guesses.npy", b"\x93NUMPY"),
        ("guesses.npy", None),
        ("advice.json", b'{"order": 1}'),
        ("advice.json", None),
        ("advice.json", b"{}"),
        ("measures.json", re.compile(rb'"top1":[0-9]')),
        ("guesses.npy", re.compile(rb"[^\0](?=\0{7}$)")),
        ("measures.json", Path()),
        ("guesses.npy", Path()),
    ],
    ids=str,
)
def test_damaged_measures_are_taken_again(
    measured: tuple[Any, Path], name: str, content: Any, tmp_path: Path, teacher_file: str
) -> None:
    bench, folder = measured
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(files) == ["advice.json", "guesses.npy", "measures.json"]
    (folder / name).unlink()
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif isinstance(content, re.Pattern):  # one digit is another one, or one guess
        changed = content.sub(lambda found: found[0][:-1] + bytes([found[0][-1] ^ 1]), files[name], count=1)
        assert changed != files[name]
        (folder / name).write_bytes(changed)
    elif content is not None:
        (folder / name).mkdir()
    again = run(tmp_path, [], rerun="always", teacher_weights=teacher_file, epochs=1)
    assert again.only("ce").outcome() == bench.only("ce").outcome()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == files


def test_measures_of_an_older_kdzoo_are_taken_again(
    measured: tuple[Any, Path], tmp_path: Path, teacher_file: str
) -> None:
    """They have no digest, so that nothing says whether they are what was measured."""
    bench, folder = measured
    path = folder / "measures.json"
    new = path.read_bytes()
    path.write_text(json.dumps(json.loads(new)["scores"]))
    again = run(tmp_path, [], rerun="always", teacher_weights=teacher_file, epochs=1)
    assert again.only("ce").outcome() == bench.only("ce").outcome()
    assert path.read_bytes() == new


def test_measures_belong_to_the_weights(tmp_path: Path) -> None:
    """A teacher that is trained again with another outcome is measured again."""
    run(tmp_path, [], teacher_epochs=6, epochs=1)
    (old,) = (tmp_path / "teachers").iterdir()
    (path,) = [
        folder / "student.safetensors"
        for folder in (tmp_path / "cells").iterdir()
        if json.loads((folder / "cell.json").read_text())["kind"] == "teacher"
    ]
    weights = load_file(path)
    weights["classifier.bias"] -= 1000 * torch.eye(4)[0]
    save_file(weights, path)
    store = Store.open(tmp_path)
    told = {path.name: file_digest(path)}
    store.write_record(store.record(path.parent.name).model_copy(update={"weights": told}))
    bench = run(tmp_path, ["soft"], teacher_epochs=6, epochs=1)
    new = bench.only("soft").teacher
    assert new.test["nll"] > bench.only("ce").teacher.test["nll"] + 10
    assert len(list((tmp_path / "teachers").iterdir())) == 2
    assert old.exists()


class NeedsHead(Strategy):
    name = "needs-head"
    signals = ("logits",)
    teacher_signals = ("classifier", "logits")


def test_a_network_without_a_single_classifier_is_told_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TappedModel.classifier

    def classifier(self: TappedModel) -> Any:
        if "EfficientNet" in type(self.model).__name__:
            raise PairError("it has no single last linear layer")
        return original(self)

    monkeypatch.setattr(TappedModel, "classifier", classifier)
    plan = prepare(tmp_path, [NeedsHead, "soft"]).plan
    assert [(each.strategy, each.reason) for each in plan.refused] == [
        ("needs-head", "it has no single last linear layer")
    ]
    assert [cell.strategy.name for cell in plan.cells] == ["ce", "ce", "soft"]
