"""Wrong input of every kind: one clear sentence, exit code 2, nothing written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def refused(kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path) -> Callable[..., str]:
    """Run a small bench with further arguments; give the sentence by which it is refused."""

    def run(*arguments: Any) -> str:
        before = sorted(tmp_path.rglob("*"))
        result = kdzoo(*small, "--strategies", "plain", *arguments)
        assert result.code == 2
        assert result.out == ""
        assert sorted(tmp_path.rglob("*")) == before
        error, _, rest = result.err.partition("error: ")
        assert error == ""
        assert rest.endswith("\n")
        assert rest.count("\n") == 1
        return rest.rstrip("\n")

    return run


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--strategies", "plian"], "unknown strategy 'plian'; did you mean plain?"),
        (["--strategies", "plain,zzz"], "unknown strategy 'zzz'; none of the "),
        (["--strategies", "kdzo:soft"], "unknown strategy 'kdzo:soft'; did you mean kdzoo:soft"),
        (["--strategies", ""], "--strategies must name at least one"),
        (["--teacher", "resnt50"], "unknown model 'resnt50'; did you mean resnet50 or"),
        (["--student", "resnet50.a1h"], "unknown tag of resnet50 'a1h'; did you mean a1h_in1k"),
        (["--student", "zzzzzzzzz"], "unknown model 'zzzzzzzzz'; none of the 1,"),
        (["--student", "test_vit:patchsize=4"], "timm's test_vit takes no argument 'patchsize'"),
        (["--student", "test_vit:depth"], "model 'test_vit:depth': write arguments as name:argument=value"),
        (["--student", ""], "--student must name at least one"),
        (["--dataset", "shads"], "unknown dataset 'shads'; did you mean shades"),
        (["--dataset", "shades[5]"], "dataset 'shades[5]': write a subset of train as name[:count]"),
        (["--dataset", "shades[:1000]"], "cannot take 1000 of 80 images"),
        (["--dataset", "mnist", "--data-dir", "nowhere"], "the data folder nowhere does not exist"),
        (["--dataset", "mnist"], "mnist was not found in "),
        (["--dataset", "folder:nowhere"], "folder:nowhere is not a folder"),
        (["--set", "plain.wieght=1"], "unknown parameter of plain 'wieght'; did you mean weight?"),
        (["--set", "plain.weight=-1"], "plain.weight must be a number at least 0, not -1"),
        (["--set", "plain.weight=heavy"], "plain.weight must be a number at least 0, not 'heavy'"),
        (["--set", "plain.weight=!!bool x"], "plain.weight must be a number at least 0, not '!!bool x'"),
        (["--set", "plain.weight="], "plain.weight must be a number at least 0, not ''"),
        (["--epochs", "9" * 30], "--epochs must be at most 100000, not 9999"),
        (["--seeds", "9" * 12], "--seeds must be at most 10000, not 9999"),
        (["--img-size", "9" * 5000], "--img-size must be a size in pixels such as 32 or 32x48, not '9999"),
        (["--workers", "9" * 5000], "--workers must be a number from 1 to 9999, or auto, not '9999"),
        (["--dataset", f"shades[:{'9' * 5000}]"], "dataset 'shades[:9999"),
        (["--set", "plain.weight=.inf"], "--set plain.weight must be a single, finite value, not inf"),
        (["--set", "plain.weight"], "--set plain.weight: write strategy.param=value or recipe.key=value"),
        (["--set", "soft.alpha=0.5"], "set soft.alpha: unknown strategy of the bench 'soft'"),
        (["--set", "recipe.lrr=1"], "unknown key of the recipe 'lrr'; did you mean lr?"),
        (["--set", "recipe.augment.corp=1"], "unknown key of the recipe 'augment.corp'; did you mean augment.crop"),
        (["--set", "recipe.lr=-1"], "recipe.lr must be above 0, not -1"),
        (["--set", "recipe.batch_size=2.5"], "recipe.batch_size must be a whole number, not 2.5"),
        (["--set", "recipe.optimizer=sgdd"], "unknown optimizer 'sgdd'; did you mean sgd"),
        (["--set", "recipe.schedule=step"], "recipe quick: milestones belong to schedule step"),
        (["--seeds", 0], "--seeds must be at least 1, not 0"),
        (["--epochs", 0], "--epochs must be at least 1, not 0"),
        (["--teacher-epochs", -1], "--teacher-epochs must be at least 1, not -1"),
        (["--img-size", "0x3"], "--img-size must be a size in pixels such as 32 or 32x48, not '0x3'"),
        (["--img-size", "3"], "timm refuses test_vit:"),
        (["--device", "gpu"], "--device must be 'auto', 'cpu', 'cuda' or 'mps', not 'gpu'"),
        (["--precision", "fp8"], "--precision must be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
        (["--precision", "fp16"], "--precision fp16 needs a GPU; on a CPU take bf16 or fp32"),
        (["--balance", "-1"], "--balance must be at least 0, not -1"),
        (["--balance", "nan"], "--balance must be"),
        (
            ["--balance", "1", "--tune", "3"],
            "bench quick: balance sets the weights that tuning would search: leave out",
        ),
        (["--rerun", "maybe"], "--rerun must be 'never', 'safe', 'failed' or 'always', not 'maybe'"),
        (["--recipe", "quik"], "unknown recipe 'quik'; did you mean quick?"),
        (["--recipe", "mine.yaml"], "mine.yaml cannot be read: no such file or directory"),
        (["--teacher-recipe", "modrn"], "unknown recipe 'modrn'; did you mean modern?"),
        (["--config", "quik"], "unknown bench 'quik'; did you mean quick?"),
        (["--config", "mine.yaml"], "mine.yaml cannot be read: no such file or directory"),
        (["--teacher-weights", "trian"], "--teacher-weights: unknown kind of weights 'trian'; did you mean train"),
        (["--teacher-weights", "./none.safetensors"], "the weights none.safetensors cannot be read: "),
        (["--teacher-weights", "pretrained"], "timm's weights of test_resnet were trained for 1000 classes"),
        (["--plugin", "none.py"], "--plugin none.py cannot be read: no such file or directory"),
        (["--strategies", "fitnets", "--set", "fitnets.hint_epochs=2"], "fitnets.hint_epochs is 2, which leaves no"),
    ],
)
def test_a_wrong_argument_is_told_in_one_sentence(
    arguments: list[Any], sentence: str, refused: Callable[..., str]
) -> None:
    assert refused(*arguments).startswith(sentence)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_device_that_is_not_there_is_told(
    dry: list[str], refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # an earlier test may have found it there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert refused("--device", "cuda", *dry) == "--device cuda is not available on this machine; there is cpu"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("strategies: [ce\ndataset: shades\n", "b.yaml:2: malformed YAML: "),
        ("seeds: 1\nseeds: 2\n", "b.yaml:2: malformed YAML: key 'seeds' appears twice"),
        ("strategies: ce\ndataset: shades\nsedes: 2\n", "b.yaml: unknown key 'sedes'; did you mean seeds"),
        (
            "strategies: ce\ndataset: shades\nrerun: sometimes\n",
            "b.yaml: rerun must be 'never', 'safe', 'failed' or",
        ),
        ("strategies: ce\ndataset: shades\nbalance: full\n", "b.yaml: balance must be a number, not 'full'"),
        (
            "strategies: ce\ndataset: shades\nrecipe: r.yaml\n",
            "recipe r.yaml: unknown key 'wieght_decay'; did you mean",
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_name(
    text: str, sentence: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "b.yaml").write_text(text)
    (tmp_path / "r.yaml").write_text("epochs: 1\nbatch_size: 8\nwieght_decay: 1\n")
    assert refused("--config", "b.yaml").startswith(sentence)


def test_an_out_that_is_a_file_is_told(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert refused("--out", "file") == "--out file is a file; give a folder"
    assert refused("--out", "file/runs").startswith("--out file/runs cannot be made: ")


def test_an_out_with_other_files_is_told(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("mine")
    assert refused("--out", "work") == "--out work holds other files; give an empty or a new folder"


def test_an_out_that_is_read_only_is_told(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert refused("--out", "deep/runs") == "--out deep/runs cannot be written: permission denied"


def test_an_out_without_room_is_told(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    result = kdzoo(*small, "--strategies", "plain", "--out", "runs")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: --out runs cannot be written: the disk is full\n"


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        (
            '{"schema":99}',
            "runs was written by a newer kdzoo (store schema 99, this one reads up to 1); upgrade kdzoo or",
        ),
        ("{", "runs/store.json is unreadable; a store's marker reads"),
    ],
)
def test_a_newer_or_damaged_store_is_told(
    marker: str, sentence: str, refused: Callable[..., str], kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "store.json").write_text(marker)
    assert refused("--out", "runs").startswith(sentence)
    assert refused("--out", "runs", "--dry-run").startswith(sentence)
    board = kdzoo("board", "--out", "runs")
    assert (board.code, board.err.startswith(f"error: {sentence}")) == (2, True)


def test_an_option_of_another_name_is_told(kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("bench", "--strategy", "soft")
    assert result.code == 2
    assert "--strategies" in result.err
    assert kdzoo("bench", "--seeds", "many").code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["strategies", "show", "softt"], "unknown strategy 'softt'; did you mean soft?"),
        (["strategies", "dkd"], "unknown command 'dkd'; to print the card: kdzoo strategies show dkd\n"),
        (["strategies", "shwo", "dkd"], "unknown command 'shwo'; did you mean show?\n"),
        (["strategies", "--plugin", "none.py"], "--plugin none.py cannot be read"),
        (["plugins", "--plugin", "none.py"], "--plugin none.py cannot be read"),
        (["pair", "--teacher", "resnt50", "--student", "resnet18"], "unknown model 'resnt50'; did you mean"),
        (["board", "--out", "none"], "there is no run directory none; `kdzoo bench --out none` creates it"),
        (["data", "digist"], "unknown dataset 'digist'; did you mean digits"),
    ],
)
def test_other_commands_tell_wrong_input_as_well(
    arguments: list[str], sentence: str, kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    result = kdzoo(*arguments)
    assert result.code == 2
    assert result.err.startswith(f"error: {sentence}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            "(40, 8, 8), dtype=np.uint8",
            "images must be uint8 of shape N x C x H x W with C = 1 or 3, not uint8 of shape 40",
        ),
        ("(40, 2, 8, 8), dtype=np.uint8", "images must be uint8 of shape N x C x H x W with C = 1 or 3, not uint8 of"),
        ("(40, 1, 8, 8), dtype=np.float32", "images must be uint8 of shape N x C x H x W with C = 1 or 3, not float32"),
        ("(39, 1, 8, 8), dtype=np.uint8", "labels of 39 images must be int64 of shape 39, not int64 of shape 40"),
    ],
)
def test_images_of_the_wrong_shape_are_told(
    images: str, sentence: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "flat.py").write_text(
        "import numpy as np\nfrom kdzoo import ArrayData, Dataset, Splits, hookimpl\n"
        "class Flat(Dataset):\n    name = 'flat'\n    img_size = (8, 8)\n    def load(self, data_dir, download):\n"
        f"        data = ArrayData(np.zeros({images}), np.arange(40, dtype=np.int64) % 2)\n"
        "        return Splits(data, data, ('a', 'b'))\n"
        "@hookimpl\ndef kdzoo_datasets():\n    return [Flat()]\n"
    )
    assert refused("--plugin", "flat.py", "--dataset", "flat").startswith(sentence)


def test_a_broken_plugin_file_is_told_with_the_place(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text("def helper():\n    return 1 / 0\n\nhelper()\n")
    result = kdzoo(*small, "--strategies", "plain", "--plugin", "bad.py")
    assert result.code == 2
    first, *rest = result.err.splitlines()
    assert first == "error: --plugin bad.py failed: ZeroDivisionError: division by zero (bad.py:2)"
    assert any("bad.py" in line and "in helper" in line for line in rest)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [("--out=~/runs",), ("--out", "~/runs")])
def test_the_home_folder_in_flags(
    words: tuple[str, ...], kdzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert f"there is no run directory {tmp_path}/home/runs;" in kdzoo("board", *words).err
    assert f"looked for as {tmp_path}/home/pictures" in kdzoo("data", "folder:~/pictures").err
