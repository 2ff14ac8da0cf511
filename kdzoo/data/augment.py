"""Views of samples: batch augmentation whose random choices are hashes of (view number, sample id).

A view is the same whatever the order and size of the batch, the number of workers or the device's random state, bit
for bit on one kind of device. Random sizes and angles are drawn from small tables that are computed once, because
vectorised exp, sin and cos may round the last elements of a tensor otherwise than the first.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from kdzoo.data.hashing import GOLDEN, mix
from kdzoo.errors import UsageError
from kdzoo.recipe import Augment

ASPECT = (3 / 4, 4 / 3)
"""Width over height of random resized crops, log-uniform (Szegedy et al. 2015, as torchvision and timm have it)."""
ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
"""Share of the image and height over width of an erased rectangle (Zhong et al. 2020, as timm has them)."""
_TABLE = 4096


class _Draw(IntEnum):
    """One random number of a view. New ones go to the end, so that the others keep their values."""

    TOP = 0
    LEFT = 1
    FLIP = 2
    ANGLE = 3
    AREA = 4
    ASPECT = 5
    X = 6
    Y = 7
    ERASE = 8
    ERASE_AREA = 9
    ERASE_ASPECT = 10
    ERASE_TOP = 11
    ERASE_LEFT = 12


def augment(images: Tensor, ids: Tensor, view: int | Tensor, spec: Augment, fill: Tensor | None = None) -> Tensor:
    """One view of each image.

    In this order: rotation (zeros outside) and random resized crop in one bilinear resampling, crop after zero
    padding, flip, erasing.

    Args:
        images: B x C x H x W, uint8.
        ids: B, int64, what tells the samples apart.
        view: the view's number, or B numbers.
        spec: what is done; ``spec.auto`` must be empty.
        fill: C values in [0, 1] that erased rectangles get; zeros by default.

    Returns:
        B x C x H x W, float32 in [0, 1], not normalised, on the images' device.

    Raises:
        UsageError: ``spec.auto`` is set.
    """
    refuse_auto(spec)
    draws = _Draws(ids, view)
    if spec.rotate or spec.resized_crop:
        images = _resample(to_float(images), draws, spec)
    if spec.crop or spec.flip:
        images = _crop_and_flip(images, draws, spec)
    result = to_float(images)
    return _erase(result, draws, spec.erase, fill) if spec.erase else result


def refuse_auto(spec: Augment) -> None:
    """Raise UsageError if ``spec.auto`` is set: timm's policies work on images read from files."""
    if spec.auto:
        raise UsageError(
            f"augment.auto={spec.auto} works on datasets read from files (folder:, hfds/), "
            "not on images held in memory: set augment.auto to an empty text"
        )


def to_float(images: Tensor) -> Tensor:
    """Uint8 images as float32 in [0, 1]; float images as they are."""
    return images if images.is_floating_point() else images.float().div_(255)


class _Draws:
    """The random numbers of a batch's views: B of each kind."""

    def __init__(self, ids: Tensor, view: int | Tensor) -> None:
        views = torch.as_tensor(view, dtype=torch.int64, device=ids.device)
        keys = mix(ids + mix((views + 1) * GOLDEN))
        kinds = torch.arange(1, len(_Draw) + 1, device=ids.device)
        self.bits = mix(keys + kinds[:, None] * GOLDEN)  # kinds x B

    def integer(self, draw: _Draw, below: int | Tensor) -> Tensor:
        """Whole numbers from 0 to below - 1."""
        return ((self.bits[draw] >> 32) & 0x7FFFFFFF) % below

    def unit(self, draw: _Draw) -> Tensor:
        """Float32 in [0, 1), multiples of 2^-24."""
        return ((self.bits[draw] >> 40) & 0xFFFFFF).float() * 2**-24

    def entry(self, draw: _Draw, table: Tensor) -> Tensor:
        """Entries of a table of _TABLE values."""
        return table[self.integer(draw, _TABLE)]


