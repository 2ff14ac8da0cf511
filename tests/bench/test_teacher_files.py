"""Teachers from files of weights: shown images as they were trained, named so, and the same in every process."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hard_strategies import TeachersHead
from safetensors.torch import load_file
from small_lab import Run, make_registry, prepare, run
from timm.models._hub import save_for_hf
from typer.testing import CliRunner

from kdzoo import UsageError
from kdzoo.bench.remeasure import remeasure
from kdzoo.bench.teachers import resolve_file
from kdzoo.cell import Cell
from kdzoo.cli import app
from kdzoo.config import BenchConfig, load_bench
from kdzoo.measures import hits
from kdzoo.models.weights import save_weights
from kdzoo.refs import Input, ModelRef

TIMM_ARGS: dict[str, Any] = {"model": "test_efficientnet", "in_chans": 1, "input_size": None, "img_size": 16}
TIMM_ARGS |= {"mean": [0.9], "std": [0.05], "crop_pct": 1.0, "interpolation": "bilinear"}


@pytest.fixture(scope="module")
def checkpoint(teacher_file: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The teacher as a checkpoint of timm's, with arguments that are not the dataset's, and an average beside it."""
    state = load_file(teacher_file)
    average = {name: tensor + 0.01 if name == "classifier.bias" else tensor for name, tensor in state.items()}
    path = tmp_path_factory.mktemp("timm") / "last.pth.tar"
    args = argparse.Namespace(**TIMM_ARGS)
    torch.save({"state_dict": state, "state_dict_ema": average, "args": args, "epoch": 1}, path)
    return str(path)


def first(bench: Run) -> Cell:
    return bench.plan.cells[0]


def test_a_cell_names_the_input_and_the_average(tmp_path: Path, checkpoint: str, teacher_file: str) -> None:
    plain = first(prepare(tmp_path, [], teacher_weights=teacher_file))
    assert plain.teacher is not None
    assert (plain.teacher.input, plain.teacher.average) == (None, None)
    assert "input" not in json.dumps(plain.identity())
    bench = prepare(tmp_path, [], teacher_weights=checkpoint)
    told = first(bench)
    assert told.teacher is not None
    assert told.teacher.input == Input(mean=(0.9,), std=(0.05,))
    assert told.teacher.average == "state_dict_ema"
    (line,) = bench.plan.inputs
    assert "input 16x16, mean 0.9, std 0.05 (from args in last.pth.tar); its state_dict_ema, the moving av" in line
    asked = first(prepare(tmp_path, [], teacher_weights=checkpoint, teacher_input="std=0.5"))
    assert asked.teacher is not None
    assert asked.teacher.input == Input(mean=(0.9,), std=(0.5,))
    own = first(prepare(tmp_path, [], teacher_weights=checkpoint, teacher_input="rest=data"))
    assert own.teacher is not None
    assert own.teacher.input is None
    assert len({cell.id for cell in (plain, told, asked, own)}) == 4


def test_each_way_of_being_shown_images_is_measured_and_kept_apart(tmp_path: Path, checkpoint: str) -> None:
    found = {}
    for asked in (
        "",
        "rest=data",
        "rest=data,crop=0.5",
        "rest=data,size=24",
        "rest=data,size=24,interpolation=bicubic",
    ):
        bench = prepare(tmp_path, [], teacher_weights=checkpoint, **({"teacher_input": asked} if asked else {}))
        (data,) = bench.plan.data.values()
        ref = first(bench).teacher
        assert ref is not None
        found[asked] = bench.lab._load(ref, data, Path(checkpoint)).model
        if asked in ("rest=data", "rest=data,crop=0.5"):
            found[f"{asked} measured"] = bench.lab.teacher(first(bench))
    assert len(list((tmp_path / "teachers").iterdir())) == 2
    assert found["rest=data measured"].weights != found["rest=data,crop=0.5 measured"].weights
    images = torch.rand(4, 1, 16, 16)
    logits = [found[key](images, {"logits"}).logits for key in found if "measured" not in key]
    assert all(not torch.allclose(one, other) for i, one in enumerate(logits) for other in logits[:i])


def test_a_fine_tuned_teacher_given_again_scores_the_same(tmp_path: Path) -> None:

    network = timm.create_model("test_resnet", num_classes=7)
    network.pretrained_cfg.update(input_size=(3, 24, 24), mean=(0.2, 0.3, 0.4), std=(0.5, 0.5, 0.5), crop_pct=0.9)
    save_for_hf(network, tmp_path / "hub", safe_serialization=True)
    config = {"teacher": f"local-dir:{tmp_path / 'hub'}", "teacher_epochs": 8, "recipe": {"lr": 0.02}, "epochs": 1}
    tuned = run(tmp_path / "runs", [], **config)
    assert tuned.records[0].cell.init == "pretrained"
    expected = tuned.only("ce").teacher
    file = tuned.folder(tuned.records[0]) / "student.safetensors"
    changed = config | {"teacher": "test_resnet", "teacher_weights": str(file)}
    bench = run(tmp_path / "again", [TeachersHead], **changed)
    again = bench.only("ce")
    assert again.teacher == expected
    assert again.cell.teacher is not None
    assert again.cell.teacher.input is not None
    assert again.cell.teacher.input.size == (24, 24)
    assert hits(expected.test) > 0.5 * expected.test["n"]
    registry = make_registry(TeachersHead)
    assert [record.status for record in bench.records] == ["done", "done"]
    assert remeasure(bench.records, bench.lab.store, registry, data_dir=None, device="cpu") == []


