"""What the losses share: the precision they compute in, and maps brought to one size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import StageShape


def full_precision(x: Tensor) -> Tensor:
    """The tensor in at least float32: half precisions are converted, float32 and float64 stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def to_common_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps (B x C x H x W, any C) at the smaller height and the smaller width of the two.

    A larger map is average-pooled, adaptively where the sizes do not divide. Where one map is the higher and the other
    the wider, both are pooled.
    """
    size = smaller_size(first, second)
    return pool_to(first, size), pool_to(second, size)


def smaller_size(first: Tensor, second: Tensor) -> tuple[int, int]:
    """The smaller height and the smaller width of two maps."""
    return min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1])


def common_size(first: StageShape, second: StageShape) -> tuple[int, int]:
    """:func:`smaller_size` of maps of these shapes."""
    return min(first.height, second.height), min(first.width, second.width)


def pool_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The map, B x C x H x W, average-pooled to a height and width; as it is where it has them."""
    height, width = x.shape[-2:]
    if (height, width) == size:
        return x
    if size == (1, 1) or height % size[0] or width % size[1]:
        return F.adaptive_avg_pool2d(x, size)
    return F.avg_pool2d(x, (height // size[0], width // size[1]))  # the same, faster


def mean_square(x: Tensor) -> Tensor:
    """The mean of the squares of all elements, with a single temporary of its size in the backward pass."""
    return F.mse_loss(x, x.new_zeros(1).expand_as(x))


def in_memory_order(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps (B x C x H x W) with their channels last where those of the first lie so in memory, else as they are.

    Autograd gives the gradient of a mean over all elements in the order of its dimensions. For a map in the memory
    format ``channels_last`` that is the other order, and the backward passes of convolution and normalisation, which
    come next, take several times as long with it.
    """
    if first.is_contiguous() or not first.is_contiguous(memory_format=torch.channels_last):
        return first, second
    return first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)


def check_same(
    what: str,
    first: Tensor,
    second: Tensor,
    dims: slice = slice(None),
    *,
    of: tuple[str, str] = ("student", "teacher"),
) -> None:
    """Refuse shapes that would broadcast to a wrong value in silence.

    Args:
        what: what is compared, for the message.
        first: a tensor, mostly the student's.
        second: another, mostly the teacher's.
        dims: the dimensions that must be equal; by default all.
        of: whose the two are, for the message.

    Raises:
        ValueError: the shapes differ in one of the dimensions, or in their number.
    """
    if first.ndim != second.ndim or first.shape[dims] != second.shape[dims]:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"the {what} of {of[0]} and {of[1]} do not fit each other: {shapes}")
