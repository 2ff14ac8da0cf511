"""The names of timm's dataset factory: ``torch/...``, ``hfds/...``, ``hfids/...``, ``wds/...``, ``tfds/...``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdzoo.data.contents import TRUSTED, rows_digest
from kdzoo.data.dataset import ArrayData, Dataset, FileData, Splits, escape
from kdzoo.data.folder import READ, TEST, TRAIN, VALIDATION, file_data
from kdzoo.data.hashing import digest
from kdzoo.data.hub_columns import Columns, class_numbers
from kdzoo.data.rgb import DamagedImageError, damage_text, one_line, read_rgb, to_rgb
from kdzoo.errors import UsageError, unknown
from kdzoo.files import from_home

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


PREFIXES = ("torch", "hfds", "hfids", "wds", "tfds")
MOST_IN_MEMORY = 8 * 2**30
"""Sets without random access are decoded into memory, up to this size."""
_PACKAGES = {
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "wds": ("webdataset", "webdataset"),
    "tfds": ("tensorflow_datasets", "tensorflow tensorflow-datasets"),
}
_FOLDERS = ("image_folder", "folder")
_TORCH = (
    *("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist"),
    *("inaturalist", "inat", "places365", "imagenet", *_FOLDERS),
)


DEFAULT_DIR = Path("data")
"""Where datasets are looked for when no folder is given."""


class TimmDataset(Dataset):
    """Any dataset of timm's factory.

    Sets with random access are decoded on the way, except torchvision's arrays, which stay in memory. Sets that can
    only be read in order (``wds/``, ``tfds/``, ``hfids/``) are read once, brought to ``img_size`` by timm's
    evaluation transform and kept in memory as uint8.

    With a ``test`` and a validation split, the latter is the tune split; with a validation split alone, or a test
    split without labels, validation is the test split.

    Args:
        name: the factory's name, with its prefix.
        img_size: height and width of the images, if not 224 x 224.

    Raises:
        UsageError: an unknown prefix or torchvision name, or a package that is not installed.
    """

    help = "a name of timm's dataset factory"

    def __init__(self, name: str, img_size: tuple[int, int] | None = None) -> None:
        bare, self._columns = Columns.parse(name)
        prefix, _, rest = bare.partition("/")
        self._prefix, self._rest = prefix.lower(), from_home(rest)
        if self._prefix not in PREFIXES:
            raise UsageError(unknown("kind of dataset", prefix, PREFIXES))
        if self._prefix == "torch" and rest.lower() not in _TORCH:
            raise UsageError(unknown("torchvision dataset", rest, _TORCH))
        module, packages = _PACKAGES.get(self._prefix, ("torchvision", "torchvision"))
        if find_spec(module) is None:
            raise UsageError(f"{name} needs a package that is not installed: pip install {packages}")
        # A local path must not enter the names of cells.
        place = Path(self._rest)
        self.name = escape(f"{self._prefix}/{place.name if place.is_absolute() else self._rest}{self._columns}")
        self.img_size = img_size or (224, 224)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Read train and test, and the validation split if there are both.

        Raises:
            UsageError: the dataset or one of its splits is missing, or it does not fit into memory.
        """
        root = data_dir or DEFAULT_DIR
        names = self._split_names(root)
        train, test, validation = (_first(names, wanted) for wanted in (TRAIN, TEST, VALIDATION))
        if train is None or (test or validation) is None:
            raise UsageError(f"{self.name} needs the splits train and test (or validation); it has {', '.join(names)}")
        opened = [self._open(root, split, download) for split in (test, validation) if split is not None]
        labelled = [(data, classes) for data, classes in opened if data.labels.min(initial=0) >= 0]
        if not labelled:
            raise UsageError(f"{self.name} has no labels in the splits that could be the test split")
        data, classes = self._open(root, train, download)
        test_data, test_classes = labelled[0]
        tune = labelled[1][0] if len(labelled) > 1 else None
        if classes is None:
            highest = max(int(part.labels.max(initial=0)) for part in (data, test_data))
            classes = tuple(str(label) for label in range(highest + 1))
        elif test_classes not in (None, classes):
            raise UsageError(f"{self.name}: the classes of the test split are not those of the train split")
        return Splits(data, test_data, classes, tune)

    def _split_names(self, root: Path) -> list[str]:
        if self._prefix == "torch":
            if self._rest.lower() not in _FOLDERS:
                return ["train", "validation"]
            return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        if self._prefix == "wds":
            return _webdataset_splits(root)
        if self._prefix == "tfds":
            return list(import_module("tensorflow_datasets").builder(self._rest, data_dir=root).info.splits)
        return list(import_module("datasets").get_dataset_split_names(self._rest))

    def _open(self, root: Path, split: str, download: bool) -> tuple[ArrayData | FileData, tuple[str, ...] | None]:
        from timm.data.dataset import IterableImageDataset
        from timm.data.dataset_factory import create_dataset

        try:
            dataset = create_dataset(
                f"{self._prefix}/{self._rest}",
                root=str(root),
                split=split,
                is_training=False,
                download=download,
                # Sets read in order are decoded by timm; without a mode it leaves them as they are.
                input_img_mode="" if self._prefix in ("wds", "hfids") else "RGB",
                **self._columns.arguments,
            )
        except NotImplementedError as error:
            # Arrow's word for a column that cannot be read as images.
            raise UsageError(f"{self.name}: its images are not in the column that was chosen ({error})") from error
        except RuntimeError as error:
            # torchvision's and webdataset's word for missing data.
            raise UsageError(
                f"{self.name} could not be opened in {root} (split {split}: {error}): name the folder that holds it "
                "with --data-dir, or add --download"
            ) from error
        self._columns.check(self.name, getattr(dataset, "reader", None))
        classes = _classes(dataset)
        if isinstance(dataset, IterableImageDataset):
            return self._decoded(dataset, split), classes
        if isinstance(getattr(dataset, "data", None), np.ndarray) or hasattr(getattr(dataset, "data", None), "numpy"):
            return from_torchvision(dataset), classes
        if (files := _files(dataset)) is not None:
            names = [Path(file).relative_to(dataset.root).as_posix() for file, _ in files]
            labels = class_numbers((label for _, label in files), self.name)
            return file_data(Path(dataset.root), names, labels.tolist()), classes
        labels = class_numbers(dataset.reader.iter_targets(), self.name)
        content = rows_digest(dataset.reader.dataset, dataset.reader.image_key)
        return FileData(_Decoding(dataset), labels, digest(READ, content, labels), TRUSTED), classes

    def _decoded(self, dataset: Any, split: str) -> ArrayData:
        from kdzoo.data.decoding import CROP, file_transform

        transform: Callable[[Image], Tensor] = file_transform(self.img_size, None)
        images: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
        labels: list[Any] = []
        damaged: list[str] = []
        size = 3 * self.img_size[0] * self.img_size[1]
        too_large = UsageError(
            f"{self.name} does not fit into memory: its split {split} needs more than "
            f"{MOST_IN_MEMORY / 2**30:.0f} GiB at {self.img_size[0]} x {self.img_size[1]} pixels; choose a smaller "
            "--img-size, or a form with random access (folder:, hfds/)"
        )
        if len(dataset) * size > MOST_IN_MEMORY:
            raise too_large
        for image, label in dataset:
            if (len(images) + 1) * size > MOST_IN_MEMORY:
                raise too_large
            try:
                images.append(transform(to_rgb(image)).numpy())
            except (UsageError, OSError) as error:
                damaged.append(f"sample {len(images) + len(damaged)} ({one_line(str(error))})")
                continue
            labels.append(label)
        if damaged:
            total = len(images) + len(damaged)
            raise UsageError(damage_text(f"the split {split} of {self.name}", total, len(damaged), damaged))
        if len(dataset) and len(images) != len(dataset):
            # timm's reader logs damaged samples and goes on.
            raise UsageError(f"{self.name}: {len(images)} of the {len(dataset)} samples of split {split} can be read")
        stacked = np.stack(images) if images else np.zeros((0, 3, *self.img_size), dtype=np.uint8)
        return ArrayData(stacked, class_numbers(labels, self.name), CROP)


