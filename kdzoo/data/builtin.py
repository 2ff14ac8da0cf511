"""The datasets that come with kdzoo by name, as a plugin like any other: digits, the MNIST family, CIFAR, ImageNet."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kdzoo.data.dataset import ArrayData, Dataset, Splits
from kdzoo.data.factory import DEFAULT_DIR, from_torchvision, load_torchvision
from kdzoo.data.folder import FolderDataset
from kdzoo.data.splits import rest, stratified
from kdzoo.errors import OddFileError, UsageError, os_reason
from kdzoo.files import read_plain
from kdzoo.plugins import hookimpl

kdzoo_api = "1.0"

_DIGITS = tuple("0123456789")
_CLOTHES = (
    *("t-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_IMAGES, _LABELS = 0x00000803, 0x00000801  # unsigned bytes with 3 and 1 dimensions
_MOST = 2**36


class Digits(Dataset):
    """Scikit-learn's 1,797 digits of 8 x 8 pixels; a stratified fifth of them is the test split."""

    name = "digits"
    help = "handwritten digits, 1,797 images of 8 x 8 pixels, inside scikit-learn"
    img_size = (16, 16)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Read the images from the installed package; both arguments are unused."""
        from sklearn.datasets import load_digits

        raw = load_digits()
        labels = raw.target.astype(np.int64)
        # The pixels count ink from 0 to 16.
        images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
        everything = ArrayData(images, labels)
        test = stratified(labels, round(len(labels) * 0.2), salt="digits/test", classes=_DIGITS)
        return Splits(everything.subset(rest(len(labels), test)), everything.subset(test), _DIGITS)

    def files(self, data_dir: Path | None) -> list[Path]:
        """None: the version of scikit-learn speaks for it."""
        return []


class IdxDataset(Dataset):
    """A relative of MNIST: 28 x 28 grey images in four IDX files, which reach 32 x 32 by a margin of zeros.

    Args:
        name: its name, also that of its folder.
        help: one line.
        torchvision: the class in torchvision.datasets that downloads it, also the name of that class's folder.
        classes: the classes' names.
        places: folders of the operating system where it may be.
        hint: how else to get it.
    """

    img_size = (32, 32)
    pads: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        help: str,
        torchvision: str,
        classes: tuple[str, ...],
        *,
        places: tuple[Path, ...] = (),
        hint: str = "",
    ) -> None:
        self.name, self.help, self.hint = name, help, hint
        self._torchvision, self._classes, self._places = torchvision, classes, places

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Read the first place that holds the files.

        Raises:
            UsageError: no place holds all four, or one is damaged.
        """
        root = data_dir or DEFAULT_DIR
        places = self._folders(root)
        found = self._find(places)
        if found is None and download:
            load_torchvision(self.name, self._torchvision, root, download=True, train=True)
            found = self._find(places)
        if found is None:
            raise UsageError(
                f"{self.name} was not found in {_list(places)}: put its four IDX files (train-images-idx3-ubyte, "
                "train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte; gzipped or not) into one "
                f"of these folders, name theirs with --data-dir, or add --download{self.hint}"
            )
        return Splits(read_pair(*found[:2]), read_pair(*found[2:]), self._classes)

    def files(self, data_dir: Path | None) -> list[Path]:
        """What :meth:`load` looks for, in order."""
        places = self._folders(data_dir or DEFAULT_DIR)
        return [path for place in places for name in _IDX_FILES for path in _either(place, name)]

    def _folders(self, root: Path) -> list[Path]:
        stems = dict.fromkeys((self.name, self.name.replace("_", "-"), self._torchvision))
        # The sets of this family share their files' names, so a folder of this set's own name goes first.
        return [*(root / stem / sub for stem in stems for sub in ("", "raw")), root, *self._places]

    def _find(self, places: list[Path]) -> list[Path] | None:
        """The four files of the first place that has them; a place that has some of them only is an error."""
        for place in places:
            found = {name: next(filter(Path.is_file, _either(place, name)), None) for name in _IDX_FILES}
            present = [path for path in found.values() if path is not None]
            if len(present) == len(_IDX_FILES):
                return present
            if present:
                missing = [name for name, path in found.items() if path is None]
                raise UsageError(f"{self.name}: {place} lacks {', '.join(missing)}; all four IDX files are needed")
        return None


