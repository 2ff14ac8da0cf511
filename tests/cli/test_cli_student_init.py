"""Students that start from weights, and networks of a folder, which cells name by what is in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import PretrainedCfg

from kdzoo.models.weights import save_weights
from kdzoo.record import Record
from kdzoo.store import Store

Command = Callable[..., Any]
SHORT = ("--epochs", 1, "--teacher-epochs", 3, "--seeds", 1, "--set", "recipe.batch_size=8", "--device", "cpu")


def make_folder(path: Path, seed: int = 3, mean: float = 0.5) -> Path:
    """A folder as the hub keeps one: weights for 7 classes, with a size and normalisation of their own."""
    path.mkdir(parents=True)
    torch.manual_seed(seed)
    save_weights(timm.create_model("test_resnet", num_classes=7), path / "model.safetensors", {})
    config = PretrainedCfg(num_classes=7, first_conv="conv1.0", input_size=(3, 24, 24), mean=(mean,) * 3).to_dict()
    text = {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": config | {"classifier": "fc"}}
    (path / "config.json").write_text(json.dumps(text))
    return path


@pytest.fixture
def train(kdzoo: Command, toys: Path) -> Callable[..., list[Record]]:
    """The records of students after a bench with a teacher that is trained from scratch."""

    def run(out: str, *arguments: Any) -> list[Record]:
        models = () if "--teacher" in arguments else ("--teacher", "test_resnet")
        where = ("--plugin", toys, "--dataset", "shades", "--strategies", "ce", "--out", out)
        result = kdzoo("bench", *where, *models, *SHORT, *arguments)
        assert result.code == 0, result.err
        return [record for record in Store.open(Path(out)).records() if record.cell.kind == "student"]

    return run


@pytest.fixture
def refused(kdzoo: Command, small: tuple[Any, ...]) -> Callable[..., str]:
    def run(*arguments: Any) -> str:
        result = kdzoo(*small, "--strategies", "plain", *arguments)
        assert result.code == 2
        return str(result.err)

    return run


def test_a_name_of_weights_must_be_used_or_set_aside(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "net")
    for name in ("test_resnet.r160_in1k", f"local-dir:{folder}"):
        told = refused("--student", name)
        assert "names weights, and students start at random: add --student-init pretrained to start from" in told
        assert "or --student-init random" in told


def test_weights_that_are_not_there(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it asks for a minute, or downloads
    assert "timm has no weights of the student resnet10t" not in refused("--student-init", "best")
    assert "--student-init must be 'random' or 'pretrained', not 'best'" in refused("--student-init", "best")
    told = refused("--student", "vit_tiny_patch16_224:depth=1:patch_size=4", "--student-init", "pretrained")
    assert "cannot be loaded" in told  # never random in silence


def test_a_student_starts_from_the_weights_and_sees_their_input(
    train: Callable[..., list[Record]], tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "net")
    teacher = ("--teacher-recipe", "quick", "--teacher-epochs", 12)
    still = ("--set", "recipe.lr=1e-12", "--set", "recipe.weight_decay=0")
    slow = ("--student", f"local-dir:{folder}", *teacher, *still)
    (started,) = train("runs", *slow, "--student-init", "pretrained")
    (random,) = [one for one in train("runs", *slow, "--student-init", "random") if one.id != started.id]
    assert started.cell.init.startswith("pretrained:")
    assert random.cell.init == "random"
    assert started.cell.seed_for("init") == random.cell.seed_for("init")
    weights = Path("runs/cells") / started.id / "student.safetensors"
    kept = load_file(weights)
    with safe_open(weights, "pt") as file:
        header = json.loads(file.metadata()["kdzoo"])
    torch.manual_seed(3)
    source = timm.create_model("test_resnet", num_classes=7).state_dict()
    inner = "layer2.0.conv2.weight"
    torch.testing.assert_close(kept[inner], source[inner])
    assert kept["fc.weight"].shape[0] == 2
    assert (header["input_size"], header["mean"]) == ([24, 24], [0.5])
    # What makes the network anew is said without the folder's path.
    assert header["create_model"]["model_name"] == "test_resnet"
    assert str(folder) not in json.dumps(header)
    timm.create_model(**header["create_model"]).load_state_dict(kept)


def test_other_weights_of_the_same_name_are_another_cell(train: Callable[..., list[Record]], tmp_path: Path) -> None:
    student = ("--student", f"local-dir:{tmp_path}/net", "--student-init", "pretrained")
    make_folder(tmp_path / "net", seed=3)
    (first,) = train("runs", *student)
    shutil.rmtree(tmp_path / "net")
    make_folder(tmp_path / "net", seed=4)
    both = train("runs", *student)
    assert len(both) == 2
    assert {one.cell.student for one in both} == {first.cell.student}
    assert len({one.cell.init for one in both}) == 2


def test_a_folder_may_be_moved_and_its_path_is_nowhere(train: Callable[..., list[Record]], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "here" / "net")
    (first,) = train("runs", "--teacher", f"local-dir:{folder}", "--student", "test_resnet")
    assert first.cell.teacher is not None
    assert first.cell.teacher.model.name.startswith("local-dir:test_resnet@")
    moved = folder.rename(tmp_path / "elsewhere")
    (again,) = train("runs", "--teacher", f"local-dir:{moved}", "--student", "test_resnet")
    assert again == first
    for file in Path("runs").rglob("*.json"):
        assert str(tmp_path) not in file.read_text().replace(first.command, "")
    # The same folder with another config is another network.
    config = moved / "config.json"
    config.write_text(config.read_text().replace('"input_size": [3, 24, 24]', '"input_size": [3, 32, 32]'))
    both = train("runs", "--teacher", f"local-dir:{moved}", "--student", "test_resnet")
    assert len({one.cell.teacher.model.name for one in both if one.cell.teacher}) == 2


def test_one_cell_by_itself_wants_the_folder(train: Callable[..., list[Record]], kdzoo: Command, toys: Path) -> None:
    folder = make_folder(Path("net").absolute())
    (first,) = train("runs", "--teacher", f"local-dir:{folder}", "--student", "test_resnet")
    alone = ("run-cell", first.id, "--out", "runs", "--plugin", toys, "--rerun", "always", "--device", "cpu")
    import kdzoo.models.folders as folders

    folders._FOUND.clear()  # as in a process of its own
    told = kdzoo(*alone).err
    assert f"{first.cell.teacher.model} is the model of a folder, which is not known here; give it by --model" in told
    done = kdzoo(*alone, "--model", folder)
    assert done.code == 0, done.err
    (again,) = [one for one in Store.open(Path("runs")).records() if one.cell.kind == "student"]
    assert again.outcome() == first.outcome()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("{", "Expecting property name"),
        ("[]", "config.json is not a mapping"),
        ("{}", "'architecture'"),
        ('{"architecture": "../../etc"}', "is no architecture of timm"),
        ('{"architecture": "no_such_net"}', "cannot be looked up"),
    ],
)
def test_folders_that_hold_no_model(
    content: str | None, reason: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "net").mkdir()
    if content is not None:
        (tmp_path / "net" / "config.json").write_text(content)
    told = refused("--teacher", f"local-dir:{tmp_path}/net")
    assert reason in told
    assert "cannot be looked up" in told
    assert told.count("\n") == 1
