"""Inner products of the rows of a matrix with each other, with the gradient of a symmetric product."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


def gram(rows: Tensor) -> Tensor:
    """G = X X', the inner products of all pairs of rows.

    Autograd takes two products for the gradient, because it does not see that both factors are the same; here it is one
    product, (d + d') X. There is a second derivative.

    Args:
        rows: ... x N x D, in float32 or float64; autocast does not lower it.

    Returns:
        ... x N x N.

    Example:
        >>> gram(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        tensor([[5., 6.],
                [6., 9.]])
    """
    product: Tensor = _Gram.apply(rows)
    return product


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ rows.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        with torch.autocast(rows.device.type, enabled=False):
            by_rows: Tensor = (gradient + gradient.mT) @ rows
        return by_rows


def cosines(rows: Tensor, *, least: float = 1e-12, added: float = 0.0) -> Tensor:
    """The cosines of all pairs of rows: U U', with u_i = x_i / (max(||x_i||, least) + added).

    A row of zeros has cosines of 0. Rows that are not longer than the least length have no gradient: it would be 1 over
    the epsilon, by which a single dead sample would ruin a training.

    Args:
        rows: N x D, in float32 or float64; autocast does not lower it.
        least: the least length.
        added: to each length.

    Returns:
        N x N.

    Example:
        >>> cosines(torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]))
        tensor([[1.0000, 0.8000, 0.0000],
                [0.8000, 1.0000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    found: Tensor = _Cosines.apply(rows, least, added)
    return found


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, least: float, added: float) -> Tensor:
        found = Cosines.of(rows, least=least, added=added)
        ctx.save_for_backward(rows, *found)
        ctx.settings = {"least": least, "added": added}
        return found.cosines

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, *saved = ctx.saved_tensors
        # With create_graph, what follows is differentiated again.
        found = Cosines.of(rows, **ctx.settings) if torch.is_grad_enabled() else Cosines(*saved)
        return found.by_rows(gradient, ctx.settings["least"]), None, None


class Cosines(NamedTuple):
    """:func:`cosines` for a function that knows its gradient by them, outside of autograd.

    Attributes:
        length: N x 1, of the rows.
        divisor: N x 1, what the rows are divided by.
        unit: N x D, the rows divided by that.
        cosines: N x N.
    """

    length: Tensor
    divisor: Tensor
    unit: Tensor
    cosines: Tensor

    @classmethod
    def of(cls, rows: Tensor, *, least: float = 1e-12, added: float = 0.0) -> Cosines:
        """Of the rows, N x D."""
        length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        divisor = length.clamp(min=least)
        if added:
            divisor = divisor + added
        unit = rows / divisor
        with torch.autocast(rows.device.type, enabled=False):
            return cls(length, divisor, unit, unit @ unit.T)

    def by_rows(self, gradient: Tensor, least: float = 1e-12) -> Tensor:
        """The gradient by the rows, N x D, from that by the cosines, d.

        With m the divisor and e = d + d', that by row i is 1 / m_i times row i of (e - diag(sum_j e_ij cos_ij m_i /
        ||x_i||)) U: one product of an N x N matrix with the rows.
        """
        both = gradient + gradient.T
        along = (both * self.cosines).sum(dim=1, keepdim=True) * self.divisor / self.length.clamp(min=least)
        factor = (both - along.flatten().diag()) * ((self.length > least) / self.divisor)
        with torch.autocast(gradient.device.type, enabled=False):
            return factor @ self.unit


def squared_distances(rows: Tensor) -> Tensor:
    """The squared Euclidean distances of all pairs of rows, from inner products.

    A distance is a difference of nearly equal numbers where rows lie close together compared with their length. So the
    rows' mean is subtracted first, and what is left within rounding of 0 is exactly 0.

    Args:
        rows: N x D, in float32 or float64.

    Returns:
        N x N, at least 0, with zeros on the diagonal and between rows that coincide.

    Example:
        >>> squared_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[ 0., 25.],
                [25.,  0.]])
    """
    squared: Tensor = _SquaredDistances.apply(rows)
    return squared


class _SquaredDistances(torch.autograd.Function):
    """With the gradient d by the distances and e = d + d', the gradient by row i is 2 sum_j e_ij (x_i - x_j)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        with torch.autocast(rows.device.type, enabled=False):
            centred = rows - rows.mean(dim=0)
            products = centred @ centred.mT
        norms = products.diagonal()
        scale = norms[:, None] + norms
        squared = scale - 2 * products
        # The comparison is false for NaN, so that broken rows stay visible in the loss.
        return squared.masked_fill_(squared <= 10 * torch.finfo(rows.dtype).eps * scale, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        both = gradient + gradient.mT
        with torch.autocast(rows.device.type, enabled=False):
            # Each row of the factor sums to 0, so that the mean of the rows has no part in the product; subtracted, it
            # costs no digits either.
            by_rows: Tensor = (both.sum(dim=1).diag() - both) @ (rows - rows.mean(dim=0)) * 2
        return by_rows
