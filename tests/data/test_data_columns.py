"""Which columns of a hub's dataset are read, and what its fingerprint covers."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdzoo import Dataset, FileData, UsageError
from kdzoo.data import contents, factory
from kdzoo.data.factory import TimmDataset
from kdzoo.data.hub_columns import Columns, class_numbers
from kdzoo.data.load import open_data


def never(name: str) -> Dataset:
    pytest.fail(f"{name} was looked up")


@pytest.mark.parametrize(
    ("text", "bare", "shown", "arguments"),
    [
        ("hfds/cifar100", "hfds/cifar100", "", {}),
        ("hfds/cifar100:label=fine_label", "hfds/cifar100", ":label=fine_label", {"target_key": "fine_label"}),
        ("HFDS/a/b:label=y:image=x", "HFDS/a/b", ":image=x:label=y", {"input_key": "x", "target_key": "y"}),
        ("hfids/a:image=img", "hfids/a", ":image=img", {"input_key": "img"}),
        ("tfds/mnist:3.0.1:label=y", "tfds/mnist:3.0.1", ":label=y", {"target_key": "y"}),
        ("wds/x:label=kind", "wds/x", ":label=kind", {"target_key": "kind"}),
        ("hfds/a:label=label:image=image", "hfds/a", "", {"input_key": "image", "target_key": "label"}),
        ("torch/mnist", "torch/mnist", "", {}),
        ("hfds/C:\\sets\\a", "hfds/C:\\sets\\a", "", {}),
    ],
)
def test_columns_in_a_name(text: str, bare: str, shown: str, arguments: dict[str, str]) -> None:
    rest, columns = Columns.parse(text)
    assert (rest, str(columns), columns.arguments) == (bare, shown, arguments)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hfds/a:labels=x", "unknown option 'labels'; did you mean label?"),
        ("hfds/a:label=", "write each option once, as label=COLUMN"),
        ("hfds/a:label=x:label=y", "write each option once, as label=COLUMN"),
        ("hfds/a:label=x:y", "unknown option 'y'"),
        ("hfds/a:label=x,y", "one column gives the label, not several"),
        ("wds/a:image=webp", "unknown option 'image'; known: label"),
        ("torch/mnist:label=x", "torch/ has no columns to choose; leave :label=x out"),
    ],
)
def test_wrong_options_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_data(text, never)
    assert sentence in str(caught.value)


def test_labels_are_whole_numbers() -> None:
    assert class_numbers([1, np.int64(2), True, None], "x").tolist() == [1, 2, 1, -1]
    for wrong in ("cat", 0.5, 1.0, [1], b"1"):
        with pytest.raises(UsageError, match=r"the label of sample 1 is .*, which is no class number; choose another"):
            class_numbers([0, wrong], "x")


class Ordered(torch.utils.data.IterableDataset):
    """Stands for timm's reader of sets without random access, with columns of its own."""

    def __init__(self, **keys: str) -> None:
        features = {"photo": None, "kind": None, "text": None}
        self.reader = SimpleNamespace(builder=SimpleNamespace(info=SimpleNamespace(features=features)))
        self.keys = keys

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[tuple[Image.Image, Any]]:
        for number in range(20):
            label = number % 4 if self.keys["target_key"] == "kind" else "four"
            yield Image.new("RGB", (8, 8), (number, 0, 0)), label


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("tensorflow_datasets")
    splits = SimpleNamespace(info=SimpleNamespace(splits={"train": None, "test": None}))
    package.builder = lambda name, data_dir: splits  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)
    monkeypatch.setattr(factory, "find_spec", lambda module: object())
    monkeypatch.setattr("timm.data.dataset.IterableImageDataset", Ordered)

    def create(name: str, *, input_key: str = "image", target_key: str = "label", **_: Any) -> Ordered:
        assert name == "tfds/toy"
        return Ordered(input_key=input_key, target_key=target_key)

    monkeypatch.setattr("timm.data.dataset_factory.create_dataset", create)


