"""Samples of other classes, drawn at random, without a list of them for each class."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 64
"""How often the draws that met the own class are drawn anew; what is left after them stays."""


def draw_negatives(labels: Tensor, index: Tensor, count: int) -> Tensor:
    """For each sample of a batch, samples of other classes, each drawn uniformly and independently.

    Numbers are drawn from the whole set, and those of the own class are drawn again. So nothing is needed but the
    labels, and the time does not depend on how many samples the set has. The samples themselves are of their own class.

    Args:
        labels: N, the label of each sample of the set; below 0 where it is not known yet, which counts as another
            class.
        index: B, int64, the batch's samples, whose labels are known.
        count: K.

    Returns:
        B x K, int64, from 0 to N - 1. Where a set has no sample of another class, they are of the own.
    """
    drawn = torch.randint(len(labels), (len(index), count), device=index.device)
    own = labels[index]
    rows, columns = (labels[drawn] == own[:, None]).nonzero(as_tuple=True)
    for _ in range(ROUNDS):
        if not len(rows):
            break
        again = torch.randint(len(labels), rows.shape, device=index.device)
        drawn[rows, columns] = again
        met = labels[again] == own[rows]
        rows, columns = rows[met], columns[met]
    return drawn