def _crop_and_flip(images: Tensor, draws: _Draws, spec: Augment) -> Tensor:
    _, channels, height, width = images.shape
    pad = spec.crop
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    rows = rows + draws.integer(_Draw.TOP, 2 * pad + 1)[:, None]
    if spec.flip:
        columns = torch.where(draws.integer(_Draw.FLIP, 2)[:, None] == 1, width - 1 - columns, columns)
    columns = columns + draws.integer(_Draw.LEFT, 2 * pad + 1)[:, None]
    places = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]  # B x H x W in the padded image
    padded = F.pad(images, (pad, pad, pad, pad)).flatten(2)
    return padded.gather(2, places.flatten(1)[:, None].expand(-1, channels, -1)).view(images.shape)


def _resample(images: Tensor, draws: _Draws, spec: Augment) -> Tensor:
    batch, _, height, width = images.shape
    # x and y run from -1 to 1 over the output; each line maps them one step further back to the input.
    x = _centres(width, images.device)[None, None, :]
    y = _centres(height, images.device)[None, :, None]
    if spec.resized_crop:
        area = spec.resized_crop + (1 - spec.resized_crop) * draws.unit(_Draw.AREA)
        aspect = draws.entry(_Draw.ASPECT, _log_uniform(*ASPECT, images.device))
        wide = (area * aspect * (height / width)).sqrt().clamp(max=1)[:, None, None]
        high = (area / aspect * (width / height)).sqrt().clamp(max=1)[:, None, None]
        x = x * wide + (2 * draws.unit(_Draw.X)[:, None, None] - 1) * (1 - wide)
        y = y * high + (2 * draws.unit(_Draw.Y)[:, None, None] - 1) * (1 - high)
        # Beyond the outermost pixel centres the border repeats; only a rotation brings in zeros.
        x = x.clamp(1 / width - 1, 1 - 1 / width)
        y = y.clamp(1 / height - 1, 1 - 1 / height)
    if spec.rotate:
        cosines, sines = _rotations(spec.rotate, images.device)
        cosine = draws.entry(_Draw.ANGLE, cosines)[:, None, None]
        sine = draws.entry(_Draw.ANGLE, sines)[:, None, None]
        x, y = cosine * x - sine * y * (height / width), sine * x * (width / height) + cosine * y
    grid = torch.stack([x.expand(batch, height, width), y.expand(batch, height, width)], dim=-1)
    # The four weights may sum to slightly more than 1.
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp_(0, 1)


def _erase(images: Tensor, draws: _Draws, probability: float, fill: Tensor | None) -> Tensor:
    _, channels, height, width = images.shape
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * draws.unit(_Draw.ERASE_AREA)
    aspect = draws.entry(_Draw.ERASE_ASPECT, _log_uniform(*ERASED_ASPECT, images.device))
    high = (area * aspect * (height * width)).sqrt().round().clamp(1, height).long()
    wide = (area / aspect * (height * width)).sqrt().round().clamp(1, width).long()
    inside_rows = _within(draws.integer(_Draw.ERASE_TOP, height + 1 - high), high, height)
    inside_columns = _within(draws.integer(_Draw.ERASE_LEFT, width + 1 - wide), wide, width)
    erased = inside_rows[:, :, None] & inside_columns[:, None, :]
    erased &= (draws.unit(_Draw.ERASE) < probability)[:, None, None]
    colour = images.new_zeros(channels) if fill is None else fill.to(images)
    return torch.where(erased[:, None], colour[:, None, None], images)


def _within(start: Tensor, length: Tensor, size: int) -> Tensor:
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])


def _centres(size: int, device: torch.device) -> Tensor:
    return (torch.arange(size, device=device) * 2 + 1).float() / size - 1


@lru_cache(maxsize=64)
def _log_uniform(low: float, high: float, device: torch.device) -> Tensor:
    return torch.tensor([low * (high / low) ** ((i + 0.5) / _TABLE) for i in range(_TABLE)], device=device)


@lru_cache(maxsize=64)
def _rotations(degrees: float, device: torch.device) -> tuple[Tensor, Tensor]:
    angles = [math.radians(degrees) * (2 * (i + 0.5) / _TABLE - 1) for i in range(_TABLE)]
    cosines, sines = [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]
    return torch.tensor(cosines, device=device), torch.tensor(sines, device=device)
