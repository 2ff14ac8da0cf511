"""What the losses on relations share: samples as rows, and rows of length 1."""

from __future__ import annotations

import torch
from torch import Tensor

from kdzoo_zoo.tensors import full_precision


def as_rows(x: Tensor) -> Tensor:
    """B x ... to B x D in at least float32, for relations of the rows, which no order of the columns changes.

    A map that has its channels last in memory is flattened in that order: it needs no copy then, and its gradient comes
    in the same order, as the backward passes of the layers before it need.
    """
    x = full_precision(x)
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.flatten(1)


def unit_rows(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Each row divided by max(its length, eps); a row of zeros stays zero, and gets no gradient.

    The derivative at such a row is 1 / eps, by which a single dead sample would ruin a training.

    Args:
        x: B x D.
        eps: least length.
    """
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * (length.clamp(min=eps).reciprocal() * (length != 0))