class _Decoding:
    """Samples of a timm dataset with random access, as RGB."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> tuple[Image, int]:
        name = f"of sample {index}"
        try:
            # timm's dataset would put the next sample in the place of a damaged one.
            file, label = self.dataset.reader[index]
        except Exception as error:  # a reader may fail in any way
            raise DamagedImageError(name, one_line(f"{type(error).__name__}: {error}")) from error
        return read_rgb(file, name), int(label)


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _webdataset_splits(root: Path) -> list[str]:
    for path in (root / "_info.json", root / "info.json"):
        if path.is_file():
            try:
                return list(json.loads(path.read_text(encoding="utf-8"))["splits"])
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{path} does not list the splits as webdataset's info files do ({error})") from error
    raise UsageError(f"wds/ needs --data-dir with the shards and their _info.json; there is none in {root}")


def _files(dataset: Any) -> list[tuple[str, Any]] | None:
    """The files of one of torchvision's datasets, with their labels; None for any other dataset."""
    for attribute in ("samples", "imgs"):
        if isinstance(files := getattr(dataset, attribute, None), list):
            return files
    if isinstance(files := getattr(dataset, "index", None), list):
        # INaturalist lists them as the file system does, in no order.
        return [(f"{dataset.root}/{dataset.all_categories[kind]}/{file}", kind) for kind, file in sorted(files)]
    return None


def _classes(dataset: Any) -> tuple[str, ...] | None:
    numbers: dict[Any, int] | None = getattr(getattr(dataset, "reader", dataset), "class_to_idx", None)
    if numbers:
        return tuple(str(name) for name in sorted(numbers, key=lambda name: numbers[name]))
    return None


def from_torchvision(dataset: Any) -> ArrayData:
    """The images that a torchvision dataset holds in ``data`` (N x H x W or N x H x W x C) and their ``targets``."""
    images = np.asarray(dataset.data, dtype=np.uint8)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    targets = np.asarray(dataset.targets, dtype=np.int64)
    # QMNIST tells more of each digit than its class, which comes first.
    labels = targets if targets.ndim == 1 else np.ascontiguousarray(targets[:, 0])
    return ArrayData(np.ascontiguousarray(images), labels)


def load_torchvision(name: str, class_name: str, root: Path, *, download: bool, train: bool) -> Any:
    """A dataset of torchvision's, by the name of its class.

    Raises:
        UsageError: it is missing, damaged, or cannot be downloaded.
    """
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, class_name)
    try:
        return make(root, train=train, download=download)
    except (RuntimeError, OSError) as error:
        # torchvision's word for missing and for damaged files, and for a server that does not answer.
        if download:
            raise UsageError(f"{name} could not be downloaded into {root}: {_line(error)}") from error
        raise UsageError(
            f"{name} was not found in {root}, or is damaged: name the folder that holds torchvision's files with "
            "--data-dir, or add --download to fetch them"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
