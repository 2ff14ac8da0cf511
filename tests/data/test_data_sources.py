"""Datasets by name: what they hold, where they are looked for, and the sentence when they are missing or damaged."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from kdzoo import ArrayData, Dataset, FileData, Splits, UsageError
from kdzoo.data.builtin import read_pair
from kdzoo.data.folder import FolderDataset

Find = Callable[[str], Dataset]


def test_digits_are_scikit_learns(builtin: Find) -> None:
    splits = builtin("digits").load(None, False)
    train, test = splits.train, splits.test
    assert isinstance(train, ArrayData)
    assert isinstance(test, ArrayData)
    assert (train.images.shape, test.images.shape) == ((1438, 1, 8, 8), (359, 1, 8, 8))
    raw = load_digits()
    known = {image.tobytes() for image in np.rint(raw.images / 16 * 255).astype(np.uint8)}
    ours = [image.tobytes() for image in [*train.images, *test.images]]
    assert set(ours) == known
    assert sorted([*train.labels.tolist(), *test.labels.tolist()]) == sorted(raw.target.tolist())
    # A stratified fifth: each class has 174 to 183 images.
    assert np.bincount(test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert splits.fingerprint == "469edcfbc4a09c3a"


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "fashion_mnist", "fashion_mnist/raw", "FashionMNIST/raw", "fashion-mnist"])
def test_idx_files_come_back_whole(
    builtin: Find, write_mnist: Callable[..., tuple[np.ndarray, ...]], tmp_path: Path, ending: str, place: str
) -> None:
    train, train_labels, test, test_labels = write_mnist(tmp_path / place, ending=ending)
    splits = builtin("fashion_mnist").load(tmp_path, False)
    assert isinstance(splits.train, ArrayData)
    assert isinstance(splits.test, ArrayData)
    assert np.array_equal(splits.train.images[:, 0], train)
    assert np.array_equal(splits.train.labels, train_labels)
    assert np.array_equal(splits.test.images[:, 0], test)
    assert np.array_equal(splits.test.labels, test_labels)


def test_missing_idx_files_say_where_and_how(builtin: Find, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        builtin("kmnist").load(tmp_path, False)
    for part in (str(tmp_path), str(tmp_path / "KMNIST/raw"), "t10k-labels-idx1-ubyte", "--data-dir", "--download"):
        assert part in str(caught.value)


def test_an_incomplete_place_names_what_it_lacks(
    builtin: Find, write_mnist: Callable[..., tuple[np.ndarray, ...]], tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match="lacks t10k-labels-idx1-ubyte"):
        builtin("mnist").load(tmp_path, False)


def test_images_of_another_shape_in_test_are_refused(
    builtin: Find, write_mnist: Callable[..., tuple[np.ndarray, ...]], write_idx: Callable[..., None], tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((20, 27, 28), dtype=np.uint8))
    with pytest.raises(UsageError, match="images of test are 1 x 27 x 28, images of train are 1 x 28 x 28"):
        builtin("mnist").load(tmp_path, False)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_damaged_idx_files_are_named(write_idx: Callable[..., None], tmp_path: Path, ending: str) -> None:
    images, labels = tmp_path / f"images{ending}", tmp_path / f"labels{ending}"
    pixels, numbers = np.ones((5, 4, 3), dtype=np.uint8), np.arange(5, dtype=np.uint8)

    write_idx(images, pixels, cut=7)
    write_idx(labels, numbers)
    with pytest.raises(UsageError, match=rf"images{ending} is damaged: its header announces 76 bytes and it has 69"):
        read_pair(images, labels)
    write_idx(images, pixels, magic=0x0D03)
    with pytest.raises(UsageError, match=rf"images{ending} is not an IDX file of images.*00000803"):
        read_pair(images, labels)
    write_idx(images, pixels[:4])
    with pytest.raises(UsageError, match=rf"images{ending} holds 4 images but .*labels{ending} holds 5 labels"):
        read_pair(images, labels)
    images.write_bytes(b"")
    with pytest.raises(UsageError, match="is not an IDX file of images"):
        read_pair(images, labels)
    with pytest.raises(UsageError, match=r"cannot read .*absent: no such file"):
        read_pair(tmp_path / "absent", labels)


def test_a_cut_or_corrupt_gzip_file_is_named(write_idx: Callable[..., None], tmp_path: Path) -> None:
    images, labels = tmp_path / "images.gz", tmp_path / "labels.gz"
    write_idx(images, np.random.default_rng(0).integers(0, 256, (50, 4, 4), dtype=np.uint8))
    write_idx(labels, np.zeros(50, dtype=np.uint8))
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"images.gz is damaged"):
        read_pair(images, labels)
    middle = len(whole) // 2
    images.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    with pytest.raises(UsageError, match=r"images.gz is damaged"):
        read_pair(images, labels)


def test_cifar_reads_torchvisions_folder(builtin: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    root = tmp_path / CIFAR10.base_folder
    root.mkdir()
    planes = rng.integers(0, 256, (6, 20, 3072), dtype=np.uint8)
    for (name, _), batch in zip(CIFAR10.train_list + CIFAR10.test_list, planes, strict=True):
        content = {"data": batch, "labels": [number % 10 for number in range(20)]}
        (root / name).write_bytes(pickle.dumps(content))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.raises(UsageError, match=r"cifar10 was not found in .*, or is damaged: .*--download"):
        builtin("cifar10").load(tmp_path, False)

    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: Path(path).is_file())
    splits = builtin("cifar10").load(tmp_path, False)
    assert isinstance(splits.train, ArrayData)
    # The files hold each image as three planes of 32 rows.
    assert np.array_equal(splits.train.images, planes[:5].reshape(100, 3, 32, 32))
    assert len(splits.test) == 20
    assert splits.classes == tuple("abcdefghij")


def test_folder_reads_its_splits(write_folder: Callable[..., None], tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": 3, "val": 1, "test": 2})
    dataset = FolderDataset(str(tmp_path / "pets"))
    splits = dataset.load(None, False)
    assert dataset.name == "folder:pets"
    assert splits.classes == ("cat", "dog")
    assert isinstance(splits.train, FileData)
    assert splits.tune is not None
    assert (len(splits.train), len(splits.tune), len(splits.test)) == (6, 2, 4)
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    image, label = splits.train.samples[4]
    expected = np.asarray(Image.open(tmp_path / "pets/train/dog/1.png"))
    assert np.array_equal(np.asarray(image), expected)
    assert label == 1


def test_val_alone_is_the_test_split(write_folder: Callable[..., None], tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 3, "val": 1})
    splits = FolderDataset(str(tmp_path)).load(None, False)
    assert splits.tune is None
    assert len(splits.test) == 2


def test_folder_fingerprint_follows_content_not_place(write_folder: Callable[..., None], tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_folder(tmp_path / place, {"train": 3, "test": 1})
    first, second = (FolderDataset(str(tmp_path / place)).load(None, False).fingerprint for place in ("a", "b"))
    assert first == second
    with (tmp_path / "b/train/cat/0.png").open("ab") as file:
        file.write(b"more")
    assert FolderDataset(str(tmp_path / "b")).load(None, False).fingerprint != first
    (tmp_path / "a/train/cat/0.png").rename(tmp_path / "a/train/cat/7.png")
    assert FolderDataset(str(tmp_path / "a")).load(None, False).fingerprint != first


def test_folder_errors(write_folder: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        FolderDataset(str(tmp_path / "absent")).load(None, False)
    write_folder(tmp_path, {"train": 2})
    with pytest.raises(UsageError, match=r"needs the folders train and test \(or val\).*it has 'train'"):
        FolderDataset(str(tmp_path)).load(None, False)
    write_folder(tmp_path, {"test": 1}, classes=("cat", "dodo"))
    with pytest.raises(UsageError, match="has a class 'dodo' that is not in the train folder"):
        FolderDataset(str(tmp_path)).load(None, False)
    (tmp_path / "test/dodo/0.png").unlink()
    (tmp_path / "test/dodo").rmdir()
    (tmp_path / "test/cat/0.png").unlink()
    with pytest.raises(UsageError, match="test holds no images"):
        FolderDataset(str(tmp_path)).load(None, False)


ONES = np.ones((4, 1, 2, 2), dtype=np.uint8)
HALVES = np.array([0, 1, 0, 1])
FOUR = ArrayData(ONES, HALVES)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ArrayData(ONES.astype(np.float32), HALVES), "images must be uint8 .* not float32"),
        (lambda: ArrayData(ONES[:, 0], HALVES), "of shape 4 x 2 x 2"),
        (lambda: ArrayData(ONES.repeat(2, axis=1), HALVES), "with C = 1 or 3.*of shape 4 x 2 x 2 x 2"),
        (lambda: ArrayData(ONES, HALVES[:3]), "labels of 4 images must be int64 of shape 4, not int64 of shape 3"),
        (lambda: ArrayData(ONES, HALVES.astype(np.int32)), "not int32"),
        (lambda: Splits(FOUR, ArrayData(ONES, HALVES + 1), ("a", "b")), "test split has labels from 1 to 2"),
        (lambda: Splits(FOUR, FOUR.subset(np.arange(0)), ("a", "b")), "test split is empty"),
        (lambda: Splits(FOUR, FOUR, ("a",)), "at least 2 classes"),
    ],
)
def test_malformed_data_are_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()