class Cifar(Dataset):
    """CIFAR-10 or CIFAR-100 in torchvision's folder: 50,000 and 10,000 colour images of 32 x 32 pixels."""

    img_size = (32, 32)

    def __init__(self, name: str, help: str, torchvision: str) -> None:
        self.name, self.help = name, help
        self._torchvision = torchvision

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Read the batches, whose checksums torchvision verifies.

        Raises:
            UsageError: the files are missing or damaged.
        """
        root = data_dir or DEFAULT_DIR
        train = load_torchvision(self.name, self._torchvision, root, download=download, train=True)
        test = load_torchvision(self.name, self._torchvision, root, download=download, train=False)
        return Splits(from_torchvision(train), from_torchvision(test), tuple(train.classes))

    def files(self, data_dir: Path | None) -> list[Path]:
        """The folder in which torchvision looks."""
        return [
            (data_dir or DEFAULT_DIR) / {"CIFAR10": "cifar-10-batches-py"}.get(self._torchvision, "cifar-100-python")
        ]


class ImageNet(Dataset):
    """The 1,000 classes of ILSVRC 2012 in the usual folders, ``imagenet/train/CLASS`` and ``imagenet/val/CLASS``."""

    name = "imagenet"
    help = "1,281,167 photographs of 1,000 classes, in folders imagenet/train and imagenet/val"
    img_size = (224, 224)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """List the files; ``val`` is the test split. It cannot be fetched: its owners ask for a registration."""
        root = data_dir or DEFAULT_DIR
        inner = root / "imagenet"
        if not any((place / "train").is_dir() for place in (inner, root)):
            raise UsageError(
                f"imagenet was not found in {root}: put its folders train and val, with one folder a class, into "
                f"{inner}, or name the folder with --data-dir"
            )
        return self._folder(data_dir).load(None, download=False)

    def files(self, data_dir: Path | None) -> list[Path]:
        """The folder itself."""
        return self._folder(data_dir).files(None)

    def _folder(self, data_dir: Path | None) -> FolderDataset:
        root = data_dir or DEFAULT_DIR
        inner = root / "imagenet"
        return FolderDataset(str((inner if inner.is_dir() else root).absolute()))


@hookimpl
def kdzoo_datasets() -> list[Dataset]:
    """One instance of each; nothing is read."""
    return [*_datasets()]


def _datasets() -> list[Digits | IdxDataset | Cifar | ImageNet]:
    debian = Path("/usr/share/datasets/fashion-mnist")
    return [
        Digits(),
        IdxDataset("mnist", "handwritten digits, 70,000 grey images of 28 x 28 pixels, IDX files", "MNIST", _DIGITS),
        IdxDataset(
            "fashion_mnist",
            "clothes, 70,000 grey images of 28 x 28 pixels, IDX files",
            "FashionMNIST",
            _CLOTHES,
            places=(debian,),
            hint=" (on Debian: apt install dataset-fashion-mnist)",
        ),
        IdxDataset("kmnist", "cursive hiragana, 70,000 grey images of 28 x 28, IDX files", "KMNIST", _HIRAGANA),
        Cifar("cifar10", "10 kinds of things and animals, 60,000 colour images of 32 x 32 pixels", "CIFAR10"),
        Cifar("cifar100", "100 kinds of things and animals, 60,000 colour images of 32 x 32 pixels", "CIFAR100"),
        ImageNet(),
    ]


def files_of(name: str, data_dir: Path | None) -> list[Path]:
    """The files and folders that decide what one of these datasets, or ``folder:PATH``, loads."""
    if name.startswith("folder:"):
        return FolderDataset(name.removeprefix("folder:")).files(data_dir)
    (found,) = (one for one in _datasets() if one.name == name.rpartition(":")[2])
    return found.files(data_dir)


_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _either(place: Path, name: str) -> tuple[Path, Path]:
    return place / name, place / f"{name}.gz"


def _list(places: list[Path]) -> str:
    return ", ".join(str(place) for place in places)


def read_pair(images: Path, labels: Path) -> ArrayData:
    """Read a file of images and the file of their labels.

    Raises:
        UsageError: a file is unreadable, damaged or of another kind, or the two do not belong together.
    """
    pixels, classes = _read(images, _IMAGES), _read(labels, _LABELS)
    if len(pixels) != len(classes):
        raise UsageError(f"{images} holds {len(pixels)} images but {labels} holds {len(classes)} labels")
    return ArrayData(pixels[:, None], classes.astype(np.int64))


def _read(path: Path, magic: int) -> NDArray[np.uint8]:
    data = _bytes(path)
    kind = {_IMAGES: "images", _LABELS: "labels"}[magic]
    dims = magic & 0xFF
    header = 4 * (1 + dims)
    if len(data) < header or int.from_bytes(data[:4], "big") != magic:
        raise UsageError(f"{path} is not an IDX file of {kind}: it must start with the bytes {magic:08x}")
    shape = [int.from_bytes(data[4 * d : 4 * d + 4], "big") for d in range(1, dims + 1)]
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise UsageError(f"{path} is damaged: its header announces {expected} bytes and it has {len(data)}")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        data = read_plain(path, _MOST)
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} is damaged ({error}); get it again") from error
    except OddFileError as error:
        raise UsageError(f"{path} {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {os_reason(error)}") from error