def test_a_file_with_the_classes_in_another_order_is_refused(tmp_path: Path, teacher_file: str) -> None:
    bench = prepare(tmp_path, [], teacher_weights=teacher_file)
    (data,) = bench.plan.data.values()
    model = ModelRef(name="test_efficientnet")
    assert data.classes == ("a", "b", "c", "d")
    network = resolve_file(model, Path(teacher_file), data)
    assert network.warning == ""
    net = bench.lab._load(network.ref, data, Path(teacher_file)).model.model
    save_weights(net, tmp_path / "w.safetensors", {"classes": ["b", "a", "c", "d"]})
    with pytest.raises(UsageError, match="have the dataset's classes in another order"):
        prepare(tmp_path, [], teacher_weights=str(tmp_path / "w.safetensors"))
    save_weights(net, tmp_path / "w.safetensors", {"classes": ["one", "two", "three", "four"]})
    (warning,) = prepare(tmp_path, [], teacher_weights=str(tmp_path / "w.safetensors")).plan.warnings
    assert "were trained for other classes by name: their class 0 is 'one', and the dataset's is 'a'" in warning


@pytest.mark.parametrize("weights", ["auto", "train", "pretrained"])
def test_an_input_needs_a_file(weights: str) -> None:
    with pytest.raises(UsageError, match="teacher_input is for weights from a file"):
        load_bench("quick", {"teacher_weights": weights, "teacher_input": "mean=0.5"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean=x", "mean.0 must be a number, not 'x'"),
        ("std=0", "std.0 must be above 0, not 0"),
        ("crop=2", "crop must be at most 1, not 2"),
        ("size=0", "--teacher-input: size must be a size in pixels such as 32 or 32x48, not 0"),
        ("meen=1", "unknown key of the input 'meen'; did you mean mean?"),
        ("mean", "--teacher-input must be as in mean=0.5,std=0.5,size=32"),
        ("interpolation=cubic", "interpolation must be 'nearest', 'bilinear' or 'bicubic', not 'cubic'"),
        ({"std": [0.1, "y"]}, "std.1 must be a number, not 'y'"),
        ([1], "must be as in mean=0.5"),
    ],
)
def test_a_wrong_input_is_one_sentence(text: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_bench("quick", {"teacher_weights": "./w.pt", "teacher_input": text})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_and_the_flag_meet(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "strategies: soft\ndataset: digits\nteacher: resnet18\nstudent: resnet10t\nteacher_weights: ./w.pt\n"
        "teacher_input:\n  mean: 0.5\n  std: [0.1, 0.2, 0.3]\n  size: 32\n"
    )
    config: BenchConfig = load_bench(str(tmp_path / "b.yaml"), {})
    assert config == load_bench(str(tmp_path / "b.yaml"), {"teacher_input": "mean=0.5,std=0.1/0.2/0.3,size=32"})
    assert config.teacher_input is not None
    assert config.teacher_input.mean == (0.5,)


def test_the_command_line_says_and_carries_it(tmp_path: Path, checkpoint: str) -> None:
    state = torch.load(checkpoint, weights_only=False)
    network = timm.create_model("test_efficientnet", num_classes=10, in_chans=1)
    file = tmp_path / "teacher.pth"
    torch.save(state | {"state_dict": network.state_dict(), "state_dict_ema": None}, file)
    shared = ["--dataset", "digits[:200]", "--teacher", "test_efficientnet", "--teacher-weights", str(file)]
    bench = ["bench", *shared, "--student", "test_resnet", "--strategies", "soft", "--seeds", "1", "--epochs", "1"]
    line = f"teacher test_efficientnet from {file} on digits[:200]: input 16x16, mean 0.9, std 0.05 (from args in teac"
    dry = CliRunner().invoke(app, [*bench, "--dry-run"])
    assert line in dry.stdout
    pair = CliRunner().invoke(app, ["pair", *shared, "--student", "test_resnet", "--teacher-input", "size=24"])
    assert pair.exit_code == 0, pair.output
    assert (
        "input 24x24, mean 0.9, std 0.05 (mean, std, crop, interpolation from args in teacher.pth; size from --tea"
        in pair.output
    )
    out = ["--out", str(tmp_path / "runs"), "--device", "cpu"]
    planned = CliRunner().invoke(app, [*bench, *out, "--plan"])
    assert planned.exit_code == 0, planned.output
    (cell,) = [
        path.parent.name for path in (tmp_path / "runs").glob("cells/*/cell.json") if '"soft"' in path.read_text()
    ]
    ran = CliRunner().invoke(app, ["run-cell", cell, *out, "--teacher-weights", str(file), "--quiet"])
    (measures,) = (tmp_path / "runs" / "teachers").glob("*/measures.json")
    # A random network knows nothing, so that its cell fails; but it was measured, as it is shown images.
    assert "better than chance (" in ran.output
    assert json.loads(measures.read_text())["scores"]["test"]["n"] > 0
