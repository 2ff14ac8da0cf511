"""Small datasets, made on the spot."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdzoo import ArrayData, Dataset, Splits
from kdzoo.data.builtin import kdzoo_datasets


class Toy(Dataset):
    """Seeded noise, 3 classes."""

    name = "toy"
    img_size = (8, 8)

    def __init__(self, train: int = 90, test: int = 30, channels: int = 1, size: tuple[int, int] = (8, 8)) -> None:
        self.shape = (train, test, channels, size)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        train, test, channels, size = self.shape
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (train + test, channels, *size), dtype=np.uint8)
        labels = np.arange(train + test, dtype=np.int64) % 3
        return Splits(
            ArrayData(images[:train], labels[:train]), ArrayData(images[train:], labels[train:]), ("a", "b", "c")
        )


@pytest.fixture
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def builtin() -> Callable[[str], Dataset]:
    return {dataset.name: dataset for dataset in kdzoo_datasets()}.__getitem__


@pytest.fixture
def write_idx() -> Callable[..., None]:
    """Write an array as an IDX file by the format's own words: magic, sizes, bytes."""

    def write(path: Path, array: np.ndarray, *, magic: int | None = None, cut: int = 0) -> None:
        kind = 0x0800 + array.ndim if magic is None else magic
        data = b"".join(number.to_bytes(4, "big") for number in (kind, *array.shape)) + array.tobytes()
        data = data[: len(data) - cut]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)

    return write


@pytest.fixture
def write_mnist(write_idx: Callable[..., None]) -> Callable[..., tuple[np.ndarray, ...]]:
    """Write the four files of a small relative of MNIST and return (train, train labels, test, test labels)."""

    def write(folder: Path, *, ending: str = "", train: int = 60, test: int = 20, size: tuple[int, int] = (28, 28)):
        rng = np.random.default_rng(1)
        arrays = []
        for stem, count in (("train", train), ("t10k", test)):
            images = rng.integers(0, 256, (count, *size), dtype=np.uint8)
            labels = (np.arange(count) % 10).astype(np.uint8)
            write_idx(folder / f"{stem}-images-idx3-ubyte{ending}", images)
            write_idx(folder / f"{stem}-labels-idx1-ubyte{ending}", labels)
            arrays += [images, labels]
        return tuple(arrays)

    return write


@pytest.fixture
def write_folder() -> Callable[..., None]:
    """Write a folder of PNGs: root/split/class/number.png, each of one size and seeded noise."""

    def write(root: Path, counts: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")) -> None:
        rng = np.random.default_rng(2)
        for split, count in counts.items():
            for name in classes:
                (root / split / name).mkdir(parents=True)
                for number in range(count):
                    pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / split / name / f"{number}.png")

    return write
