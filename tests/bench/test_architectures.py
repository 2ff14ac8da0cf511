"""Every strategy on real networks of different kinds, and teachers that come with weights of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from small_lab import run
from timm.models import PretrainedCfg

from kdzoo.models.weights import save_weights

CNN = "test_resnet"
VIT = "test_vit:depth=4:patch_size=4"


@pytest.fixture(autouse=True)
def ignorant_teachers_may_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried here is whether things fit, not whether an epoch on 64 images teaches a teacher anything."""
    monkeypatch.setattr("kdzoo.bench.teacher_checks.knows", lambda *_: True)


@pytest.mark.parametrize(("teacher", "student"), [(CNN, CNN), (VIT, CNN), (CNN, VIT), (VIT, VIT)])
def test_all_strategies_serve_all_kinds_of_pairs(teacher: str, student: str, tmp_path: Path) -> None:
    names = ["soft", "fitnets", "at", "rkd"]
    bench = run(tmp_path, names, teacher=teacher, student=student, teacher_weights="train", epochs=1)
    assert not bench.plan.refused
    terms = {
        "ce": {"ce"},
        "soft": {"ce", "soft"},
        "fitnets": {"ce", "hint"},
        "at": {"ce", "attention"},
        "rkd": {"ce", "distance", "angle"},
    }
    for name, expected in terms.items():
        record = bench.only(name)
        assert record.status == "done", record.traceback
        assert set(record.curve[0].terms) == expected
        assert all(value > 0 for value in record.curve[0].terms.values())


def pretrained(folder: Path, classes: int) -> str:
    """A folder as the hub keeps one: weights for so many classes, with a size and normalisation of their own."""
    folder.mkdir()
    torch.manual_seed(3)
    save_weights(timm.create_model(CNN, num_classes=classes), folder / "model.safetensors", {})
    own: dict[str, Any] = {"input_size": (3, 48, 48), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    config = PretrainedCfg(num_classes=classes, first_conv="conv1.0", **own).to_dict() | {"classifier": "fc"}
    text = {"architecture": CNN, "num_classes": classes, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(text))
    return f"local-dir:{folder}"


@pytest.mark.parametrize(("classes", "weights", "trainings"), [(4, "pretrained", 0), (7, "finetuned", 1)])
def test_a_teacher_with_weights_of_its_own_sees_its_own_input(
    classes: int, weights: str, trainings: int, tmp_path: Path
) -> None:
    teacher = pretrained(tmp_path / "hub", classes)
    bench = run(tmp_path / "runs", ["at"], teacher=teacher, teacher_weights="auto", epochs=1)
    record = bench.only("at")
    assert record.status == "done", record.traceback
    assert record.cell.teacher is not None
    assert (record.cell.teacher.weights, len(record.cell.teacher.digest or "")) == (weights, 64)
    assert sum(each.cell.kind == "teacher" for each in bench.records) == trainings
    taught = bench.lab.teacher(record.cell)
    assert taught is not None
    assert taught.teacher.model.input_size == (48, 48)
    # Nine times the pixels that the student sees, which is the same network; its small maps round up.
    assert record.teacher is not None
    assert record.student is not None
    assert record.teacher.size.macs > 7 * record.student.macs
    (pair,) = bench.plan.pairs
    assert pair.teacher_plan.profile.macs == record.teacher.size.macs
    if trainings:
        again = run(tmp_path / "runs", ["at"], teacher=teacher, teacher_weights="auto", epochs=1)
        assert again.records == bench.records
