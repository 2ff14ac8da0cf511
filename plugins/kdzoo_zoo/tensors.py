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
    size = (min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1]))
    return pool_to(first, size), pool_to(second, size)


def common_size(first: StageShape, second: StageShape) -> tuple[int, int]:
    """The height and width to which :func:`to_common_size` brings maps of these shapes."""
    return min(first.height, second.height), min(first.width, second.width)


def pool_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The map, B x C x H x W, average-pooled to a height and width; as it is where it has them."""
    return x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, size)


def check_same(what: str, student: Tensor, teacher: Tensor, dims: slice = slice(None)) -> None:
    """Refuse shapes that would broadcast to a wrong value in silence.

    Args:
        what: the tensors' name for the message.
        student: the student's tensor.
        teacher: the teacher's tensor.
        dims: the dimensions that must be equal; by default all.

    Raises:
        ValueError: the shapes differ in one of the dimensions, or in their number.
    """
    if student.ndim != teacher.ndim or student.shape[dims] != teacher.shape[dims]:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"the {what} of student and teacher do not fit each other: {shapes}")
