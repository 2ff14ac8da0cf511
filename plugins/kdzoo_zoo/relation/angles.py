"""The sum over all triplets of a batch, in the memory of pairs: its gradient is known, so no cosine is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**16
"""Cosines that are held at a time, of each network and of their difference: 512 KiB in float64, so that a cache holds
them; larger ones are slower."""


class AngleSum(torch.autograd.Function):
    """The smooth L1 difference of two networks' cosines, summed over all triplets.

    With a network's Gram matrix G and the reciprocals r of its distances (0 where two samples coincide)::

        p_ijk = G_jk - G_ij - G_ik + G_ii          inner products of the vectors from i to j and to k
        cos_ijk = p_ijk r_ij r_ik
        sum over i, j, k of smooth_l1(cos_ijk of the student, cos_ijk of the teacher)

    The derivative of the smooth L1 loss by the student's cosine is e = clip(difference, -1, 1), by the teacher's -e,
    and the loss itself is e (difference - e / 2). Both are symmetric in j and k, so that by the chain rule::

        d / d r_ij = 2 sum_k e_ijk p_ijk r_ik
        d / d p_ijk = e_ijk r_ij r_ik = q_ijk
        d / d G_jk += sum_i q_ijk;  d / d G_ij -= 2 sum_k q_ijk;  d / d G_ii += sum_jk q_ijk

    These sums are taken in the forward pass, a few anchors i at a time: four B x B matrices are all that the backward
    pass needs. There is no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, gram_s: Tensor, inverse_s: Tensor, gram_t: Tensor, inverse_t: Tensor) -> Tensor:
        """All B x B, of one type; gives a scalar."""
        wanted = [any(ctx.needs_input_grad[:2]), any(ctx.needs_input_grad[2:])]
        networks = [(gram_s, inverse_s), (gram_t, inverse_t)]
        gradients = [
            [torch.zeros_like(each) for each in pair] if want else []
            for pair, want in zip(networks, wanted, strict=True)
        ]
        batch = len(gram_s)
        total = gram_s.new_zeros(())
        step = max(1, CHUNK_ELEMENTS // batch**2)
        # Devices without float64 come here in float32, which autocast would round further.
        with torch.autocast(gram_s.device.type, enabled=False):
            for start in range(0, batch, step):
                anchors = slice(start, start + step)
                products = [_products(gram, anchors) for gram, _ in networks]
                gap = _cosines(products[0], inverse_s[anchors])
                gap -= _cosines(products[1], inverse_t[anchors])
                slope = gap.clamp(-1.0, 1.0)
                total += (gap.sub_(slope, alpha=0.5)).flatten().dot(slope.flatten())
                for (_, inverse), product, sums, sign in zip(networks, products, gradients, (1.0, -1.0), strict=True):
                    if sums:
                        _add_gradients(sums[0], sums[1], slope, product, inverse[anchors], anchors, sign)
        ctx.save_for_backward(*(each for sums in gradients for each in sums))
        ctx.wanted = wanted
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass found."""
        if torch.is_grad_enabled():  # as it is with create_graph; what was found is a constant to autograd
            raise RuntimeError("the angle loss of rkd has no second derivative: differentiate it without create_graph")
        saved = iter(ctx.saved_tensors)
        return tuple(gradient * next(saved) if want else None for want in ctx.wanted for _ in range(2))


def _products(gram: Tensor, anchors: slice) -> Tensor:
    row = gram[anchors]
    corner = gram.diagonal()[anchors]
    products = gram - row[:, :, None]
    products -= (row - corner[:, None])[:, None, :]
    return products


def _cosines(products: Tensor, inverse: Tensor) -> Tensor:
    return (products * inverse[:, :, None]).mul_(inverse[:, None, :])


def _add_gradients(
    gram: Tensor, inverse: Tensor, slope: Tensor, products: Tensor, own: Tensor, anchors: slice, sign: float
) -> None:
    """Add a chunk's part to the gradients; ``products`` is used up."""
    products *= slope
    inverse[anchors] += 2 * sign * torch.bmm(products, own[:, :, None]).squeeze(2)
    inner = torch.mul(slope, own[:, :, None], out=products).mul_(own[:, None, :])
    rows = inner.sum(dim=2)
    gram.add_(inner.sum(dim=0), alpha=sign)
    gram[anchors].sub_(rows, alpha=2 * sign)
    gram.diagonal()[anchors].add_(rows.sum(dim=1), alpha=sign)
