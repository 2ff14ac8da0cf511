"""``folder:PATH``: a folder with one folder per split, and in each one folder of images per class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdzoo.data.dataset import Dataset, FileData, Splits
from kdzoo.data.hashing import digest
from kdzoo.errors import UsageError
from kdzoo.files import from_home

if TYPE_CHECKING:
    from PIL.Image import Image

TRAIN, TEST = ("train", "training"), ("test",)
VALIDATION = ("val", "valid", "validation", "eval", "evaluation")


class FolderDataset(Dataset):
    """Images in ``PATH/train/CLASS`` and in ``test`` or ``val`` beside it.

    With both ``test`` and ``val``, ``val`` is the tune split. With ``val`` alone (ImageNet's layout) it is the test
    split, and tune is cut from train.

    Args:
        path: the folder; a relative one is looked for in the current folder, then in ``data_dir``.
    """

    img_size = (224, 224)
    help = "images in train/CLASS and test/CLASS (or val/CLASS)"

    def __init__(self, path: str) -> None:
        self._path = Path(from_home(path))
        self.name = f"folder:{self._path.resolve().name}"

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """List the files; none is decoded.

        Raises:
            UsageError: the folder, a split or a class is missing, or the splits' classes differ.
        """
        root = self._path
        if not root.is_dir() and data_dir is not None:
            root = data_dir / root
        if not root.is_dir():
            raise UsageError(f"folder:{self._path} is not a folder (looked for as {root.resolve()})")
        train, test, validation = (_first(root, names) for names in (TRAIN, TEST, VALIDATION))
        measured = test or validation
        if train is None or measured is None:
            raise UsageError(
                f"{root} needs the folders train and test (or val), each with one folder of images per class; it has "
                f"{', '.join(sorted(path.name for path in root.iterdir() if path.is_dir())) or 'no folders'}"
            )
        classes = tuple(sorted(path.name for path in train.iterdir() if path.is_dir()))
        tune = _read(validation, classes) if test and validation else None
        return Splits(_read(train, classes), _read(measured, classes), classes, tune)


class ImageFiles:
    """Image files with their labels; picklable.

    Args:
        root: the folder that holds them.
        names: their paths below it.
        labels: their class numbers.
    """

    def __init__(self, root: Path, names: list[str], labels: list[int]) -> None:
        self.root, self.names, self.labels = root, names, labels

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> tuple[Image, int]:
        """Decode one file as RGB.

        Raises:
            UsageError: it cannot be decoded.
        """
        from PIL import Image

        path = self.root / self.names[index]
        try:
            with Image.open(path) as image:
                return image.convert("RGB"), self.labels[index]
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"cannot read the image {path} ({error}): mend or remove it") from error


def file_data(root: Path, names: list[str], labels: list[int]) -> FileData:
    """Files below ``root`` with their labels; the fingerprint hashes names and sizes."""
    sizes = np.array([(root / name).stat().st_size for name in names], dtype=np.int64)
    classes = np.array(labels, dtype=np.int64)
    return FileData(ImageFiles(root, names, labels), classes, digest("\n".join(names), sizes, classes))


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _read(split: Path, classes: tuple[str, ...]) -> FileData:
    from timm.data.readers.img_extensions import get_img_extensions

    endings: set[str] = get_img_extensions(as_set=True)  # type: ignore[no-untyped-call]
    number = {name: label for label, name in enumerate(classes)}
    names, labels = [], []
    for folder in sorted(path.name for path in split.iterdir() if path.is_dir()):
        if folder not in number:
            raise UsageError(f"{split} has a class {folder!r} that is not in the train folder")
        for parent, folders, files in os.walk(split / folder, onerror=_unreadable, followlinks=True):
            folders.sort()
            for file in sorted(files):
                if Path(file).suffix.lower() in endings:
                    names.append((Path(parent) / file).relative_to(split).as_posix())
                    labels.append(number[folder])
    if not names:
        raise UsageError(f"{split} holds no images: put them into one folder per class")
    return file_data(split, names, labels)


def _unreadable(error: OSError) -> None:
    raise error
