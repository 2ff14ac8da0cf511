"""The contract between kdzoo and a dataset: its name, what it returns, and the class that a plugin subclasses."""

from __future__ import annotations

import re
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kdzoo.data.hashing import digest
from kdzoo.errors import UsageError
from kdzoo.measures import Measure, Scores, declaration_fault

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


Images: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.int64]


_PLAIN = r"(?:[^\[\]\\]|\\[\[\],]|\\(?![\[\],]))+"
_SUBSET = re.compile(rf"(?P<name>{_PLAIN})(?:\[:(?P<count>[0-9]{{1,12}})\])?")


class Samples(Protocol):
    """Images that are decoded one at a time. It is pickled to the loader's workers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Image, int]:
        """The image at a place, of any mode that ``docs/data.md`` lists, and its label."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayData:
    """A small set in memory.

    Args:
        images: N x C x H x W, uint8, with 1 or 3 channels.
        labels: N, int64, from 0.
        crop: share of the originals' height and width, around the middle, that these images show.

    Raises:
        UsageError: another type or shape.
    """

    images: Images
    labels: Labels
    crop: float = 1.0
    covers: ClassVar[str] = "of every pixel and label"

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[1] not in (1, 3):
            raise UsageError(
                "images must be uint8 of shape N x C x H x W with C = 1 or 3, "
                f"not {self.images.dtype} of shape {_by(shape)}"
            )
        _check_labels(self.labels, len(self.images))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """Hash of the shape and of every byte."""
        return digest(self.images.shape, self.images, self.labels)

    def subset(self, index: NDArray[np.int64]) -> ArrayData:
        """The samples at these places, copied."""
        return ArrayData(self.images[index], self.labels[index], self.crop)


@dataclass(frozen=True, eq=False)
class FileData:
    """A large set that is decoded on the way.

    Args:
        samples: map-style: ``len(samples)``, and ``samples[i]`` gives (image, label). A sample that cannot be read
            raises UsageError naming the file.
        labels: N, int64, from 0, known without decoding.
        fingerprint: hash of the content: sizes do not tell files apart that were exchanged. Never of a path.
        covers: what the fingerprint covers and what it trusts, as in ``of the files' contents``; for people.
    """

    samples: Samples
    labels: Labels
    fingerprint: str
    covers: str = "of what its plugin hashes"

    def __post_init__(self) -> None:
        _check_labels(self.labels, len(self.samples))

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: NDArray[np.int64]) -> FileData:
        """The samples at these places, still undecoded."""
        chosen = digest(self.fingerprint, index)
        return FileData(_Subset(self.samples, index), self.labels[index], chosen, self.covers)


@dataclass(frozen=True, eq=False)
class Splits:
    """What :meth:`Dataset.load` returns.

    Args:
        train: samples that train; kdzoo cuts the tune split from them, unless ``tune`` is given.
        test: samples that measure.
        classes: the classes' names in the order of the labels.
        tune: samples that select, where the dataset brings a validation split of its own beside test.
        notes: what people should know of how the data were read, one sentence each: what was left out, for example.

    Raises:
        UsageError: splits of different kinds or shapes, an empty one, or labels that name no class.
    """

    train: ArrayData | FileData
    test: ArrayData | FileData
    classes: tuple[str, ...]
    tune: ArrayData | FileData | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UsageError(f"a dataset needs at least 2 classes, this one has {len(self.classes)}")
        for name, data in self.parts().items():
            if not len(data):
                raise UsageError(f"the {name} split is empty")
            if data.labels.min() < 0 or data.labels.max() >= len(self.classes):
                raise UsageError(
                    f"the {name} split has labels from {data.labels.min()} to {data.labels.max()}, "
                    f"but the {len(self.classes)} classes are numbered from 0"
                )
            if type(data) is not type(self.train):
                raise UsageError(f"train is {type(self.train).__name__} but {name} is {type(data).__name__}")
            if isinstance(data, ArrayData) and isinstance(self.train, ArrayData):
                ours, theirs = data.images.shape[1:], self.train.images.shape[1:]
                if ours != theirs:
                    raise UsageError(f"images of {name} are {_by(ours)}, images of train are {_by(theirs)} (C x H x W)")

    def parts(self) -> dict[str, ArrayData | FileData]:
        """The splits by name, those that there are."""
        parts = {"train": self.train, "test": self.test}
        return parts if self.tune is None else parts | {"tune": self.tune}

    @property
    def fingerprint(self) -> str:
        """Hash of the samples and labels of all splits, in order; 16 hex digits."""
        return digest(*(f"{name}:{data.fingerprint}" for name, data in self.parts().items()))[:16]


