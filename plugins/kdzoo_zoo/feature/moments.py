"""Means and standard deviations of maps, whole or cell by cell, made in few passes over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdzoo_zoo.tensors import full_precision


class _Moments(torch.autograd.Function):
    """Mean and unbiased variance over the last dimension; a single value has the variance 0.

    Autograd's way takes more passes over the map than the gradient has terms; here it is one product and one sum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(dim=-1, keepdim=True)
        centred = x - mean
        variance = torch.linalg.vecdot(centred, centred) / max(x.shape[-1] - 1, 1)
        ctx.save_for_backward(x, mean)
        return mean.squeeze(-1), variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        of_mean, of_variance = (gradient.unsqueeze(-1) for gradient in gradients)
        count = x.shape[-1]
        slope: Tensor = (x - mean).mul_(of_variance * (2 / max(count - 1, 1))).add_(of_mean / count)
        return slope


def means_and_deviations(feature_map: Tensor, eps: float, grid: int) -> tuple[Tensor, Tensor]:
    """Mean, and sqrt(unbiased variance + eps), of each channel in each cell of a grid x grid partition.

    Args:
        feature_map: B x C x H x W, any memory format.
        eps: added to the variance, which is 0 in a cell of one position.
        grid: cells a side; where it does not divide a side, cells overlap as in adaptive pooling.

    Returns:
        Two tensors, B x C x cells, in at least float32. Gradients of gradients are refused.
    """
    wide = full_precision(feature_map)
    with torch.autocast(wide.device.type, enabled=False):
        parts = [_Moments.apply(cell) for cell in _cells(wide, grid)]
        means, variances = (torch.cat([part[place] for part in parts], dim=2) for place in range(2))
        return means, (variances + eps).sqrt()


def _cells(x: Tensor, grid: int) -> list[Tensor]:
    """The cells, B x C x cells x positions: all at once where they are of one size, else one by one."""
    height, width = x.shape[-2:]
    if height % grid == 0 and width % grid == 0:
        split = x.reshape(*x.shape[:2], grid, height // grid, grid, width // grid)
        return [split.transpose(3, 4).flatten(4).flatten(2, 3)]
    rows, columns = _spans(height, grid), _spans(width, grid)
    return [x[:, :, top:bottom, left:right].flatten(2)[:, :, None] for top, bottom in rows for left, right in columns]


def _spans(size: int, grid: int) -> list[tuple[int, int]]:
    return [(place * size // grid, -(-(place + 1) * size // grid)) for place in range(grid)]
