"""``folder:PATH``: a folder with one folder per split, and in each one folder of images per class."""

from __future__ import annotations

import re
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdzoo.data.contents import TRUSTED, file_digests
from kdzoo.data.dataset import Dataset, FileData, Splits, escape
from kdzoo.data.hashing import digest
from kdzoo.data.listing import Listing
from kdzoo.data.rgb import RULES, read_rgb
from kdzoo.errors import UsageError
from kdzoo.files import from_home
from kdzoo.foreign import some

if TYPE_CHECKING:
    from PIL.Image import Image

TRAIN, TEST = ("train", "training"), ("test",)
VALIDATION = ("val", "valid", "validation", "eval", "evaluation")
READ = f"contents, read by rules {RULES}"
"""In the fingerprints of files: what is hashed of them, and how they become RGB."""


class FolderDataset(Dataset):
    """Images in ``PATH/train/CLASS`` and in ``test`` or ``val`` beside it.

    With both ``test`` and ``val``, ``val`` is the tune split. With ``val`` alone (ImageNet's layout), or beside a
    ``test`` without labels, it is the test split, and tune is cut from train.

    The classes are the folders right in ``train``, numbered in timm's order, see :func:`natural_key`.

    Args:
        path: the folder; a relative one is looked for in the current folder, then in ``data_dir``.
    """

    img_size = (224, 224)
    help = "images in train/CLASS and test/CLASS (or val/CLASS)"

    def __init__(self, path: str) -> None:
        self._path = Path(from_home(path))
        self.name = escape(f"folder:{self._path.resolve().name}")

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """List the files, and read those whose hash is not known yet; none is decoded.

        Raises:
            UsageError: the folder, a split or a class is missing, the splits' classes differ, or a link is broken.
        """
        root = self._root(data_dir)
        if not root.is_dir():
            raise UsageError(f"folder:{self._path} is not a folder (looked for as {root.resolve()})")
        notes: list[str] = []
        train, test, validation = (_find(root, names, notes) for names in (TRAIN, TEST, VALIDATION))
        if train is None or (test or validation) is None:
            listing = Listing(root)
            has = some(listing.folders(), 20) or "no folders"
            raise UsageError(
                f"{root} needs the folders train and test (or val), each with one folder of images per class; it has "
                f"{has}{f', and broken links: {some(listing.broken)}' if listing.broken else ''}"
            )
        classes = _classes(train, notes)
        if test and _is_unlabelled(test, classes):
            if validation is None:
                raise UsageError(f"{test} has no class folders, so it can measure nothing: add them, or a folder val")
            notes.append(f"{test.name} has no class folders and is not read; {validation.name} is the test split")
            test = None
        measured, tune = (test, validation) if test else (validation, None)
        assert measured
        return Splits(
            _read(train, classes, notes, whole=True),
            _read(measured, classes, notes),
            classes,
            _read(tune, classes, notes) if tune else None,
            notes=tuple(notes),
        )

    def files(self, data_dir: Path | None) -> list[Path]:
        """The folder itself."""
        return [self._root(data_dir)]

    def _root(self, data_dir: Path | None) -> Path:
        return data_dir / self._path if data_dir is not None and not self._path.is_dir() else self._path


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
        """Decode one file by :func:`kdzoo.data.rgb.to_rgb`.

        Raises:
            DamagedImageError: it cannot be decoded.
        """
        path = self.root / self.names[index]
        return read_rgb(path, str(path)), self.labels[index]


def file_data(root: Path, names: list[str], labels: list[int]) -> FileData:
    """Files below ``root`` with their labels; the fingerprint hashes names, contents, labels and the rules
    by which images become RGB."""
    classes = np.array(labels, dtype=np.int64)
    fingerprint = digest(READ, "\n".join(names), file_digests(root, names), classes)
    return FileData(ImageFiles(root, names, labels), classes, fingerprint, TRUSTED)


def natural_key(name: str) -> list[Any]:
    """What timm sorts class folders by: the name without case, its numbers as numbers.

    As timm.utils.misc.natural_key, which fails on digits that are no decimal ones, such as a superscript.
    """
    return [int(piece) if place % 2 else piece for place, piece in enumerate(re.split(r"(\d+)", name.lower()))]


def _find(root: Path, wanted: tuple[str, ...], notes: list[str]) -> Path | None:
    """The folder of a split by the first of its names that there is, in whatever case."""
    folders = Listing(root).folders()
    found = [[folder for folder in folders if folder.lower() == name] for name in wanted]
    same, *others = [group for group in found if group] or [[]]
    if not same:
        return None
    if len(same) > 1:
        raise UsageError(
            f"{root} has {' and '.join(same)}, which differ only in upper and lower case: rename or remove one of them"
        )
    if others:
        notes.append(f"{same[0]} is read, and {some([name for group in others for name in group])} beside it is not")
    return root / same[0]


def _classes(train: Path, notes: list[str]) -> tuple[str, ...]:
    """The class folders by timm's order; what timm leaves to chance is decided by code point."""
    classes = sorted(Listing(train).folders(), key=lambda name: (natural_key(name), name))
    twins = [pair for pair in pairwise(classes) if natural_key(pair[0]) == natural_key(pair[1])]
    if twins:
        names = some(list(dict.fromkeys(chain(*twins))))
        notes.append(f"timm does not define the order of the classes {names}; kdzoo uses this order")
    return tuple(classes)


def _is_unlabelled(test: Path, classes: tuple[str, ...]) -> bool:
    """Whether images lie right in the folder, or all in one folder that is no class."""
    listing = Listing(test)
    folders = listing.folders()
    if not folders:
        return bool(listing.direct())
    return len(folders) == 1 and folders[0].lower() not in map(str.lower, classes) and bool(listing.images(folders[0]))


def _read(split: Path, classes: tuple[str, ...], notes: list[str], *, whole: bool = False) -> FileData:
    """One split's images, class by class; ``whole`` where each class needs one."""
    listing = Listing(split)
    found = {folder: listing.images(folder) for folder in listing.folders()}
    if listing.broken:
        raise UsageError(f"{split} has broken links, fix or remove them: {some(listing.broken)}")
    known = frozenset(classes)
    if strangers := [folder for folder, images in found.items() if images and folder not in known]:
        plural = "classes" if len(strangers) > 1 else "a class"
        raise UsageError(
            f"{split} has {plural} {some(strangers)} that {'are' if len(strangers) > 1 else 'is'} not in the train "
            f"folder, which has {some(classes)}"
        )
    if not any(found.values()):
        raise UsageError(f"{split} holds no images: put them into one folder per class")
    if empty := [name for name in classes if not found.get(name)]:
        if whole:
            raise UsageError(f"{split} has no images of {some(empty)}: put some there, or remove the empty folders")
        notes.append(f"{split.name} has no images of {some(empty)}")
    if direct := listing.direct():
        notes.append(f"{split.name} has images in no class folder, which are not read: {len(direct):,}")
    if listing.others:
        endings = ", ".join(f"{ending} ({count:,})" for ending, count in listing.others.most_common(8))
        notes.append(f"{split.name} has files that are not read: {endings}")
    if listing.loops:
        notes.append(f"{split.name} has links to folders above them, which are not followed: {some(listing.loops)}")
    if whole and (deep := [name for name in classes if any(file.count("/") > 1 for file in found[name])]):
        notes.append(f"the folders inside {some(deep)} belong to that class; timm would make classes of them")
    names = [file for name in classes for file in found.get(name, ())]
    return file_data(split, names, [label for label, name in enumerate(classes) for _ in found.get(name, ())])
