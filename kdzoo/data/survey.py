"""What is in the images of a dataset: each is decoded once, before anything trains, and the result is remembered."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch.utils.data import DataLoader, Dataset

from kdzoo import foreign
from kdzoo.data.dataset import Labels, Samples
from kdzoo.data.decoding import WORKERS, WORTH_WORKERS, FileSource
from kdzoo.data.duplicates import Duplicates, Keys, find_duplicates, key_of
from kdzoo.data.hashing import digest
from kdzoo.data.load import LoadedData, Split
from kdzoo.data.loaders import ArraySource
from kdzoo.data.rgb import RULES, SHOWN, DamagedImageError, ImageOrigin, damage_text, one_line, origin, to_rgb
from kdzoo.errors import UsageError, raise_if_interrupted
from kdzoo.files import atomic_write, cache_folder

if TYPE_CHECKING:
    from PIL.Image import Image

_FORM = 1
"""Raise it when a survey gets another form or counts in another way."""
_SPLITS: tuple[Split, ...] = ("fit", "tune", "test")
_ORIENTATION = 0x0112
_AT_ONCE = 64

Progress = Callable[[int, int], object]
"""Told how many images are decoded, of how many."""


class Survey(BaseModel, frozen=True):
    """What the images of a dataset are, all splits together.

    Args:
        images: how many there are.
        damaged: how many of them cannot be read.
        lines: the first 20 of these, with the reason.
        kinds: how many there are of each kind; empty for images in memory.
        brightest: the highest value of those of 16-bit grey, of 65,535.
        turned: images with an EXIF orientation, which is not applied.
        smallest: height and width of the image with the fewest pixels; none for images in memory.
        largest: of that with the most.
        duplicates: images with equal pixels: as decoded, or, in memory, as networks see them.
    """

    images: int
    damaged: int = 0
    lines: tuple[str, ...] = ()
    kinds: dict[str, int] = {}
    brightest: int | None = None
    turned: int = 0
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    duplicates: Duplicates = Duplicates()


def has_files(data: LoadedData) -> bool:
    """Whether images are decoded on the way, and may turn out to be damaged."""
    return isinstance(data.source("fit"), FileSource)


def kept_survey(data: LoadedData) -> Survey | None:
    """The survey of these very images, if one was made; nothing is decoded."""
    try:
        return Survey.model_validate_json(_place(data).read_bytes())
    except (OSError, RuntimeError, ValidationError):
        return None


def survey(data: LoadedData, progress: Progress = lambda done, total: None) -> Survey:
    """Look at every image of a dataset, or remember what was found when that was done.

    A set with damaged images is looked at again, since they may have been mended in their places.

    Args:
        data: the dataset.
        progress: see above.
    """
    found = kept_survey(data) if has_files(data) else None
    if found is None or found.damaged:
        found = _look(data, progress)
        if has_files(data):
            with contextlib.suppress(OSError, RuntimeError):  # no home, no space: it is only made again
                _place(data).parent.mkdir(parents=True, exist_ok=True)
                atomic_write(_place(data), found.model_dump_json().encode())
    return found


def refuse_damage(data: LoadedData, progress: Progress = lambda done, total: None) -> Survey:
    """The survey of a dataset whose images can all be read.

    Raises:
        UsageError: some cannot; it names the first 20 and tells how many there are.
    """
    found = survey(data, progress)
    if found.damaged:
        raise UsageError(damage_text(data.ref.name, found.images, found.damaged, found.lines))
    return found


def _place(data: LoadedData) -> Path:
    """Where a survey is kept. The fingerprint stands for the images."""
    key = digest(data.ref.fingerprint, (_FORM, RULES), version("pillow"))[:32]
    return cache_folder() / "surveys" / f"{key}.json"


class _Seen(NamedTuple):
    key: int
    kind: str
    brightest: int | None
    turned: bool
    size: tuple[int, int]


@dataclass
class _Tally:
    """What was seen so far, by the names that a survey has for it."""

    damaged: int = 0
    lines: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    brightest: int | None = None
    turned: int = 0
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None

    def add(self, seen: _Seen | str) -> None:
        if isinstance(seen, str):
            self.damaged += 1
            self.lines = [*self.lines, seen][:SHOWN]
            return
        self.kinds[seen.kind] += 1
        if seen.brightest is not None:
            self.brightest = max(self.brightest or 0, seen.brightest)
        self.turned += seen.turned
        self.smallest = min(self.smallest or seen.size, seen.size, key=_area)
        self.largest = max(self.largest or seen.size, seen.size, key=_area)


def _look(data: LoadedData, progress: Progress) -> Survey:
    labels: dict[str, Labels] = {split: data.labels(split).numpy() for split in _SPLITS}
    keys: dict[str, Keys] = {}
    total = sum(map(len, labels.values()))
    tally, done = _Tally(), 0
    for split in _SPLITS:
        source, count = data.source(split), len(labels[split])
        if isinstance(source, ArraySource):
            keys[split] = np.fromiter(_array_keys(source, count), np.uint64, count)
        elif isinstance(source, FileSource):
            found, whole = np.zeros(count, np.uint64), np.zeros(count, bool)
            for place, seen in enumerate(_each(source.samples)):
                tally.add(seen)
                if isinstance(seen, _Seen):
                    found[place], whole[place] = seen.key, True
                if (done := done + 1) % _AT_ONCE == 0:
                    progress(done, total)
            keys[split], labels[split] = found[whole], labels[split][whole]
    return Survey(images=total, duplicates=find_duplicates(keys, labels), **vars(tally))


def _area(size: tuple[int, int]) -> tuple[int, int, int]:
    return size[0] * size[1], *size


def _array_keys(source: ArraySource, count: int) -> Iterator[int]:
    for ids in torch.split(torch.arange(count), 1024):
        for image in source.take(ids, torch.device("cpu")).numpy():
            yield key_of(image.tobytes(), *image.shape)


def _each(samples: Samples) -> Iterator[_Seen | str]:
    """What was seen of each sample in turn; of a damaged one, a line that says so."""
    loader: DataLoader[Any] = DataLoader(
        _Looking(samples),
        batch_size=_AT_ONCE,
        num_workers=WORKERS if len(samples) >= WORTH_WORKERS else 0,
        collate_fn=list,
        # Without a generator of its own the loader would draw a seed from the global one.
        generator=torch.Generator().manual_seed(0),
    )
    try:
        for batch in loader:
            yield from batch
    except RuntimeError as error:  # the loader's word for a worker that was killed
        raise UsageError(f"the images cannot be looked at: {one_line(str(error))}") from error


class _Looking(Dataset[Any]):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> _Seen | str:
        try:
            with _silence():
                image, _ = self.samples[index]
                rgb = image if origin(image) else to_rgb(image)
        except DamagedImageError as error:
            return error.line
        except UsageError as error:
            return one_line(str(error))
        except BaseException as error:  # a plugin's dataset may fail in any way
            raise_if_interrupted(error)
            return one_line(f"sample {index} ({foreign.sentence(error, foreign.homes_of_samples(self.samples))})")
        was = origin(rgb) or ImageOrigin(image.mode)
        return _Seen(key_of(rgb.tobytes(), *rgb.size), was.kind, was.brightest, _turned(rgb), (rgb.height, rgb.width))


def _turned(image: Image) -> bool:
    with contextlib.suppress(Exception), warnings.catch_warnings():  # metadata may be damaged in any way
        warnings.simplefilter("ignore")
        return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    return False


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing reaches standard error: libtiff tells there, past Python, what the error tells too."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed already
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
