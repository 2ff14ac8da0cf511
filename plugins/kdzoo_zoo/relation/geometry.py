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
    gram: Tensor = _CentredGram.apply(embedding)
    norms = gram.diagonal()
    scale = norms[:, None] + norms[None, :]
    squared = scale - 2 * gram
    # The comparison is false for NaN, so that a broken embedding stays visible in the loss.
    coincident = squared <= 100 * torch.finfo(gram.dtype).eps * scale
    return Geometry(gram, squared.masked_fill(coincident, 0.0))


class _CentredGram(torch.autograd.Function):
    """G = C C', where C is the embedding less its mean.

    The gradient is (d + d') C, one matrix product, where autograd takes two: it does not see that both factors are the
    same.
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor) -> Tensor:
        centred = _centred(embedding)
        ctx.save_for_backward(embedding)
        ctx.centred = centred
        with torch.autocast(embedding.device.type, enabled=False):
            return centred @ centred.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (embedding,) = ctx.saved_tensors
        # With create_graph, what follows is differentiated again.
        centred = _centred(embedding) if torch.is_grad_enabled() else ctx.centred
        with torch.autocast(embedding.device.type, enabled=False):
            by_centred = (gradient + gradient.T) @ centred
        return (by_centred - by_centred.mean(dim=0, keepdim=True)).to(embedding.dtype)


def _centred(embedding: Tensor) -> Tensor:
    wide = embedding.to(precision(embedding.device))
    return wide - wide.mean(dim=0, keepdim=True)


def precision(device: torch.device) -> torch.dtype:
    """The widest floating-point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64
