"""Inner products of the rows of a matrix with each other, with the gradient of a symmetric product."""

from __future__ import annotations

from typing import Any

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

    A row of zeros has cosines of 0, and no gradient: its derivative is 1 over the epsilon, by which a single dead
    sample would ruin a training.

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
    """With G = X X', the length n_i = sqrt(G_ii) and r_i = 1 / (max(n_i, least) + added), a cosine is G_ij r_i r_j.

    With e = d + d' the gradient by row i is sum_j e_ij r_i r_j x_j - (sum_j e_ij cos_ij) r_i / n_i x_i, where the
    second part is left out for lengths below the least. Both are one product of an N x N matrix with the rows.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, least: float, added: float) -> Tensor:
        found, length, inverse = _cosines(rows, least, added)
        ctx.save_for_backward(rows, found, length, inverse)
        ctx.settings = least, added
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, found, length, inverse = ctx.saved_tensors
        least, added = ctx.settings
        if torch.is_grad_enabled():  # with create_graph, what follows is differentiated again
            found, length, inverse = _cosines(rows, least, added)
        both = gradient + gradient.T
        along = (both * found).sum(dim=1) * inverse / length.clamp(min=least)
        factor = both * inverse * inverse[:, None] - (along * (length > least)).diag()
        with torch.autocast(rows.device.type, enabled=False):
            return factor @ rows, None, None


def _cosines(rows: Tensor, least: float, added: float) -> tuple[Tensor, Tensor, Tensor]:
    """The cosines, the lengths, and 1 over what these are divided by, 0 where a row is zero."""
    with torch.autocast(rows.device.type, enabled=False):
        products = rows @ rows.T
    length = products.diagonal().sqrt()
    inverse = (length.clamp(min=least) + added).reciprocal() * (length != 0)
    return products * inverse * inverse[:, None], length, inverse


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
