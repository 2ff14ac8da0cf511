"""From samples to batches of views: what a source of images does, and the one that holds them in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kdzoo.data.augment import augment, refuse_auto, to_float
from kdzoo.data.dataset import Images
from kdzoo.recipe import Augment

RESIDENT_BYTES = 2 * 2**30
"""A larger array is not resized ahead of time and stays out of the accelerator's memory."""
CHUNK_PIXELS = 2**19
"""Batches in memory are made several at a time, up to this many values: small ones are bound by call overhead."""


class Request(NamedTuple):
    """The samples of one batch: ``ids`` (places in the split) and ``views`` (numbers), B int64 each."""

    ids: NDArray[np.int64]
    views: NDArray[np.int64]


@dataclass(frozen=True)
class Resizing:
    """How the originals become the images that networks see, where nothing is augmented.

    Args:
        crop: share of their height and width, around the middle, that is kept.
        margin: whether smaller ones reach the size by a centred margin of zeros; else all are interpolated.
        interpolation: by which they are.
    """

    crop: float
    margin: bool
    interpolation: str


class ImageSource(ABC):
    """The images of one split."""

    channels: int

    @abstractmethod
    def check(self, spec: Augment) -> None:
        """Raise UsageError if these images cannot be augmented so."""

    @abstractmethod
    def batches(
        self, requests: Iterable[Request], spec: Augment | None, fill: tuple[float, ...], device: torch.device
    ) -> Iterator[Tensor]:
        """One B x C x H x W float32 batch in [0, 1] for each request.

        Args:
            requests: which samples, in which views.
            spec: how views are made; None for the images as they are.
            fill: C values that erased rectangles get.
            device: where the batches shall be.
        """


class ArraySource(ImageSource):
    """Images in memory, augmented in batches on the device.

    Args:
        images: N x C x H x W, uint8.
        img_size: the height and width to which they are brought.
        pads: by a centred margin of zeros rather than by interpolation.
    """

    def __init__(self, images: Images, img_size: tuple[int, int], *, pads: bool = False) -> None:
        self.channels = images.shape[1]
        self._img_size, self._pads = img_size, pads
        self._images = torch.from_numpy(np.require(images, requirements=["C", "W"]))
        if len(images) * self.channels * img_size[0] * img_size[1] <= RESIDENT_BYTES:
            step = max(1, CHUNK_PIXELS // (self.channels * img_size[0] * img_size[1]))
            self._images = torch.cat([self._sized(part) for part in torch.split(self._images, step)])
        self._on_device: dict[torch.device, Tensor] = {}

    def check(self, spec: Augment) -> None:
        """See :meth:`ImageSource.check`."""
        refuse_auto(spec)

    def take(self, ids: Tensor, device: torch.device) -> Tensor:
        """The images at ``ids``: B x C x H x W, uint8, on the device."""
        images = self._images
        if device.type != "cpu" and images.nbytes <= RESIDENT_BYTES:
            if device not in self._on_device:
                self._on_device[device] = images.to(device)
            images = self._on_device[device]
        return self._sized(images[ids.to(images.device)].to(device))

    def batches(
        self, requests: Iterable[Request], spec: Augment | None, fill: tuple[float, ...], device: torch.device
    ) -> Iterator[Tensor]:
        """See :meth:`ImageSource.batches`; several small batches are made at a time."""
        colour = torch.tensor(fill, device=device)
        for group in self._grouped(requests):
            ids = torch.from_numpy(np.concatenate([request.ids for request in group])).to(device)
            views = torch.from_numpy(np.concatenate([request.views for request in group])).to(device)
            images = self.take(ids, device)
            made = to_float(images) if spec is None else augment(images, ids, views, spec, colour)
            yield from torch.split(made, [len(request.ids) for request in group])

    def _grouped(self, requests: Iterable[Request]) -> Iterator[list[Request]]:
        most = CHUNK_PIXELS // (self.channels * self._img_size[0] * self._img_size[1])
        group: list[Request] = []
        for request in requests:
            if group and sum(len(other.ids) for other in group) + len(request.ids) > most:
                yield group
                group = []
            group.append(request)
        if group:
            yield group

    def _sized(self, images: Tensor) -> Tensor:
        return resize(images, self._img_size, pads=self._pads)


def resize(images: Tensor, size: tuple[int, int], *, pads: bool) -> Tensor:
    """Bring N x C x H x W uint8 images to a height and width.

    With ``pads``, by a centred margin of zeros; else by antialiased bilinear interpolation, rounded to uint8.
    """
    height, width = images.shape[2:]
    if (height, width) == size:
        return images
    if pads:
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        return F.pad(images, (left, size[1] - width - left, top, size[0] - height - top))
    scaled = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def channel_statistics(source: ImageSource, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all samples, in the scale from 0 to 1; ImageNet's for files.

    Args:
        source: of the images.
        count: of its samples.
    """
    if not isinstance(source, ArraySource):
        from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    # Counts of the 256 values are exact, whatever the order of summation.
    values = torch.zeros(source.channels, 256, dtype=torch.float64)
    for ids in torch.split(torch.arange(count), 1024):
        channels = source.take(ids, torch.device("cpu")).transpose(0, 1).flatten(1)
        values += torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    scale = torch.arange(256, dtype=torch.float64) / 255
    share = values / values.sum(dim=1, keepdim=True)
    mean = (share * scale).sum(dim=1)
    variance = (share * (scale - mean[:, None]) ** 2).sum(dim=1)
    # One grey level: a channel without variance must not be divided by zero.
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp(min=1 / 255).tolist())
