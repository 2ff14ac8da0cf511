"""The lines of docs/models.md, in plain timm and torchvision, give a student its record's accuracy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docs_pages import execute, run_kdzoo
from PIL import Image
from torch import Tensor

from kdzoo.data.dataset import ArrayData
from kdzoo.measures import hits
from kdzoo.record import Record
from kdzoo.registry import Registry
from kdzoo.store import Store

NAMES = ("Low", "high", "none")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of unequal sizes and shapes, whose classes differ near their borders, so that a crop changes guesses."""
    root = tmp_path_factory.mktemp("pictures") / "bars"
    draw = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 30)):
        for label, name in enumerate(NAMES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = draw.integers(12, 28, 2)
                image = draw.integers(0, 150, (height, width, 3))
                if label < 2:
                    place = 1 if label else height - 3
                    image[place : place + 2] += 105
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    return root


def trained(out: Path, *options: str) -> Record:
    """The plain student of a short bench, by the command line."""
    common = "kdzoo bench --strategies ce --teacher test_resnet --seeds 1 --teacher-epochs 8 --set recipe.batch_size=16"
    run_kdzoo(common, "--out", str(out), "--device", "cpu", *options)
    (record,) = [one for one in Store.open(out).records() if one.cell.kind == "student"]
    return record


def page(out: Path, record: Record, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The page's lines, run beside the student's file."""
    shutil.copy(out / "cells" / record.id / "student.safetensors", folder)
    monkeypatch.chdir(folder)
    return execute("docs/models.md")


def correct(model: torch.nn.Module, images: Tensor, labels: Tensor) -> int:
    with torch.inference_mode():
        return int((model.eval()(images).argmax(dim=1) == labels).sum())


@pytest.mark.parametrize("student", ["test_resnet", "test_resnet:img_size=24"])
def test_on_files(student: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--dataset", f"folder:{pictures}", "--img-size", "16", "--student", student, "--epochs", "4")
    record = trained(tmp_path / "runs", *options)
    lines = page(tmp_path / "runs", record, tmp_path, monkeypatch)
    classes = lines["header"]["classes"]
    assert sorted(classes) == sorted(NAMES)
    paths = sorted((pictures / "test").glob("*/*.png"))
    labels = torch.tensor([classes.index(path.parent.name) for path in paths])
    images = torch.stack([lines["finish"](lines["from_file"](Image.open(path).convert("RGB"))) for path in paths])
    assert record.test is not None
    assert correct(lines["model"], images, labels) == hits(record.test)
    assert record.test["n"] // 3 < hits(record.test) < record.test["n"]
    # Without the crop that the header tells it is another number, so that the lines are put to the test.
    whole = torch.stack(
        [torch.from_numpy(np.array(Image.open(path).convert("RGB").resize((16, 16)))) for path in paths]
    )
    assert not torch.equal(lines["finish"](whole.permute(0, 3, 1, 2)), images)


def test_on_images_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--dataset", "digits[:300]", "--student", "test_resnet", "--epochs", "2")
    check_in_memory("digits", trained(tmp_path / "runs", *options), tmp_path, monkeypatch)


@pytest.mark.exhaustive
def test_on_images_with_a_margin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "framed.py"
    plugin.write_text(
        "import kdzoo\n\n\n"
        "class Framed(kdzoo.Dataset):\n"
        '    name, img_size, pads = "framed", (13, 12), True\n\n'
        "    def load(self, data_dir, download):\n"
        "        from kdzoo.data.builtin import Digits\n"
        "        return Digits().load(data_dir, download)\n\n\n"
        "@kdzoo.hookimpl\ndef kdzoo_datasets():\n    return [Framed()]\n",
        encoding="utf-8",
    )
    options = ("--dataset", "framed[:300]", "--plugin", str(plugin), "--student", "test_resnet", "--epochs", "2")
    check_in_memory("digits", trained(tmp_path / "runs", *options), tmp_path, monkeypatch, margin=True)


def check_in_memory(
    name: str, record: Record, folder: Path, monkeypatch: pytest.MonkeyPatch, *, margin: bool = False
) -> None:
    lines = page(folder / "runs", record, folder, monkeypatch)
    test = Registry.load().find_dataset(name).load(None, False).test
    assert isinstance(test, ArrayData)
    images = lines["finish"](lines["from_memory"](torch.from_numpy(test.images)))
    assert record.test is not None
    assert lines["header"]["margin"] is margin
    assert images.shape[-2:] == record.cell.data.img_size
    assert correct(lines["model"], images, torch.from_numpy(test.labels)) == hits(record.test)
    assert hits(record.test) > record.test["n"] / 5