class Dataset(ABC):
    """A named dataset. Subclass it and return instances from the hook ``kdzoo_datasets``.

    Class (or instance) attributes:
        name: what ``--dataset`` calls it.
        help: one line for lists.
        img_size: height and width at which networks see the images when nobody asks for another size, pixels.
        pads: whether smaller images in memory reach ``img_size`` by a zero margin. Any other size, or False: they
            are interpolated.
        measures: what :meth:`score` gives beside the measures of images; a main one among them is what
            tuning selects and boards rank by.
    """

    name: str
    help: str = ""
    img_size: tuple[int, int]
    pads: ClassVar[bool] = False
    measures: tuple[Measure, ...] = ()

    @abstractmethod
    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Read the dataset.

        Args:
            data_dir: the folder that holds datasets, if the person gave one; it exists.
            download: whether to fetch what is missing.

        Raises:
            UsageError: it is missing or damaged; the sentence says where it was looked for and how to get it.
        """

    def score(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """The values of :attr:`measures`, by name, of a network on a whole split.

        Args:
            logits: N x classes, float64, on the CPU.
            labels: N, int64.
        """
        raise NotImplementedError(f"{type(self).__name__} has no measures of its own")


class _Subset:
    def __init__(self, samples: Samples, index: NDArray[np.int64]) -> None:
        self.samples, self.index = samples, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int, /) -> tuple[Image, int]:
        return self.samples[int(self.index[index])]


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _check_labels(labels: NDArray[Any], count: int) -> None:
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise UsageError(
            f"labels of {count} images must be int64 of shape {count}, not {labels.dtype} of shape {_by(labels.shape)}"
        )


def parse_subset(name: str) -> tuple[str, int | None]:
    r"""Take ``fashion_mnist[:5000]`` apart; the count is None where there is no subset.

    A backslash before a bracket or a comma makes it a part of the name: ``folder:pets\[1\][:5000]``.

    Raises:
        UsageError: the bracket has another form.
    """
    match = _SUBSET.fullmatch(name)
    if name and (match is None or (match["count"] and int(match["count"]) == 0)):
        raise UsageError(
            f"dataset {reprlib.repr(name)}: write a subset of train as name[:count], for example fashion_mnist[:5000], "
            r"and a bracket that is part of the name as \[ or \]"
        )
    if match is None:
        return name, None
    return unescape(match["name"]), int(match["count"]) if match["count"] else None


def escape(name: str) -> str:
    """A name with its brackets written so that :func:`parse_subset` takes them for what they are."""
    return re.sub(r"([\[\]])", r"\\\1", name)


def unescape(name: str) -> str:
    """A name without the backslashes before its brackets and commas."""
    return re.sub(r"\\([\[\],])", r"\1", name)


def checked_score(dataset: Dataset) -> Callable[[Tensor, Tensor], Scores]:
    """What scores a split by the measures of a dataset.

    Raises:
        UsageError: the declarations cannot be, or nothing gives their values.
    """
    measures = {measure.name: measure for measure in dataset.measures if not measure.volatile}
    if fault := declaration_fault(dataset.measures):
        raise UsageError(f"the dataset {dataset.name}: {fault}")
    if type(dataset).score is Dataset.score:
        raise UsageError(f"the dataset {dataset.name} declares measures, and has no method score to give them")

    def score(logits: Tensor, labels: Tensor) -> Scores:
        found = dataset.score(logits, labels)
        if found.keys() != measures.keys():
            names, given = ", ".join(sorted(measures)), ", ".join(sorted(map(str, found))) or "nothing"
            raise UsageError(f"the dataset {dataset.name} declares the measures {names}, and its score gives {given}")
        return {name: float(value) for name, value in found.items()}

    return score
