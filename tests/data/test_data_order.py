"""The classes of a folder are numbered as timm numbers them, whose checkpoints people bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data.readers.reader_image_folder import ReaderImageFolder

from kdzoo import FileData
from kdzoo.data.folder import FolderDataset, natural_key

ODD = {
    "numbers": [str(number) for number in range(12)],
    "case": ["Zebra", "ant", "Bee", "cat", "DOG"],
    "mixed": ["img12", "img2", "Img3", "a2b10", "a2b9", "A10", "7up", "x-1", "x_1", "X 1", "x"],
    "unicode": ["Äpfel", "äpfel2", "zoo", "Ωmega", "ß", "İ", "n٣", "n10", "日本", "é", "e"],
    "wnids": ["n01440764", "n02123045", "n01443537"],
}


def write(root: Path, classes: list[str], *, test: list[str] | None = None, count: int = 2) -> None:
    """One grey image per number, different everywhere, as PNGs."""
    shade = iter(range(256))
    for split, names in (("train", classes), ("test", classes if test is None else test)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), next(shade)).save(root / split / name / f"{number}.png")


@pytest.mark.parametrize("kind", ODD)
def test_classes_and_labels_are_those_of_timms_reader(tmp_path: Path, kind: str) -> None:
    write(tmp_path, ODD[kind])
    splits = FolderDataset(str(tmp_path)).load(None, False)
    timms = ReaderImageFolder(str(tmp_path / "train"))
    assert splits.classes == tuple(sorted(timms.class_to_idx, key=timms.class_to_idx.__getitem__))
    assert isinstance(splits.train, FileData)
    ours = {splits.train.samples.names[place]: label for place, label in enumerate(splits.train.labels)}
    assert ours == {timms.filename(place): label for place, (_, label) in enumerate(timms.samples)}
    assert splits.notes == ()


def test_what_timm_leaves_to_chance_is_ordered_and_said(tmp_path: Path) -> None:
    write(tmp_path, ["b", "cat", "Cat", "01", "1"])
    splits = FolderDataset(str(tmp_path)).load(None, False)
    assert splits.classes == ("01", "1", "b", "Cat", "cat")
    assert splits.notes == (
        "timm does not define the order of the classes '01', '1', 'Cat', 'cat'; kdzoo uses this order",
    )


def test_digits_that_are_no_numbers_are_letters() -> None:
    assert sorted(["m²", "²", "m10", "m9"], key=natural_key) == ["m9", "m10", "m²", "²"]


def test_another_order_is_another_dataset(tmp_path: Path) -> None:
    """What an older kdzoo trained on these files had other labels, so no cell of it may be taken for one of these."""
    write(tmp_path, ODD["numbers"])
    first = FolderDataset(str(tmp_path)).load(None, False)
    assert first.classes[2] == "2"
    for split in ("train", "test"):
        (tmp_path / split / "2").rename(tmp_path / split / "a")
    second = FolderDataset(str(tmp_path)).load(None, False)
    assert second.fingerprint != first.fingerprint
    assert np.bincount(second.train.labels).tolist() == [2] * 12


def test_folders_inside_a_class_belong_to_it_and_timms_view_is_said(tmp_path: Path) -> None:
    write(tmp_path, ["cat", "dog"])
    inner = tmp_path / "train/cat/kittens"
    inner.mkdir()
    Image.new("L", (8, 8)).save(inner / "0.png")
    splits = FolderDataset(str(tmp_path)).load(None, False)
    assert splits.classes == ("cat", "dog")
    assert np.bincount(splits.train.labels).tolist() == [3, 2]
    assert splits.notes == ("the folders inside 'cat' belong to that class; timm would make classes of them",)
    assert set(ReaderImageFolder(str(tmp_path / "train")).class_to_idx) == {"cat", "dog", "kittens"}
