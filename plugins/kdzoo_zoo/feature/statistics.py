"""Statistics of a teacher over the training samples, for strategies that survey it before they train."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs
from kdzoo_zoo.relation.geometry import precision


def class_means(batches: Iterable[tuple[Outputs, Batch]], num_classes: int) -> Tensor:
    """The mean embedding of each class.

    Args:
        batches: what :meth:`kdzoo.Strategy.survey` gets, with embeddings.
        num_classes: of the dataset.

    Returns:
        classes x D, float64 (float32 on devices that have no float64), on the embeddings' device; zeros for a class
        without samples. Sums by a matrix product, which is the same in each run and hardly depends on the size of the
        batches.
    """
    total: Tensor | None = None
    count: Tensor | None = None
    for teacher, batch in batches:
        wide = precision(teacher.embedding.device)
        belongs = F.one_hot(batch.labels, num_classes).to(wide)
        sums, counts = belongs.T @ teacher.embedding.to(wide), belongs.sum(dim=0)
        total, count = (sums, counts) if total is None or count is None else (total + sums, count + counts)
    if total is None or count is None:
        raise ValueError("there are no samples")
    return total / count.clamp(min=1)[:, None]
