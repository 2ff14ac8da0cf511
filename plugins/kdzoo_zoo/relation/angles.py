"""The sum over all triplets of a batch, in the memory of pairs: its gradient is known, so no cosine is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**17
"""Triplets that are held at a time, in up to three arrays of 1 MiB in float64. Fewer take more and shorter calls; more
gain little."""


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
        batch = len(gram_s)
        total = gram_s.new_zeros(())
        step = max(1, CHUNK_ELEMENTS // batch**2)
        # Devices without float64 come here in float32, which autocast would round further.
        with torch.autocast(gram_s.device.type, enabled=False):
            student, teacher = _Triplets(gram_s, inverse_s), _Triplets(gram_t, inverse_t)
            for start in range(0, batch, step):
                anchors = slice(start, start + step)
                gap, other = student.cosines(anchors), teacher.cosines(anchors)
                gap -= other
                slope = torch.clamp(gap, -1.0, 1.0, out=other)
                total += gap.sub_(slope, alpha=0.5).flatten().dot(slope.flatten())
                for network, want, sign in zip((student, teacher), wanted, (1.0, -1.0), strict=True):
                    if want:
                        network.add_gradient(slope, anchors, sign, room=gap)
        networks = (network for network, want in zip((student, teacher), wanted, strict=True) if want)
        ctx.save_for_backward(*(each for network in networks for each in (network.by_gram, network.by_inverse)))
        ctx.wanted = wanted
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass found."""
        if torch.is_grad_enabled():  # as it is with create_graph; what was found is a constant to autograd
            raise RuntimeError("the angle loss of rkd has no second derivative: differentiate it without create_graph")
        saved = iter(ctx.saved_tensors)
        return tuple(gradient * next(saved) if want else None for want in ctx.wanted for _ in range(2))


class _Triplets:
    """The cosines of one network, for some anchors i at a time, and the gradient that they have.

    With x_ij = G_ij - G_ii, the cosine is r_ij r_ik G_jk less a matrix of rank 2 for each i, so that it takes two
    products of all triplets and a thin matrix product::

        cos_ijk = r_ij r_ik G_jk - (r_ij x_ij) r_ik - r_ij (r_ik G_ik)

    Args:
        gram: B x B, the Gram matrix G.
        inverse: B x B, the reciprocals r.
    """

    def __init__(self, gram: Tensor, inverse: Tensor) -> None:
        self.gram, self.inverse = gram, inverse
        self.by_gram, self.by_inverse = torch.zeros_like(gram), torch.zeros_like(inverse)
        self._apart = gram - gram.diagonal()[:, None]
        self._left = torch.stack([-inverse * self._apart, -inverse], dim=2)
        self._right = torch.stack([inverse, inverse * gram], dim=1)

    def cosines(self, anchors: slice) -> Tensor:
        """Anchors x B x B."""
        inverse = self.inverse[anchors]
        product = (self.gram * inverse[:, :, None]).mul_(inverse[:, None, :])
        return product.baddbmm_(self._left[anchors], self._right[anchors])

    def add_gradient(self, slope: Tensor, anchors: slice, sign: float, room: Tensor) -> None:
        """Add the part of some anchors to the gradients.

        Args:
            slope: anchors x B x B, the e of :class:`AngleSum`.
            anchors: which.
            sign: of the network's cosines in the difference.
            room: like ``slope``, to be overwritten.
        """
        inverse = self.inverse[anchors]
        # By k: sum of e r_ik, and sum of e r_ik G_ik.
        once, weighted = torch.bmm(slope, self._right[anchors].mT).unbind(dim=2)
        halves = torch.mul(slope, inverse[:, None, :], out=room)
        products = (halves * self.gram).sum(dim=2)
        self.by_inverse[anchors] = 2 * sign * (products - self._apart[anchors] * once - weighted)
        self.by_gram.add_(halves.mul_(inverse[:, :, None]).sum(dim=0), alpha=sign)
        rows = inverse * once
        self.by_gram[anchors].sub_(rows, alpha=2 * sign)
        self.by_gram.diagonal()[anchors].add_(rows.sum(dim=1), alpha=sign)