def test_columns_reach_the_reader_and_the_name(ordered: None) -> None:
    data = open_data("tfds/toy:label=kind:image=photo[:16]", never, img_size=(8, 8))
    assert (data.ref.name, data.ref.fit + data.ref.tune) == ("tfds/toy:image=photo:label=kind[:16]", 16)
    assert data.ref.num_classes == 4


def test_a_missing_column_is_told_with_those_that_are_there(ordered: None) -> None:
    has = r"it has 'photo', 'kind', 'text': choose one with :(image|label)=COLUMN"
    with pytest.raises(UsageError, match=rf"^tfds/toy has no column 'image' with the image; {has}"):
        open_data("tfds/toy", never)
    with pytest.raises(UsageError, match=rf"tfds/toy:image=photo has no column 'label' with the label; {has}"):
        open_data("tfds/toy:image=photo", never)
    with pytest.raises(UsageError, match="the label of sample 0 is 'four', which is no class number"):
        open_data("tfds/toy:image=photo:label=text", never, img_size=(8, 8))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a dataset of parquet files, images inside, and give its name; ``changed`` exchanges two images' reds."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "hashes"))

    def write(folder: str = "toy", *, changed: bool = False) -> str:
        for split, count in (("train", 200), ("test", 12)):
            reds = list(range(count))
            if changed and split == "train":
                reds[100], reds[103] = reds[103], reds[100]
            columns = {
                "img": [Image.new("RGB", (8, 8), (red, 7, 7)) for red in reds],
                "fine": [number % 3 for number in range(count)],
                "coarse": [number % 2 for number in range(count)],
                "score": [number / 2 for number in range(count)],
            }
            features = datasets.Features(
                img=datasets.Image(),
                fine=datasets.ClassLabel(names=["a", "b", "c"]),
                coarse=datasets.ClassLabel(names=["x", "y"]),
                score=datasets.Value("float32"),
            )
            (tmp_path / folder / "data").mkdir(parents=True, exist_ok=True)
            made = datasets.Dataset.from_dict(columns, features=features)
            made.to_parquet(tmp_path / folder / "data" / f"{split}-00000-of-00001.parquet")
        return f"hfds/{tmp_path}/{folder}"

    return write


def test_columns_of_a_hubs_dataset(hub: Callable[..., str], tmp_path: Path) -> None:
    name = hub()
    splits = TimmDataset(f"{name}:image=img:label=fine").load(tmp_path / "c", False)
    assert splits.classes == ("a", "b", "c")
    assert splits.train.labels.tolist() == [number % 3 for number in range(200)]
    assert isinstance(splits.train, FileData)
    assert splits.train.samples[5][0].getpixel((0, 0)) == (5, 7, 7)
    coarse = TimmDataset(f"{name}:image=img:label=coarse")
    assert coarse.name == "hfds/toy:image=img:label=coarse"
    assert coarse.load(tmp_path / "c", False).classes == ("x", "y")
    assert coarse.load(tmp_path / "c", False).fingerprint != splits.fingerprint


def test_missing_columns_of_a_hubs_dataset(hub: Callable[..., str], tmp_path: Path) -> None:
    name = hub()
    for options, sentence in (
        ("", "hfds/toy has no column 'image' with the image; it has 'img', 'fine', 'coarse', 'score': choose one"),
        (":image=img", "has no column 'label' with the label; it has 'img', 'fine', 'coarse', 'score'"),
        (":image=img:label=score", "the label of sample 0 is 0.0, which is no class number"),
        (":image=score:label=fine", "its images are not in the column that was chosen"),
    ):
        with pytest.raises(UsageError) as caught:
            TimmDataset(name + options).load(tmp_path / "c", False)
        assert sentence in str(caught.value)


def test_streamed_columns(hub: Callable[..., str], tmp_path: Path) -> None:
    name = hub().replace("hfds/", "hfids/")
    (tmp_path / "c").mkdir()
    given = {"data_dir": tmp_path / "c", "download": True, "img_size": (8, 8)}
    assert open_data(f"{name}:image=img:label=coarse", never, **given).ref.num_classes == 2
    with pytest.raises(UsageError, match="hfids/toy has no column 'image' with the image; it has 'img', 'fine'"):
        open_data(name, never, **given)


