"""Distances and inner products between the samples of a batch, precise where samples nearly coincide."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Geometry(NamedTuple):
    """How the samples of a batch lie to each other.

    Attributes:
        gram: B x B, inner products of the centred embeddings.
        squared: B x B, squared Euclidean distances; exactly 0 on the diagonal and between coincident samples.
    """

    gram: Tensor
    squared: Tensor


def geometry(embedding: Tensor) -> Geometry:
    """The relations of a batch from its B x D embeddings, in B x B memory.

    A squared distance is ``gram_ii + gram_jj - 2 gram_ij``, a difference of nearly equal numbers where samples are
    close. It is therefore computed on centred embeddings and in float64 (float32 on devices that have no float64),
    whatever the embedding's own precision and autocast say. What is left within rounding of 0 counts as coincident and
    carries no gradient, as the direction between two coincident samples is not defined.
    """
    return Geometry(*_Relations.apply(embedding))


class _Relations(torch.autograd.Function):
    """G = C C', where C is the embedding less its mean, and d_ij = G_ii + G_jj - 2 G_ij.

    With g and h the gradients by them and e = h + h', that by C is (g + g' + 2 diag(sum_j e_ij) - 2 e) C: one matrix
    product, where autograd takes two, as it does not see that both factors of G are the same.
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor) -> tuple[Tensor, Tensor]:
        centred = _centred(embedding)
        with torch.autocast(embedding.device.type, enabled=False):
            gram = centred @ centred.T
        norms = gram.diagonal()
        scale = norms[:, None] + norms
        squared = torch.sub(scale, gram, alpha=2)
        # The comparison is false for NaN, so that a broken embedding stays visible in the loss.
        coincident = squared <= scale.mul_(100 * torch.finfo(gram.dtype).eps)
        ctx.save_for_backward(embedding, coincident)
        ctx.centred = centred
        ctx.set_materialize_grads(False)
        return gram, squared.masked_fill_(coincident, 0.0)

    @staticmethod
    def backward(ctx: Any, by_gram: Tensor | None, by_squared: Tensor | None) -> Tensor | None:
        embedding, coincident = ctx.saved_tensors
        # With create_graph, what follows is differentiated again.
        centred = _centred(embedding) if torch.is_grad_enabled() else ctx.centred
        factors = [] if by_gram is None else [by_gram + by_gram.T]
        if by_squared is not None:
            apart = by_squared.masked_fill(coincident, 0.0)
            both = apart + apart.T
            factors.append(2 * (both.sum(dim=1).diag() - both))
        if not factors:
            return None
        with torch.autocast(embedding.device.type, enabled=False):
            by_centred = sum(factors[1:], start=factors[0]) @ centred
        return by_centred.sub_(by_centred.mean(dim=0, keepdim=True)).to(embedding.dtype)


def _centred(embedding: Tensor) -> Tensor:
    wide = embedding.to(precision(embedding.device), copy=True)
    return wide.sub_(wide.mean(dim=0, keepdim=True))


def precision(device: torch.device) -> torch.dtype:
    """The widest floating-point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64
