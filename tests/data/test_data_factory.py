"""The names of timm's dataset factory."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from kdzoo import ArrayData, Dataset, FileData, UsageError
from kdzoo.data import factory
from kdzoo.data.factory import TimmDataset
from kdzoo.data.load import open_data
from kdzoo.data.survey import refuse_damage

Lookup = Callable[[str], Dataset]


def never(name: str) -> Dataset:
    pytest.fail(f"{name} was looked up")


def test_torch_image_folder_is_read_from_files(write_folder: Callable[..., None], tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 6, "val": 2})
    data = open_data("torch/image_folder", never, data_dir=tmp_path, img_size=(16, 16))
    ref = data.ref
    assert (ref.name, ref.fit, ref.tune, ref.test, ref.num_classes) == ("torch/image_folder", 10, 2, 4, 2)
    assert data.classes == ("cat", "dog")
    as_folder = open_data(f"folder:{tmp_path}", never, img_size=(16, 16))
    pairs = zip(data.eval_batches("test", 3, "cpu"), as_folder.eval_batches("test", 3, "cpu"), strict=True)
    assert all(torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels) for a, b in pairs)


def test_torch_image_folder_without_its_splits_is_refused(write_folder: Callable[..., None], tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2})
    with pytest.raises(UsageError, match=r"needs the splits train and test \(or validation\); it has train"):
        open_data("torch/image_folder", never, data_dir=tmp_path)


def test_torchvisions_arrays_stay_in_memory(
    builtin: Lookup, write_mnist: Callable[..., tuple[np.ndarray, ...]], tmp_path: Path
) -> None:
    write_mnist(tmp_path / "FashionMNIST/raw")
    splits = TimmDataset("torch/fashion_mnist").load(tmp_path, False)
    assert isinstance(splits.train, ArrayData)
    assert splits.fingerprint == builtin("fashion_mnist").load(tmp_path, False).fingerprint


def test_missing_torch_data_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"torch/cifar10 could not be opened in .*--data-dir, or add --download"):
        open_data("torch/cifar10", never, data_dir=tmp_path)
    with pytest.raises(UsageError, match="unknown torchvision dataset 'cifar1'; did you mean cifar10"):
        open_data("torch/cifar1", never)


@pytest.mark.parametrize(
    ("name", "packages"),
    [("hfds/mnist", "datasets"), ("hfids/mnist", "datasets"), ("wds/x", "webdataset"), ("tfds/mnist", "tensorflow ")],
)
def test_missing_packages_are_named(name: str, packages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=f"{name} needs a package that is not installed: pip install {packages}"):
        open_data(name, never)


def test_an_absolute_path_does_not_enter_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "find_spec", lambda module: object())
    assert TimmDataset("hfds//home/me/sets/cats").name == "hfds/cats"
    assert TimmDataset("HFDS/owner/cats").name == "hfds/owner/cats"


class Ordered(torch.utils.data.IterableDataset):
    """Stands for timm's reader of sets without random access."""

    def __init__(self, count: int, announced: int, label: int | None = None) -> None:
        self.count, self.announced, self.label = count, announced, label

    def __len__(self) -> int:
        return self.announced

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        for number in range(self.count):
            image = Image.new("L", (20, 30), number)
            yield image, number % 2 if self.label is None else self.label


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let tfds/toy have these splits."""

    def install(**splits: Ordered) -> None:
        package = ModuleType("tensorflow_datasets")
        info = type("Builder", (), {"info": type("Info", (), {"splits": dict.fromkeys(splits)})})
        package.builder = lambda name, data_dir: info  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)
        monkeypatch.setattr(factory, "find_spec", lambda module: object())
        monkeypatch.setattr("timm.data.dataset.IterableImageDataset", Ordered)
        monkeypatch.setattr("timm.data.dataset_factory.create_dataset", lambda name, split, **_: splits[split])

    return install


def test_ordered_sets_are_decoded_into_memory_once(ordered: Callable[..., None]) -> None:
    ordered(train=Ordered(40, 40), test=Ordered(10, 0), validation=Ordered(6, 6))
    data = open_data("tfds/toy", never, img_size=(8, 12))
    ref = data.ref
    assert (ref.fit, ref.tune, ref.test, ref.channels, ref.img_size) == (40, 6, 10, 3, (8, 12))
    shown = torch.cat([batch.inputs for batch in data.eval_batches("fit", 16, "cpu")])
    assert (shown[:, 0, 4, 6] * 255).round().tolist() == list(range(40))
    assert data.labels("fit").tolist() == [0, 1] * 20


def test_a_test_split_without_labels_gives_way_to_validation(ordered: Callable[..., None]) -> None:
    ordered(train=Ordered(40, 40), test=Ordered(10, 10, label=-1), validation=Ordered(6, 6))
    ref = open_data("tfds/toy", never, img_size=(8, 8)).ref
    assert (ref.fit, ref.tune, ref.test) == (36, 4, 6)


def test_an_ordered_set_that_lost_samples_is_refused(ordered: Callable[..., None]) -> None:
    ordered(train=Ordered(39, 40), test=Ordered(10, 10))
    with pytest.raises(UsageError, match="39 of the 40 samples of split train can be read"):
        open_data("tfds/toy", never, img_size=(8, 8))


class Mixed(Ordered):
    """16-bit grey images, and among them some floating-point ones whose range nobody knows."""

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        for number in range(self.count):
            wrong = number in (self.label or 0, 7)
            pixels = np.full((20, 30), 300.5, np.float32) if wrong else np.full((20, 30), 257 * number, np.uint16)
            yield Image.fromarray(pixels), number % 2


def test_images_of_an_ordered_set_are_converted(ordered: Callable[..., None]) -> None:
    ordered(train=Mixed(40, 40, label=99), test=Mixed(6, 6, label=99))
    with pytest.raises(UsageError, match=r"1 of the 40 images of the split train of tfds/toy cannot .*\n  sample 7 \("):
        open_data("tfds/toy", never, img_size=(8, 8))
    ordered(train=Ordered(40, 40), test=Mixed(6, 6, label=99))
    batch = next(open_data("tfds/toy", never, img_size=(8, 8)).eval_batches("test", 6, "cpu"))
    assert (batch.inputs[:, 1, 0, 0] * 255).round().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("announced", [0, 40])
def test_an_ordered_set_that_is_too_large_is_refused(
    ordered: Callable[..., None], monkeypatch: pytest.MonkeyPatch, announced: int
) -> None:
    ordered(train=Ordered(40, announced), test=Ordered(10, 10))
    monkeypatch.setattr(factory, "MOST_IN_MEMORY", 39 * 3 * 64)
    with pytest.raises(UsageError, match="does not fit into memory: its split train needs more than"):
        open_data("tfds/toy", never, img_size=(8, 8))


def test_webdataset_shards(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    splits = {}
    for split, count in (("train", 24), ("validation", 6)):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
            for number in range(count):
                png = io.BytesIO()
                # One in four is 16-bit grey, which must reach kdzoo's own conversion.
                grey = Image.fromarray(np.full((16, 16), 2 * number * 257, np.uint16))
                colour = Image.new("RGB", (16, 16), (number, 2 * number, 0))
                (colour if number % 4 else grey).save(png, "PNG")
                for ending, content in (("png", png.getvalue()), ("cls", str(number % 3).encode())):
                    info = tarfile.TarInfo(f"{number:04}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        splits[split] = {
            "name": split,
            "num_samples": count,
            "filenames": [f"{split}.tar"],
            "shard_lengths": [count],
        }
    with pytest.raises(UsageError, match=r"wds/ needs --data-dir with the shards and their _info.json"):
        open_data("wds/toy", never, data_dir=tmp_path)
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    data = open_data("wds/toy", never, data_dir=tmp_path, img_size=(8, 8))
    assert (data.ref.fit + data.ref.tune, data.ref.test, data.ref.num_classes) == (24, 6, 3)
    batch = next(data.eval_batches("test", 6, "cpu"))
    assert batch.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (batch.inputs[:, 1, 0, 0] * 255).round().tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("attribute", ["samples", "imgs"])
def test_torchvisions_files_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    files = [tmp_path / f"{number}.png" for number in range(20)]
    for number, file in enumerate(files):
        Image.fromarray(np.full((9, 9), 257 * number, np.uint16)).save(file)
    files[8].write_bytes(b"")
    places = SimpleNamespace(root=str(tmp_path), class_to_idx={"even": 0, "odd": 1})
    setattr(places, attribute, [(str(file), number % 2) for number, file in enumerate(files)])
    monkeypatch.setattr("timm.data.dataset_factory.create_dataset", lambda name, **_: places)
    data = open_data("torch/places365", never, data_dir=tmp_path, img_size=(8, 8))
    images = data.images("test", torch.tensor([0, 1, 19]))
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [0, 1, 19]
    with pytest.raises(UsageError, match=r"8.png \(the file is empty\)"):
        refuse_damage(data)


def test_hugging_face_image_folder(
    write_folder: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    write_folder(tmp_path / "pets", {"train": 6, "test": 2})
    splits = TimmDataset(f"hfds/{tmp_path}/pets").load(tmp_path / "cache", False)
    assert isinstance(splits.train, FileData)
    assert splits.classes == ("cat", "dog")
    assert sorted(splits.train.labels.tolist()) == [0] * 6 + [1] * 6
    data = open_data(f"hfds/{tmp_path}/pets", never, data_dir=tmp_path, img_size=(16, 16))
    assert (data.ref.name, data.ref.fit, data.ref.tune, data.ref.test) == ("hfds/pets", 10, 2, 4)
    as_folder = open_data(f"folder:{tmp_path}/pets", never, img_size=(16, 16))
    ours, theirs = (next(one.eval_batches("test", 4, "cpu")) for one in (data, as_folder))
    order = ours.labels.argsort(stable=True)
    assert torch.equal(ours.inputs[order], theirs.inputs)


def test_hugging_face_streaming(write_folder: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write_folder(tmp_path / "pets", {"train": 6, "test": 2})
    ref = open_data(f"hfids/{tmp_path}/pets", never, data_dir=tmp_path, download=True, img_size=(16, 16)).ref
    assert (ref.name, ref.fit, ref.tune, ref.test) == ("hfids/pets", 10, 2, 4)


@pytest.mark.parametrize("kind", ["hfds", "hfids"])
def test_hugging_face_images_of_16_bits(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    for split in ("train", "test"):
        for number in range(8):
            file = tmp_path / f"grey/{split}/{number % 2}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((9, 9), 257 * number, np.uint16)).save(file)
    data = open_data(f"{kind}/{tmp_path}/grey", never, data_dir=tmp_path, download=True, img_size=(8, 8))
    levels = next(data.eval_batches("test", 8, "cpu")).inputs[:, 0, 0, 0] * 255
    assert sorted(levels.round().tolist()) == list(range(8))
