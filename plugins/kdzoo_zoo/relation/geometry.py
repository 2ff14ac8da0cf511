"""Distances and inner products between the samples of a batch, precise where samples nearly coincide."""

from __future__ import annotations

from typing import NamedTuple

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
    dtype = precision(embedding.device)
    with torch.autocast(embedding.device.type, enabled=False):
        centred = embedding.to(dtype)
        centred = centred - centred.mean(dim=0, keepdim=True)
        gram = centred @ centred.T
    norms = gram.diagonal()
    scale = norms[:, None] + norms[None, :]
    squared = scale - 2 * gram
    # The comparison is false for NaN, so that a broken embedding stays visible in the loss.
    coincident = squared <= 100 * torch.finfo(dtype).eps * scale
    return Geometry(gram, squared.masked_fill(coincident, 0.0))


def precision(device: torch.device) -> torch.dtype:
    """The widest floating-point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64
