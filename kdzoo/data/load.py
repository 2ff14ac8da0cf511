"""From a dataset's name to loaded data: splits, identity, statistics and batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kdzoo import foreign
from kdzoo.data.dataset import ArrayData, Dataset, FileData, Splits, checked_score, parse_subset
from kdzoo.data.decoding import CROP, INTERPOLATION, FileSource
from kdzoo.data.factory import PREFIXES, TimmDataset
from kdzoo.data.folder import FolderDataset
from kdzoo.data.hashing import digest, permutation, seed_from
from kdzoo.data.loaders import ArraySource, ImageSource, Request, Resizing, channel_statistics
from kdzoo.data.splits import class_sizes, cut_tune, stratified
from kdzoo.errors import UsageError, raise_if_interrupted
from kdzoo.measures import Measure, Scores
from kdzoo.outputs import Batch
from kdzoo.process_state import ProcessState
from kdzoo.recipe import Augment, Recipe
from kdzoo.refs import DataRef

Split = Literal["fit", "tune", "test"]


class LoadedData:
    """A dataset that is ready to train and measure on.

    Attributes:
        ref: what cells know of it.
        classes: the classes' names in the order of the labels.
        mean, std: per channel, of fit at ``img_size``, in the scale from 0 to 1; ImageNet's for files.
        notes: what people should know of how the data were read.
        covers: what the fingerprint covers and what it trusts.
        shown: how the originals become the images that networks see.
        measures: what the dataset declares beside the measures of images.
        score: gives them; None where there are none.
        changed: what loading it changed of the process, which was put back, in a sentence; empty where nothing was.

    Args:
        ref: see above.
        classes: see above.
        sources: the images of the three splits.
        labels: N int64 of each split.
        mean: see above.
        std: see above.
        notes: see above.
        covers: see above.
        shown: see above.
    """

    def __init__(
        self,
        *,
        ref: DataRef,
        classes: tuple[str, ...],
        sources: dict[Split, ImageSource],
        labels: dict[Split, Tensor],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        notes: tuple[str, ...] = (),
        covers: str = "",
        shown: Resizing,
    ) -> None:
        self.ref, self.classes, self.mean, self.std, self.shown = ref, classes, mean, std, shown
        self.notes, self.covers = notes, covers
        self._sources, self._labels = sources, labels
        self.changed = ""
        self.measures: tuple[Measure, ...] = ()
        self.score: Callable[[Tensor, Tensor], Scores] | None = None

    def labels(self, split: Split) -> Tensor:
        """The labels of a split in its order: N, int64, on the CPU."""
        return self._labels[split]

    def source(self, split: Split) -> ImageSource:
        """What makes the batches of a split."""
        return self._sources[split]

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise UsageError, before anything trains, if the recipe's augmentation does not fit these data."""
        self._sources["fit"].check(recipe.augment)

    def steps_per_epoch(self, recipe: Recipe) -> int:
        """How many batches :meth:`train_batches` gives."""
        return max(1, self.ref.fit // recipe.batch_size)

    def train_batches(
        self,
        recipe: Recipe,
        *,
        view: int,
        order_seed: int,
        device: torch.device | str,
        views: int = 1,
        epoch: int | None = None,
    ) -> Iterator[Batch]:
        """One epoch over fit, shuffled and augmented.

        It depends on nothing but the arguments: an epoch can be made again alone. The last, partial batch is dropped
        (unless it is the only one), because BatchNorm cannot train on one sample and a small batch is a noisier step.

        Args:
            recipe: gives the batch size B and the augmentation.
            view: number of the epoch's augmented version.
            order_seed: with ``epoch``, decides the order.
            device: where the batches shall be.
            views: versions of each sample in a batch. Version k has the view number ``views * view + k``, and all of
                a batch's tensors hold the versions one after another: rows B..2B-1 are the second.
            epoch: number of the epoch; by default that of the view, as it is where each epoch shows a new one.

        Yields:
            Batches with float32 inputs in [0, 1], not normalised; ``index`` is the place within fit.
        """
        order = permutation(self.ref.fit, seed_from("order", order_seed, view if epoch is None else epoch))
        size = min(recipe.batch_size, self.ref.fit)
        starts = range(0, self.ref.fit - size + 1, size)
        numbers = [views * view + number for number in range(views)]
        requests = [
            Request(np.tile(order[start : start + size], views), np.repeat(np.array(numbers, np.int64), size))
            for start in starts
        ]
        return self._batches("fit", requests, recipe.augment, view, torch.device(device))

    def eval_batches(
        self,
        split: Split,
        batch_size: int,
        device: torch.device | str,
        *,
        augment: Augment | None = None,
        view: int = 0,
        only: Collection[int] | None = None,
    ) -> Iterator[Batch]:
        """A split in its own order, nothing dropped.

        Args:
            split: which.
            batch_size: the last batch may be smaller.
            device: where the batches shall be.
            augment: how the images are augmented, for signals that are kept of a view; None leaves them as they are.
            view: the view's number, with ``augment``.
            only: numbers of the batches that are wanted; by default all.
        """
        count = len(self._labels[split])
        requests = [
            Request(ids, np.full(len(ids), view, dtype=np.int64))
            for n, ids in enumerate(np.split(np.arange(count, dtype=np.int64), range(batch_size, count, batch_size)))
            if only is None or n in only
        ]
        return self._batches(split, requests, augment, view, torch.device(device))

    def images(self, split: Split, ids: Tensor, augment: Augment | None = None, *, view: int = 0) -> Tensor:
        """Some images of a split, on the CPU.

        Args:
            split: which.
            ids: B places within the split, int64.
            augment: how they are augmented; None leaves them as they are.
            view: the view's number, with ``augment``.

        Returns:
            B x C x H x W, float32 in [0, 1], not normalised.
        """
        request = Request(ids.numpy(), np.full(len(ids), view, dtype=np.int64))
        return next(self._sources[split].batches([request], augment, self.mean, torch.device("cpu")))

    def _batches(
        self, split: Split, requests: list[Request], spec: Augment | None, view: int, device: torch.device
    ) -> Iterator[Batch]:
        made = self._sources[split].batches(requests, spec, self.mean, device)
        for request, inputs in zip(requests, made, strict=True):
            index = torch.from_numpy(request.ids)
            labels = self._labels[split][index].to(device)
            yield Batch(inputs=inputs, labels=labels, targets=labels, index=index.to(device), view=view)


def open_data(
    name: str,
    dataset_lookup: Callable[[str], Dataset],
    *,
    data_dir: Path | None = None,
    download: bool = False,
    img_size: tuple[int, int] | None = None,
) -> LoadedData:
    """Load a dataset by name.

    Args:
        name: a registered dataset, ``folder:PATH``, or a name of timm's factory (``torch/...``, ``hfds/...``,
            ``hfids/...``, ``wds/...``, ``tfds/...``); ``[:N]`` behind it takes a stratified subset of train.
        dataset_lookup: finds a registered dataset, or raises UsageError.
        data_dir: the folder that holds datasets.
        download: whether to fetch what is missing.
        img_size: height and width at which networks see the images; the dataset's own by default.

    Raises:
        UsageError: the name is malformed or unknown, or the data are missing, unreadable or damaged.
    """
    base, count = parse_subset(name)
    if data_dir is not None and not data_dir.is_dir():
        if not download or data_dir.exists():
            raise UsageError(f"the data folder {data_dir} does not exist, or is not a folder")
        data_dir.mkdir(parents=True)
    dataset = _dataset(base, dataset_lookup, img_size)
    shown = dataset.name if count is None else f"{dataset.name}[:{count}]"
    size = img_size or dataset.img_size
    state = ProcessState.now()
    try:
        splits = dataset.load(data_dir, download)
        if count is not None:
            splits = _first_of_train(splits, count)
        loaded = _loaded(shown, splits, size, pads=dataset.pads and size == dataset.img_size)
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {foreign.line(foreign.text_of(error))}") from error
    except UsageError:
        raise
    except BaseException as error:  # a plugin's dataset may fail in any way
        raise_if_interrupted(error)
        raise UsageError(f"{shown} cannot be loaded: {foreign.sentence(error, foreign.homes_of(dataset))}") from error
    finally:
        state.put_back()
    loaded.changed = f"{shown} {state.summary()}" if state.changed else ""
    if dataset.measures:
        loaded.measures, loaded.score = tuple(dataset.measures), checked_score(dataset)
    return loaded


def _dataset(base: str, lookup: Callable[[str], Dataset], img_size: tuple[int, int] | None) -> Dataset:
    if base.startswith("folder:"):
        return FolderDataset(base.removeprefix("folder:"))
    if base.partition("/")[0].lower() in PREFIXES and "/" in base:
        return TimmDataset(base, img_size)
    return lookup(base)


def _first_of_train(splits: Splits, count: int) -> Splits:
    # Each class needs a sample to train and, where tune is cut from train, another one to select.
    least = 1 if splits.tune is not None else 2
    chosen = stratified(splits.train.labels, count, salt="subset", classes=splits.classes, least=least)
    return replace(splits, train=splits.train.subset(chosen))


def _loaded(name: str, splits: Splits, img_size: tuple[int, int], *, pads: bool) -> LoadedData:
    if splits.tune is None:
        fit, tune = cut_tune(splits.train.labels, splits.classes)
        train, tuned = splits.train.subset(fit), splits.train.subset(tune)
    else:
        class_sizes(splits.train.labels, splits.classes, least=1)
        train, tuned = splits.train, splits.tune
    parts: dict[Split, ArrayData | FileData] = {"fit": train, "tune": tuned, "test": splits.test}
    sources = {split: _source(data, img_size, pads=pads) for split, data in parts.items()}
    mean, std = channel_statistics(sources["fit"], len(parts["fit"]))
    ref = DataRef(
        name=name,
        # A margin and an interpolation make other pixels of the same samples.
        fingerprint=digest(splits.fingerprint, "margin")[:16] if pads else splits.fingerprint,
        num_classes=len(splits.classes),
        channels=sources["fit"].channels,
        img_size=img_size,
        **{split: len(data) for split, data in parts.items()},
    )
    labels = {split: torch.from_numpy(data.labels) for split, data in parts.items()}
    return LoadedData(
        ref=ref,
        classes=splits.classes,
        sources=sources,
        labels=labels,
        mean=mean,
        std=std,
        notes=splits.notes,
        covers=splits.train.covers,
        shown=Resizing(train.crop if isinstance(train, ArrayData) else CROP, pads, INTERPOLATION),
    )


def _source(data: ArrayData | FileData, img_size: tuple[int, int], *, pads: bool) -> ImageSource:
    if isinstance(data, ArrayData):
        return ArraySource(data.images, img_size, pads=pads)
    return FileSource(data.samples, img_size)