def test_every_image_of_a_hubs_dataset_is_in_its_fingerprint(
    hub: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint(name: str) -> str:
        return TimmDataset(f"{name}:image=img:label=fine").load(tmp_path / "c", False).fingerprint

    first, copy, other = hub("one"), hub("two"), hub("three", changed=True)
    assert fingerprint(first) == fingerprint(copy) != fingerprint(other)
    # The second time nothing is read.
    monkeypatch.setattr("kdzoo.data.contents._images", lambda data, column: iter([{"bytes": b"x"}]))
    assert fingerprint(first) == fingerprint(copy) != fingerprint(other)


def test_files_that_a_hubs_dataset_names_are_in_its_fingerprint(
    write_folder: Callable[..., None], tmp_path: Path
) -> None:
    pytest.importorskip("datasets")
    write_folder(tmp_path / "pets", {"train": 6, "test": 2})
    first = TimmDataset(f"hfds/{tmp_path}/pets").load(tmp_path / "c", False).fingerprint
    assert TimmDataset(f"hfds/{tmp_path}/pets").load(tmp_path / "c", False).fingerprint == first
    path = tmp_path / "pets/train/dog/3.png"
    before = path.stat()
    Image.new("RGB", (40, 48)).save(path)
    path.write_bytes(path.read_bytes().ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert TimmDataset(f"hfds/{tmp_path}/pets").load(tmp_path / "c", False).fingerprint != first


def test_inaturalists_files_are_in_its_fingerprint(tmp_path: Path) -> None:
    for split in ("2021_train", "2021_valid"):
        for number, kind in enumerate(("rose", "oak")):
            folder = tmp_path / split / f"{number:05}_a_b_c_d_e_f_{kind}"
            folder.mkdir(parents=True)
            for place in range(6):
                Image.new("RGB", (8, 8), (10 * place, number, 0)).save(folder / f"{5 - place}.bmp")
    splits = TimmDataset("torch/inaturalist").load(tmp_path, False)
    assert isinstance(splits.train, FileData)
    assert splits.train.labels.tolist() == [0] * 6 + [1] * 6
    assert [splits.train.samples[place][0].getpixel((0, 0)) for place in (0, 5, 11)] == [
        (50, 0, 0),
        (0, 0, 0),
        (0, 1, 0),
    ]
    Image.new("RGB", (8, 8)).save(next(iter((tmp_path / "2021_train").glob("*oak"))) / "3.bmp")
    assert TimmDataset("torch/inaturalist").load(tmp_path, False).fingerprint != splits.fingerprint


def test_labels_from_the_json_of_webdatasets_samples(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    splits = {}
    for split, count in (("train", 24), ("validation", 6)):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
            for number in range(count):
                webp = io.BytesIO()
                Image.new("RGB", (16, 16), (number, 0, 0)).save(webp, "WEBP", lossless=True)
                told = json.dumps({"kind": number % 2, "colour": number % 3}).encode()
                for ending, content in (("webp", webp.getvalue()), ("json", told)):
                    info = tarfile.TarInfo(f"{number:04}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        shards = {"name": split, "num_samples": count, "filenames": [f"{split}.tar"], "shard_lengths": [count]}
        splits[split] = shards
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    given = {"data_dir": tmp_path, "img_size": (8, 8)}
    for column, classes in (("kind", 2), ("colour", 3)):
        data = open_data(f"wds/toy:label={column}", never, **given)
        assert (data.ref.name, data.ref.num_classes) == (f"wds/toy:label={column}", classes)
        assert data.labels("test").tolist() == [number % classes for number in range(6)]
    with pytest.raises(UsageError, match=r"'nope'.*available keys: \['colour', 'kind'\]"):
        open_data("wds/toy:label=nope", never, **given)
